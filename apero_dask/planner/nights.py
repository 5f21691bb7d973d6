"""Rows that combine the frames of a night, or of the whole archive."""

from __future__ import annotations

from apero_dask.core.errors import one_line
from apero_dask.core.frames import RawFrame
from apero_dask.core.outcome import Marker, State
from apero_dask.core.plan import MISSING, Step
from apero_dask.planner.draft import Draft, Request, stored_path
from apero_dask.planner.grouping import (
    FEWEST_IN_SUBGROUP,
    FrameGroup,
    canonical,
    even_in_time,
    fp_archive_list,
    mean_time,
    nightly_groups,
)
from apero_dask.planner.sequences import DARK_TYPES, TRIGGER_MINIMUM, Row
from apero_dask.planner.skip import raw_content

Files = tuple[tuple[str, tuple[RawFrame, ...]], ...]
"""(argument, frames) of one run, the leading argument first."""


def plan_nights(draft: Draft, request: Request, row: Row, step: Step) -> list[str]:
    """Runs of a row with one run per night, or per exposure sequence; the reasons for nights without."""
    master = row.scope == "master"
    nights = draft.selected.master_by_night if master else draft.selected.by_night
    number = 0
    reasons: list[str] = []
    missing: dict[str, list[str]] = {}
    cut: dict[tuple[str, int], list[str]] = {}
    for night, found in nights.items():
        groups, lacking = nightly_groups(
            found,
            step.recipe.arguments,
            row.types,
            draft.settings.group_limit(step.short),
            draft.settings.calib_grouping == "exposure_sequence" and not master,
        )
        if lacking:
            missing.setdefault(lacking, []).append(night)
        for group in groups:
            kind = draft.instrument.frame_type(group.leading[0].dprtype)
            waits = draft.waits_for(request, step, kind.science, kind.reference)
            lacking = _too_few(draft, step, group) or (f"the night has no {waits} yet" if waits else "")
            if lacking:
                reasons.append(f"{night}: {lacking}")
                continue
            for types, available, used in group.cut:
                draft.findings.add(
                    "W-GROUP-LIMIT", short=step.short, night=night, n=available, dprtype=types, m=used
                )
                cut.setdefault((types, used), []).append(night)
            number += draft.add(
                request,
                step,
                number + 1,
                obs_dir=group.obs_dir,
                stem=group.leading[0].identifier,
                time=mean_time(group.leading),
                inputs=tuple(draft.inputs(name, "PP", ("",), frames) for name, frames in group.files),
                science=kind.science,
                reference=kind.reference,
            )
    for (types, used), where in cut.items():
        listed = one_line(dict.fromkeys(where))
        draft.notes.append(f"GROUP_FILE_LIMIT: only the last {used} {types} frames of {listed}")
    for lacking, where in missing.items():
        reasons.append(f"no {lacking} frame on {one_line(where)}")
        # Without Fabry-Perot in the reference fibre the shipped leak fractions serve.
        if master and row.short != "LEAKM":
            draft.findings.add(
                "E-MASTER-INCOMPLETE", night=where[0], dprtype=lacking, short=step.short, n=0, m=1
            )
    if not nights:
        reasons.append("the master night has no usable frame" if master else "no night is left")
    return reasons


def _too_few(draft: Draft, step: Step, group: FrameGroup) -> str:
    """Which argument has fewer files than trigger mode asks for."""
    if not draft.settings.trigger_run:
        return ""
    minimum = TRIGGER_MINIMUM.get(step.recipe.name, {})
    short = [
        f"{len(frames)} of {minimum[name]} {name}"
        for name, frames in group.files
        if len(frames) < minimum.get(name, 1)
    ]
    return "only " + ", ".join(short) if short else ""


def plan_archive(draft: Draft, request: Request, row: Row, step: Step) -> list[str]:
    """The one run of an archive-wide row; the reasons for frames left out."""
    night = draft.selected.master_night
    if not draft.selected.master:
        return ["the master night is not known" if not night else f"{night} has no usable frame"]
    gather = _darks if row.short == "DARKM" else _combs
    files, reasons = gather(draft, row, step)
    if not files:
        return reasons
    if step.skip:
        files = _outgrown(draft, step, files)
    leading = files[-1][1]
    if len(files) > 1:
        # The archive list is the last argument; name and time come from its frames of the master night.
        leading = tuple(frame for frame in leading if frame.obs_dir == night)
    draft.add(
        request,
        step,
        1,
        obs_dir=night,
        stem=leading[0].identifier,
        time=mean_time(leading),
        inputs=tuple(draft.inputs(name, "PP", ("",), found) for name, found in files),
    )
    return reasons


def _preprocessed(draft: Draft, frames: list[RawFrame]) -> list[RawFrame]:
    """Frames whose preprocessed file is there or planned; all of them if the plan is only shown."""
    if draft.only_show:
        return frames
    return [frame for frame in frames if draft.producer(frame, "PP", "") != MISSING]


