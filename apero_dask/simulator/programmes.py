"""What the built-in campaigns observe, night by night."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from apero_dask.simulator.ephemeris import Site, sidereal_deg
from apero_dask.simulator.schedule import EVENING_FLATS_H, MORNING_FLATS_H, Block, Stretch
from apero_dask.simulator.targets import (
    GAMSCT,
    GL699,
    GL729,
    PEG59,
    TOI442,
    ZETVIR,
    Orbit,
    Star,
    grid_star,
    sky_near,
)

HOT_STARS_H = 5.6
SCIENCE_H = 6.591700
"""UT at which hot stars and science targets of the fixed campaigns begin; the second is 6:35:30."""


@dataclass(frozen=True, slots=True)
class Programme:
    """A built-in campaign."""

    name: str
    summary: str
    nights: int
    """Number of nights when the user gives none."""
    frames: int
    """Exposures of the science target per night when the user gives none."""
    first_night: str
    span_d: int
    """Days from the first to the last night of the default campaign, the others at uneven steps between;
    0 = consecutive nights."""
    stretches: Callable[[int, int, int, Site], tuple[Stretch, ...]]
    """(night number from 0, exposures of the science target, MJD of the night, site) -> the night."""
    orbit: Orbit | None = None
    """Replaces the orbit of the science star."""
    science: str = ""
    """Star whose orbit the configuration sets; empty = the first M dwarf that is observed."""
    cycle_night: int = 0
    """Number (from 1) of the first night after a thermal cycle, 0 for none."""


def evening(
    dark_int: int = 2,
    dark_tel: int = 2,
    flats: tuple[int, int, int] = (5, 5, 5),
    fp: int = 5,
    dark_fp: int = 2,
    hc: int = 2,
) -> Stretch:
    """Calibrations of the afternoon; `flats` counts DARK_FLAT, FLAT_DARK and FLAT_FLAT."""
    blocks = (
        Block("DARK_DARK_INT", dark_int),
        Block("DARK_DARK_TEL", dark_tel),
        Block("DARK_FLAT", flats[0]),
        Block("FLAT_DARK", flats[1]),
        Block("FLAT_FLAT", flats[2]),
        Block("FP_FP", fp),
        Block("DARK_FP", dark_fp),
        Block("HCONE_HCONE", hc),
    )
    return Stretch(tuple(b for b in blocks if b.count), EVENING_FLATS_H, on_flats=True)


def morning() -> Stretch:
    """Calibrations after sunrise: no darks, no DARK_FP."""
    blocks = (
        Block("DARK_FLAT", 5),
        Block("FLAT_DARK", 5),
        Block("FLAT_FLAT", 5),
        Block("FP_FP", 5),
        Block("HCONE_HCONE", 2),
    )
    return Stretch(blocks, MORNING_FLATS_H, on_flats=True)


def transit_h(star: Star, mjd: int, site: Site, earliest: float = 5.2, latest: float = 14.6) -> float:
    """UT at which a star is nearest to the meridian in the dark hours of a night."""
    away = (star.target.ra_deg - sidereal_deg(float(mjd), site) + 180.0) % 360.0 - 180.0
    hours = [(away + turn) / 15.041067 for turn in (0.0, 360.0)]
    middle = 0.5 * (earliest + latest)
    return min(max(min(hours, key=lambda h: abs(h - middle)), earliest), latest)


def _worked(night: int, frames: int, mjd: int, site: Site) -> tuple[Stretch, ...]:
    """Three different nights, repeated when more are asked for."""
    if night % 3 == 0:
        return (
            evening(),
            Stretch((Block("OBJ_DARK", 1, PEG59), Block("OBJ_FP", 1, GAMSCT)), HOT_STARS_H),
            Stretch((Block("OBJ_FP", frames, GL699), Block("DARK_FP_SKY", 1, sky_near(GL699))), SCIENCE_H),
            morning(),
        )
    if night % 3 == 1:
        return (
            evening(),
            Stretch((Block("OBJ_DARK", 1, PEG59),), HOT_STARS_H),
            Stretch((Block("POLAR_FP", frames, GL699, subsequence=4),), SCIENCE_H),
            Stretch((Block("OBJ_DARK", 2, TOI442),), 13.0),
        )
    return (
        evening(dark_tel=0),
        Stretch((Block("OBJ_FP", 1, GAMSCT), Block("OBJ_FP", 1, ZETVIR)), HOT_STARS_H),
        Stretch((Block("OBJ_FP", frames, GL699),), SCIENCE_H),
        morning(),
    )


def extra_night(frames: int) -> tuple[Stretch, ...]:
    """An evening set and one science target: the night by which the worked archive grows."""
    return (evening(), Stretch((Block("OBJ_FP", frames, GL699),), SCIENCE_H))


def _demo(night: int, frames: int, mjd: int, site: Site) -> tuple[Stretch, ...]:
    """Short calibration sets; DARK_FP on the first night only; the second night is polarimetric."""
    science = "POLAR_FP" if night % 3 == 1 else "OBJ_FP"
    return (
        evening(flats=(3, 3, 5), dark_fp=2 if night == 0 else 0),
        Stretch((Block("OBJ_DARK", 1, PEG59), Block("OBJ_FP", 1, GAMSCT)), HOT_STARS_H),
        Stretch((Block(science, frames, GL699, subsequence=4),), SCIENCE_H),
    )


def _rv(night: int, frames: int, mjd: int, site: Site) -> tuple[Stretch, ...]:
    """One calibration set, one exposure of each of two hot stars and the science target near transit."""
    first, second = sorted((PEG59, GAMSCT), key=lambda star: transit_h(star, mjd, site))
    blocks = [(transit_h(star, mjd, site), Block("OBJ_FP", 1, star)) for star in (first, second)]
    blocks.append((transit_h(GL699, mjd, site), Block("OBJ_FP", frames, GL699)))
    sky = sorted(blocks, key=lambda item: item[0])
    return (
        evening(flats=(3, 3, 5), dark_fp=2 if night == 0 else 0),
        *(Stretch((block,), hour) for hour, block in sky),
    )


def _season(night: int, frames: int, mjd: int, site: Site) -> tuple[Stretch, ...]:
    """A small calibration set, one hot star, the science target and a constant star near transit."""
    stars = [((PEG59, GAMSCT)[night % 2], 1), (GL699, frames), (GL729, frames)]
    sky = sorted(
        ((transit_h(star, mjd, site), Block("OBJ_FP", count, star)) for star, count in stars),
        key=lambda item: item[0],
    )
    return (
        evening(flats=(2, 2, 3), fp=3, dark_fp=2 if night == 0 else 0),
        *(Stretch((block,), hour) for hour, block in sky),
    )


def _survey(night: int, frames: int, mjd: int, site: Site) -> tuple[Stretch, ...]:
    """Full calibrations, two hot stars and four M dwarfs out of forty, a quarter of `frames` on each."""
    stars = [grid_star((4 * night + i) % 40 + 1) for i in range(4)]
    counts = [(frames + 3 - i) // 4 for i in range(4)]
    types = ("OBJ_FP", "POLAR_FP", "OBJ_DARK", "OBJ_FP")
    hot = (PEG59, GAMSCT, ZETVIR)
    blocks = [
        Block(kind, count, star, subsequence=4)
        for kind, count, star in zip(types, counts, stars, strict=True)
        if count
    ]
    return (
        evening(),
        Stretch(
            (Block("OBJ_DARK", 1, hot[night % 3]), Block("OBJ_FP", 1, hot[(night + 1) % 3]), *blocks), 4.8
        ),
        morning(),
    )


PROGRAMMES: dict[str, Programme] = {
    p.name: p
    for p in (
        Programme(
            "demo",
            "three short nights with every frame type of the science and engineering sequences",
            nights=3,
            frames=4,
            first_night="2018-09-25",
            span_d=0,
            stretches=_demo,
            # Large and short, so that three nights of a small instrument show it.
            orbit=Orbit(gamma_kms=-110.1, k_ms=150.0, period_d=2.6, omega_deg=30.0),
        ),
        Programme(
            "worked",
            "146 frames of three different nights: two science stars, three hot stars, one sky frame",
            nights=3,
            frames=4,
            first_night="2018-09-25",
            span_d=0,
            stretches=_worked,
        ),
        Programme(
            "rv",
            "forty nights over 300 days on one M dwarf with a companion, changing water and a thermal cycle",
            nights=40,
            frames=4,
            first_night="2019-01-25",
            span_d=300,
            stretches=_rv,
            cycle_night=21,
        ),
        Programme(
            "season",
            "twenty nights over 300 days with small calibration sets, on a star with a companion and on a "
            "constant one",
            nights=20,
            frames=2,
            first_night="2019-01-25",
            span_d=300,
            stretches=_season,
            # 12 m/s, scaled to the information of the small instrument: four times larger errors.
            orbit=Orbit(gamma_kms=-110.1, k_ms=48.0, period_d=11.3, eccentricity=0.2, omega_deg=60.0),
            science=GL699.target.name,
            cycle_night=11,
        ),
        Programme(
            "faults",
            "the demo nights with broken frames and broken files among the good ones",
            nights=3,
            frames=4,
            first_night="2018-09-25",
            span_d=0,
            stretches=_demo,
        ),
        Programme(
            "survey",
            "many nights with full calibrations and four of forty M dwarfs each: archives for planning tests",
            nights=100,
            frames=50,
            first_night="2018-09-25",
            span_d=0,
            stretches=_survey,
        ),
    )
}
