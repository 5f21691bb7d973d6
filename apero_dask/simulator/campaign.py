"""From a configuration to the list of its exposures."""

from __future__ import annotations

import datetime
import math
from collections import defaultdict
from dataclasses import dataclass, replace

from apero_dask.simulator.ephemeris import Site, airmass, barycentric, keplerian
from apero_dask.simulator.epochs import EpochConfig, NightState, night_states
from apero_dask.simulator.faults import inject
from apero_dask.simulator.frametypes import frame_type
from apero_dask.simulator.programmes import PROGRAMMES, Programme, extra_night
from apero_dask.simulator.schedule import Exposure, Stretch, integration_s, lay_out
from apero_dask.simulator.settings import ConfigError, setting
from apero_dask.simulator.spec import FrameSpec, Target
from apero_dask.simulator.streams import stream
from apero_dask.simulator.targets import Orbit, Star

_MJD_EPOCH = datetime.date(1858, 11, 17)
FIRST_ODOMETER = 2320001
_ORBIT_KEYS = ("gamma_kms", "k_ms", "period_d", "eccentricity", "omega_deg", "t0_bjd")


@dataclass(frozen=True)
class CampaignConfig:
    """What is observed, and how the velocity of the science star behaves."""

    name: str = setting("demo", "Built-in campaign.", choices=tuple(PROGRAMMES))
    nights: int = setting(0, "Number of nights; 0 = as the campaign says.", minimum=0, maximum=50000)
    frames: int = setting(
        0, "Exposures of the science target per night; 0 = as the campaign says.", minimum=0, maximum=400
    )
    extra_night: bool = setting(
        False, "A further night 13 days after the first: evening calibrations and the science target."
    )
    first_night: str = setting("", "UT date YYYY-MM-DD of the first night; empty = as the campaign says.")
    spacing_d: int = setting(0, "Days between nights; 0 = as the campaign says.", minimum=0, maximum=1000)
    overhead_s: tuple[float, float] = setting(
        (29.0, 37.0), "Set-up and read-out before an integration.", unit="s", origin="measured", minimum=0.0
    )
    airmass_max: float = setting(2.5, "Largest airmass of an exposure.", minimum=1.0, maximum=10.0)
    gamma_kms: float | None = setting(None, "Systemic velocity of the science star.", unit="km/s")
    k_ms: float | None = setting(None, "Velocity semi-amplitude.", unit="m/s", minimum=0.0)
    period_d: float | None = setting(None, "Orbital period.", unit="d", above=0.0)
    eccentricity: float | None = setting(None, "Eccentricity.", minimum=0.0, maximum=0.95)
    omega_deg: float | None = setting(None, "Argument of periastron of the star.", unit="deg")
    t0_bjd: float | None = setting(None, "Time of periastron.", unit="d")

    def problems(self) -> list[tuple[str, object, str]]:
        """Values that are impossible together or cannot be read."""
        found: list[tuple[str, object, str]] = []
        if self.overhead_s[0] > self.overhead_s[1]:
            found.append(("overhead_s", self.overhead_s, "the smaller value first"))
        if self.first_night:
            try:
                datetime.date.fromisoformat(self.first_night)
            except ValueError:
                found.append(("first_night", self.first_night, "a date such as 2018-09-25"))
        return found


@dataclass(frozen=True, slots=True)
class Campaign:
    """All exposures of a campaign and the stars among them."""

    name: str
    frames: tuple[FrameSpec, ...]
    """In the order of the archive: by night, then by time."""
    stars: tuple[Star, ...]
    """With the orbits actually used, in order of first appearance; blank sky is not one."""


def mjd_of(date: str) -> int:
    """MJD of 0 h UT of a date ``YYYY-MM-DD``."""
    return (datetime.date.fromisoformat(date) - _MJD_EPOCH).days


def date_of(mjd: int) -> str:
    """UT date ``YYYY-MM-DD`` of an MJD."""
    return (_MJD_EPOCH + datetime.timedelta(days=mjd)).isoformat()