def _darks(draft: Draft, row: Row, step: Step) -> tuple[Files, list[str]]:
    """Darks of the reference dark."""
    shortest = draft.settings.dark_master_min_exptime
    types = row.types or DARK_TYPES
    found = [f for f in draft.selected.archive if f.dprtype in types]
    # With nothing preprocessed the run is planned all the same, so that the report says what is missing.
    darks = _preprocessed(draft, found) or found
    usable = [f for f in darks if f.exptime >= shortest]
    chosen = even_in_time(usable, draft.settings.dark_master_max_files)
    reasons = []
    if len(darks) > len(usable):
        reasons.append(f"{len(darks) - len(usable)} dark(s) shorter than {shortest:g} s left out")
    if len(usable) > len(chosen):
        reasons.append(f"{len(chosen)} of {len(usable)} darks, even in time")
    if not chosen:
        _incomplete(draft, step, " or ".join(types), 0, 1)
        return (), [*reasons, "no dark frame in the archive"]
    return ((step.recipe.arguments[0].name, tuple(chosen)),), reasons


def _combs(draft: Draft, row: Row, step: Step) -> tuple[Files, list[str]]:
    """Hollow cathode frames of the master night and Fabry-Perot frames of the archive."""
    night, settings = draft.selected.master_night, draft.settings
    lamp, comb = (argument.name for argument in step.recipe.arguments)
    lamps = [f for f in draft.selected.master if f.dprtype == "HCONE_HCONE"]
    found = [f for f in draft.selected.archive if f.dprtype == "FP_FP"]
    combs = _preprocessed(draft, found)
    if not any(f.obs_dir == night for f in combs):
        combs = found
    chosen = fp_archive_list(combs, settings.shape_master_max_files, settings.fp_master_match_time, night)
    reasons = [f"{len(chosen)} of {len(combs)} FP_FP frames"] if len(combs) > len(chosen) else []
    own = [f for f in combs if f.obs_dir == night]
    if not lamps:
        _incomplete(draft, step, "HCONE_HCONE", 0, 1)
        return (), [*reasons, "the master night lacks HCONE_HCONE frames"]
    if not any(f.obs_dir == night for f in chosen):
        _incomplete(draft, step, "FP_FP", len(own), FEWEST_IN_SUBGROUP)
        return (), [*reasons, "the master night lacks FP_FP frames"]
    return ((lamp, tuple(lamps)), (comb, tuple(chosen))), reasons


def _incomplete(draft: Draft, step: Step, types: str, found: int, need: int) -> None:
    draft.findings.add(
        "E-MASTER-INCOMPLETE",
        night=draft.selected.master_night,
        dprtype=types,
        short=step.short,
        n=found,
        m=need,
    )


def _outgrown(draft: Draft, step: Step, files: Files) -> Files:
    """Inputs of a finished archive run that the archive has only outgrown; else the natural ones.

    Taking new frames would change everything that was ever reduced with the product, so a finished run stays
    valid while everything it used is still there and unchanged.
    """
    present = {frame.identifier: frame for frame in draft.selected.archive}
    natural = {frame.identifier for _, found in files for frame in found}
    best: Marker | None = None
    for marker in draft.snapshot.markers.values():
        if (marker.recipe, marker.tier, marker.obs_dir) != (
            step.recipe.name,
            step.tier,
            draft.selected.master_night,
        ):
            continue
        if not marker.planned_inputs or not natural - set(marker.planned_inputs):
            continue
        if _still_valid(draft, marker, present) and (
            best is None
            or (len(marker.planned_inputs), marker.identity) > (len(best.planned_inputs), best.identity)
        ):
            best = marker
    if best is None:
        return files
    recorded = best.planned_inputs
    draft.findings.add("I-ARCHIVE-GROWN", short=step.short, n=len(natural - set(recorded)))
    return tuple(
        (name, tuple(canonical(present[i] for i in recorded if present[i].dprtype in argument.types)))
        for (name, _), argument in zip(files, step.recipe.arguments, strict=True)
    )


def _still_valid(draft: Draft, marker: Marker, present: dict[str, RawFrame]) -> bool:
    """Whether every frame that a finished archive run was planned with is there as it was."""
    if marker.code != draft.snapshot.code.get(marker.recipe, marker.code):
        return False
    used = dict(marker.inputs)
    for identifier in marker.planned_inputs:
        frame = present.get(identifier)
        if frame is None:
            return False
        path = stored_path(frame, "PP", "")
        found = draft.snapshot.outputs.get(path)
        if found is None:
            continue
        raw = dict(found[0].inputs).get(f"raw/{frame.path}")
        if raw is not None and raw != raw_content(frame.size, frame.digest):
            return False
        if found[0].state is State.DONE and used.get(path, found[1].content) != found[1].content:
            return False
    return True
