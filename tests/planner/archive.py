"""Frames of the three-night archive used by the planner tests, built without files."""

from __future__ import annotations

import datetime

from apero_dask.core.frames import FrameIndex, RawFrame

PI = {"Gl699": "PI One", "TOI-442": "PI Two"}
CLEAN = {"Gl699": "GL699", "TOI-442": "TOIM442", "59Peg": "59PEG", "gamSct": "GAMSCT", "zetVir": "ZETVIR"}

EVENING = (
    ("DARK_DARK_INT", "d", 2, 601.767),
    ("DARK_DARK_TEL", "d", 2, 601.767),
    ("DARK_FLAT", "f", 5, 27.860),
    ("FLAT_DARK", "f", 5, 27.860),
    ("FLAT_FLAT", "f", 5, 27.860),
    ("FP_FP", "a", 5, 61.291),
    ("DARK_FP", "a", 2, 61.291),
    ("HCONE_HCONE", "c", 2, 601.767),
)
MORNING = tuple(row for row in EVENING if row[0] not in ("DARK_DARK_INT", "DARK_DARK_TEL", "DARK_FP"))
STARS = {
    "2018-09-25": (
        ("59Peg", "OBJ_DARK", 1),
        ("gamSct", "OBJ_FP", 1),
        ("Gl699", "OBJ_FP", 4),
        ("sky", "DARK_FP_SKY", 1),
    ),
    "2018-09-26": (("59Peg", "OBJ_DARK", 1), ("Gl699", "POLAR_FP", 4), ("TOI-442", "OBJ_DARK", 2)),
    "2018-09-27": (("gamSct", "OBJ_FP", 1), ("zetVir", "OBJ_FP", 1), ("Gl699", "OBJ_FP", 4)),
    "2018-10-08": (("Gl699", "OBJ_FP", 4),),
}
FIRST = {"2018-09-25": 2320001, "2018-09-26": 2320101, "2018-09-27": 2320201, "2018-10-08": 2321201}
OVERHEAD_S = 33.0
OBSTYPE = {"d": "DARK", "f": "FLAT", "a": "ALIGN", "c": "COMPARISON", "o": "OBJECT"}


def mjd_of(night: str) -> int:
    """MJD at 0 h UT of a date."""
    return (datetime.date.fromisoformat(night) - datetime.date(1858, 11, 17)).days


def _set(
    night: str, rows: tuple[tuple[str, str, int, float], ...], start: float, odometer: int
) -> list[RawFrame]:
    frames, time = [], start
    for dprtype, letter, count, exptime in rows:
        for number in range(count):
            time += (exptime + OVERHEAD_S) / 86400
            name = f"{odometer + len(frames)}{letter}"
            frames.append(
                RawFrame(
                    identifier=name,
                    obs_dir=night,
                    path=f"{night}/{name}.fits",
                    dprtype=dprtype,
                    mjdmid=time - exptime / 2 / 86400,
                    exptime=exptime,
                    obstype=OBSTYPE[letter],
                    frame_class="CALIB",
                    pi_name="QSO Team",
                    cmpltexp=number + 1,
                    calibration_field=True,
                    size=2880,
                    digest=name,
                )
            )
    return frames


def night_frames(night: str) -> list[RawFrame]:
    """All frames of one night of the worked example."""
    mjd = mjd_of(night)
    evening = EVENING if night != "2018-09-27" else tuple(r for r in EVENING if r[0] != "DARK_DARK_TEL")
    # Evening flats lie around 3.3 h, morning flats around 16.3 h UT, whatever darks precede.
    telescope = 2 * (601.767 + OVERHEAD_S) / 86400 if evening is not EVENING else 0.0
    frames = _set(night, evening, mjd + 2.42 / 24 + telescope, FIRST[night])
    odometer, time = FIRST[night] + len(frames), mjd + 6.0 / 24
    for name, dprtype, count in STARS[night]:
        for number in range(count):
            time += (300.884 + OVERHEAD_S) / 86400
            frames.append(
                RawFrame(
                    identifier=f"{odometer}o",
                    obs_dir=night,
                    path=f"{night}/{odometer}o.fits",
                    dprtype=dprtype,
                    mjdmid=time - 300.884 / 2 / 86400,
                    exptime=300.884,
                    obstype="OBJECT",
                    frame_class="SKY" if name == "sky" else CLEAN[name],
                    drsmode="POLAR" if dprtype.startswith("POLAR") else "SPECTROSCOPY",
                    pi_name=PI.get(name, "QSO Team"),
                    cmpltexp=number + 1,
                    size=2880,
                    digest=f"{odometer}o",
                )
            )
            odometer += 1
    if night in ("2018-09-25", "2018-09-27"):
        frames += _set(night, MORNING, mjd + 16.12 / 24, odometer)
    return frames


def worked_index(*extra: str) -> FrameIndex:
    """Index of the three nights and of the named further ones."""
    nights = ("2018-09-25", "2018-09-26", "2018-09-27", *extra)
    return FrameIndex.of(frame for night in nights for frame in night_frames(night))