def build_campaign(
    config: CampaignConfig,
    epochs: EpochConfig,
    seed: int,
    frame_time_s: float,
    site: Site,
    velocities: bool = True,
) -> Campaign:
    """List every exposure of a campaign with all physical states decided.

    Parameters
    ----------
    config, epochs : sections ``campaign`` and ``epochs``
    seed : campaign seed
    frame_time_s : time of one read
    site : observatory
    velocities : False leaves BERV, BJD and the velocity of the star at 0, which no raw header shows; it
        saves most of the time of a large archive

    Raises
    ------
    ConfigError
        The exposures do not fit into a night, or identifiers run out.
    """
    programme = PROGRAMMES[config.name]
    nights = config.nights or programme.nights
    frames = config.frames or programme.frames
    first = mjd_of(config.first_night or programme.first_night)
    days = _days(programme, nights, config.spacing_d)
    plans: list[tuple[int, tuple[Stretch, ...]]] = [
        (day, programme.stretches(k, frames, first + day, site)) for k, day in enumerate(days)
    ]
    if config.extra_night:
        plans.append((max(13, days[-1] + 1), extra_night(frames)))
    cycle = epochs.thermal_cycle_night or (programme.cycle_night if nights == programme.nights else 0)
    states = night_states(epochs, seed, [day for day, _ in plans], cycle)
    laid = [
        lay_out(stretches, frame_time_s, config.overhead_s, stream(seed, "schedule", k), date_of(first + day))
        for k, (day, stretches) in enumerate(plans)
    ]
    # Odometer numbers of a night begin at a round hundred, as far as the longest night lets them.
    step = 100 * -(-max(len(exposures) for exposures in laid) // 100)
    if FIRST_ODOMETER + step * len(laid) > 9_999_999:
        raise ConfigError(
            f"campaign '{config.name}' with {len(laid)} nights needs more than the seven digits of an "
            f"identifier; ask for at most {(9_999_999 - FIRST_ODOMETER) // step} nights (--nights)."
        )
    stars = _true_stars(laid, programme, config)
    specs: list[FrameSpec] = []
    last_object = "zenith"
    for k, ((day, _), state, exposures) in enumerate(zip(plans, states, laid, strict=True)):
        for i, exposure in enumerate(exposures):
            odometer = f"{FIRST_ODOMETER + step * k + i:07d}"
            specs.append(
                _frame(odometer, len(specs), first + day, state, exposure, config, site, last_object)
            )
            if exposure.star is not None:
                last_object = exposure.star.target.name
    if velocities:
        specs = _velocities(specs, stars, site)
    if config.name == "faults":
        specs = inject(specs, integration_s(2, frame_time_s))
    return Campaign(config.name, tuple(specs), tuple(stars.values()))


def _true_stars(
    nights: list[list[Exposure]], programme: Programme, config: CampaignConfig
) -> dict[str, Star]:
    """Stars of a campaign by name; the orbit of the science star follows the configuration."""
    stars: dict[str, Star] = {}
    science = programme.science
    for exposure in (e for exposures in nights for e in exposures):
        star = exposure.star
        if star is None or star.target.kind == "sky" or star.target.name in stars:
            continue
        if star.target.kind == "mdwarf":
            science = science or star.target.name
        if star.target.name == science:
            given = {key: getattr(config, key) for key in _ORBIT_KEYS}
            orbit = replace(
                programme.orbit or star.orbit, **{k: v for k, v in given.items() if v is not None}
            )
            star = replace(star, orbit=orbit)
        stars[star.target.name] = star
    return stars


def _days(programme: Programme, nights: int, spacing_d: int) -> list[int]:
    if spacing_d:
        return [spacing_d * k for k in range(nights)]
    if programme.span_d and programme.nights > 1:
        # Even steps cannot tell a period from its alias: up to 0.4 of a step off, by multiples of the root
        # of two, which spread evenly whatever their number.  The two ends stay.
        step, last = programme.span_d / (programme.nights - 1), programme.nights - 1
        off = [0.8 * ((k * math.sqrt(2.0)) % 1.0 - 0.5) if k % last else 0.0 for k in range(nights)]
        return [round(step * (k + off[k])) for k in range(nights)]
    return list(range(nights))


def _frame(
    odometer: str,
    index: int,
    mjd: int,
    state: NightState,
    exposure: Exposure,
    config: CampaignConfig,
    site: Site,
    last_object: str,
) -> FrameSpec:
    kind = frame_type(exposure.dprtype)
    middle = exposure.end - exposure.exptime_s / 172800.0
    target = exposure.star.target if exposure.star else None
    return FrameSpec(
        identifier=odometer + kind.letter,
        obs_dir=date_of(mjd),
        dprtype=exposure.dprtype,
        index=index,
        exptime_s=exposure.exptime_s,
        nreads=exposure.nreads,
        mjd_start=round(mjd + exposure.start, 7),
        mjd_end=round(mjd + exposure.end, 7),
        sequence_number=exposure.number,
        sequence_length=exposure.length,
        target=target,
        polar_position=(exposure.number - 1) % 4 + 1 if kind.drsmode == "POLAR" else 0,
        airmass=airmass(target, mjd + middle, site, config.airmass_max) if target else 1.0,
        epoch_days=state.days + middle,
        lamp_factor=state.lamp_factor,
        last_object=last_object,
        **state.at(middle),
    )


def _velocities(specs: list[FrameSpec], stars: dict[str, Star], site: Site) -> list[FrameSpec]:
    """Fill BERV, BJD and stellar velocity, one call of the ephemeris per target."""
    import numpy as np

    by_target: dict[Target, list[int]] = defaultdict(list)
    for i, spec in enumerate(specs):
        if spec.target is not None:
            by_target[spec.target].append(i)
    for target, rows in by_target.items():
        berv, bjd = barycentric(target, np.array([specs[i].mjd_mid for i in rows]), site)
        for i, v, t in zip(rows, berv.tolist(), bjd.tolist(), strict=True):
            rv = radial_velocity(stars[target.name].orbit, t) if target.name in stars else 0.0
            specs[i] = replace(specs[i], berv_kms=v, bjd=t, rv_kms=rv)
    return specs


def radial_velocity(orbit: Orbit, bjd: float) -> float:
    """True barycentric radial velocity in km/s at a barycentric Julian date."""
    return keplerian(
        bjd, orbit.gamma_kms, orbit.k_ms, orbit.period_d, orbit.eccentricity, orbit.omega_deg, orbit.t0_bjd
    )
