"""Broken frames and broken files that a reduction has to survive."""

from __future__ import annotations

from dataclasses import replace

from apero_dask.simulator.spec import FrameSpec

PIXEL_FAULTS = {
    "corrupt": "amplifiers displaced against each other, read noise twenty times larger",
    "slip_x": "all planes rolled by one raw column",
    "slip_y": "all planes rolled by one raw row",
    "no_light": "the lamp did not reach the spectrograph",
    "saturated": "forty times the light: order centres reach saturation within the ramp",
    "short": "the exposure was stopped after the second read",
}
"""Faults of the recorded signal; the file itself is sound."""
FILE_FAULTS = {
    "no_extensions": "primary header only",
    "truncated": "the file ends in the middle",
    "zero_bytes": "empty file",
    "not_fits": "text under the name of a frame",
    "not_utf8": "a byte above 127 in a header card",
    "future": "dates of the exposure lie ten years ahead",
    "duplicate": "second copy of a frame in the folder of another night",
    "misnamed": "a name that is not an identifier",
}
"""Faults of the file or its name."""


def inject(specs: list[FrameSpec], short_exptime_s: float) -> list[FrameSpec]:
    """Return the exposures of a sound campaign with faults among them.

    The second night loses its telescope darks; single frames of every night are spoilt where calibrations of
    the same kind are left over; broken files are added at the end of the last night, so that no sound
    frame is lost to them.

    Parameters
    ----------
    specs : sound campaign in archive order
    short_exptime_s : integration of a ramp of two reads, for the exposure that was stopped
    """
    nights = sorted({spec.obs_dir for spec in specs})
    last = {(spec.obs_dir, spec.dprtype): i for i, spec in enumerate(specs)}
    spoilt: dict[int, str] = {}

    def spoil(night: int, dprtypes: tuple[str, ...], fault: str, back: int = 0) -> None:
        if night >= len(nights):
            return
        for dprtype in dprtypes:
            row = last.get((nights[night], dprtype), -1) - back
            if row >= 0 and specs[row].dprtype == dprtype:
                spoilt[row] = fault
                return

    spoil(0, ("FLAT_FLAT",), "saturated")
    spoil(0, ("FP_FP",), "no_light")
    spoil(0, ("OBJ_FP", "POLAR_FP"), "slip_x")
    spoil(1, ("FP_FP",), "corrupt")
    spoil(1, ("FLAT_DARK",), "slip_y")
    spoil(1, ("DARK_FLAT",), "no_extensions")
    spoil(2, ("FLAT_DARK",), "truncated")
    spoil(2, ("OBJ_FP", "POLAR_FP"), "short")
    frames = []
    for i, spec in enumerate(specs):
        if len(nights) > 1 and spec.obs_dir == nights[1] and spec.dprtype == "DARK_DARK_TEL":
            continue
        if i in spoilt:
            spec = replace(spec, faults=(spoilt[i],))
        if spec.faults == ("short",):
            lost = (spec.exptime_s - short_exptime_s) / 86400.0
            spec = replace(spec, exptime_s=short_exptime_s, nreads=2, mjd_end=round(spec.mjd_end - lost, 7))
        frames.append(spec)
    return frames + _broken_files(frames, nights)


def _broken_files(frames: list[FrameSpec], nights: list[str]) -> list[FrameSpec]:
    final = frames[-1]
    pattern = next(spec for spec in reversed(frames) if spec.dprtype == "DARK_DARK_INT")
    length = pattern.mjd_end - pattern.mjd_start
    odometer = int(final.identifier[:7]) + 1
    index = max(spec.index for spec in frames) + 1
    start = final.mjd_end + 60.0 / 86400.0
    extra = []
    for fault in ("zero_bytes", "not_fits", "not_utf8", "future", "misnamed"):
        first = start + 3652.0 if fault == "future" else start
        extra.append(
            replace(
                pattern,
                identifier=f"{odometer:07d}d",
                index=index,
                mjd_start=round(first, 7),
                mjd_end=round(first + length, 7),
                sequence_number=1,
                sequence_length=1,
                faults=(fault,),
            )
        )
        odometer, index, start = odometer + 1, index + 1, start + length + 10.0 / 86400.0
    if len(nights) > 1:
        original = next(spec for spec in frames if spec.dprtype == "FLAT_FLAT" and not spec.faults)
        # Same index: the copy is the same exposure, byte for byte.
        extra.append(replace(original, obs_dir=nights[-1], faults=("duplicate",)))
    return extra
