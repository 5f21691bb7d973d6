"""Members of a package: everything of one frame that the packaged files gather."""

from __future__ import annotations

from apero_dask.core.declare import Argument
from apero_dask.core.frames import RawFrame
from apero_dask.core.layout import ending
from apero_dask.core.outcome import State
from apero_dask.core.plan import MISSING, STORED, Inputs
from apero_dask.core.products import NIGHT, Life, folder
from apero_dask.planner.draft import Draft
from apero_dask.planner.sequences import STAR_FP

LEADERS = {
    "S1D_W": "E2DSFF",
    "S1D_V": "E2DSFF",
    "LCORR_S1D_W": "LCORR",
    "LCORR_S1D_V": "LCORR",
    "TCORR_S1D_W": "TCORR",
    "TCORR_S1D_V": "TCORR",
    "RECON": "TCORR",
    "RECON_S1D_W": "TCORR",
    "RECON_S1D_V": "TCORR",
    "PCLEAN": "TCORR",
}
"""Kind whose run makes a kind too: only leaders are kept by frame while planning."""
MEASURED = ("TCORR", "LCORR", "E2DSFF")
"""Spectra that a velocity may have been measured in, the best first."""


def package_inputs(draft: Draft, main: Inputs, arguments: tuple[Argument, ...], mask: str) -> list[Inputs]:
    """Members of the package of one frame beside the spectrum itself, where they are planned or stored.

    Parameters
    ----------
    main
        Flat-fielded spectra of the frame.
    arguments
        Of the packaging recipe; those it says are found.
    mask
        Mask part of the names of velocity products.
    """
    (frame,) = main.frames
    made: dict[str, Inputs] = {main.kind: main}
    found = []
    for argument in arguments:
        if not argument.found:
            continue
        kind = argument.kinds[0]
        if kind == "LCORR" and frame.dprtype not in STAR_FP:
            continue
        if kind == "CCF":
            velocity = _velocity(draft, frame, argument, mask)
            if velocity is not None:
                found.append(velocity)
            continue
        leader = LEADERS.get(kind)
        if leader is not None and leader not in made:
            continue
        producer = made[leader].producers[0] if leader is not None else ""
        if producer in ("", STORED, MISSING):
            inputs = draft.inputs(argument.name, kind, argument.fibres, (frame,), required=argument.required)
        else:
            inputs = Inputs(
                argument.name, kind, argument.fibres, (frame,), (producer,), (), argument.required
            )
        if argument.required or inputs.producers[0] != MISSING:
            made[kind] = inputs
            found.append(inputs)
    return found


def _velocity(draft: Draft, frame: RawFrame, argument: Argument, mask: str) -> Inputs | None:
    """Velocity of a frame: what this plan measures, else what is stored for the mask."""
    key = draft.made.get("CCF", {}).get(frame.identifier)
    if key is not None:
        for kind, fibre, path in draft.by_key[key].outputs():
            if (kind, fibre) == ("CCF", "AB") and path.rpartition("/")[2].startswith(frame.identifier):
                return Inputs(argument.name, "CCF", ("AB",), (), (key,), (path,), required=False)
    night = folder("reduced", NIGHT, frame.obs_dir, Life.FRAME)
    for measured in MEASURED:
        stem = frame.identifier + ending(measured, "AB").removesuffix(".fits")
        path = night + stem + ending("CCF", "AB", mask)
        stored = draft.snapshot.outputs.get(path)
        failed = stored is not None and stored[0].state is not State.DONE and not draft.keep_failed
        if draft.snapshot.on_disk(path) and not failed:
            return Inputs(argument.name, "CCF", ("AB",), (), (STORED,), (path,), required=False)
    return None
