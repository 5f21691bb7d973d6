"""Rows with one run per frame: preprocessing, extraction, leak, telluric steps, velocities, packaging."""

from __future__ import annotations

from dataclasses import replace

from apero_dask.core.errors import one_line
from apero_dask.core.frames import RawFrame
from apero_dask.core.plan import MISSING, Inputs, Step
from apero_dask.planner.draft import Draft, Request
from apero_dask.planner.filters import is_calibration
from apero_dask.planner.grouping import canonical
from apero_dask.planner.packages import package_inputs
from apero_dask.planner.sequences import DARK_TYPES, Row
from apero_dask.planner.templates import keeps_template, refits, template_input
from apero_dask.planner.transmissions import model_input
from apero_dask.recipes.ccf import BUILTIN_MASK, DEFAULT_MASK

ARCHIVE_TYPES = frozenset((*DARK_TYPES, "FP_FP"))
"""Frame types that archive-wide steps combine over all nights."""
REJECTED_FOR = {"obj_mk_tellu": "telluric", "cal_ccf": "velocity", "cal_postprocess": "velocity"}
"""Column of the reject list that keeps a frame out of a recipe."""
TELLURIC = ("obj_mk_tellu", "obj_fit_tellu")


def plan_preprocessing(draft: Draft, request: Request, row: Row, step: Step) -> list[str]:
    """Runs of a preprocessing row; the reasons for what it leaves out or adds."""
    frames = draft.frames_of(request, row)
    reasons = list(draft.selected.left_out)
    if row.short == "PP" and draft.has_master:
        chosen = {frame.identifier for frame in frames}
        extra = [
            frame
            for frame in draft.selected.archive
            if frame.identifier not in chosen
            and (
                (frame.obs_dir == draft.selected.master_night and is_calibration(frame))
                or frame.dprtype in ARCHIVE_TYPES
            )
        ]
        if extra:
            reasons.append(f"{len(extra)} frame(s) of other nights added for the master steps")
            frames = canonical([*frames, *extra])
    known = {kind.name: kind for kind in draft.instrument.frame_types}
    number = 0
    for frame in frames:
        kind = known[frame.dprtype]
        number += draft.add(
            request,
            step,
            number + 1,
            obs_dir=frame.obs_dir,
            stem=frame.identifier,
            time=frame.mjdmid,
            inputs=(draft.inputs("files", "RAW", ("",), (frame,)),),
            science=kind.science,
            reference=kind.reference,
        )
    if not frames:
        reasons.append(why_no_frame(draft, row))
    return reasons


def plan_frames(draft: Draft, request: Request, row: Row, step: Step) -> list[str]:
    """Runs of a row with one run per frame; the reasons for the frames it leaves out."""
    recipe, argument = step.recipe, step.recipe.arguments[0]
    use = REJECTED_FOR.get(recipe.name, "")
    needs_template = step.variant == "final" and recipe.name in TELLURIC
    is_fit = recipe.name == "obj_fit_tellu"
    mask = mask_stem(draft) if recipe.name == "cal_ccf" else ""
    known = {kind.name: kind for kind in draft.instrument.frame_types}
    public = replace(step, variant="p1_public")
    left_out: dict[str, int] = {}
    number = 0
    frames = draft.frames_of(request, row)
    kept: dict[str, bool] = {}
    templates: dict[str, tuple[Inputs, ...]] = {}
    refitted: dict[str, bool] = {}
    trigger = draft.settings.trigger_run
    optional_template = row.source == "CORRECTED" and not needs_template
    for frame in frames:
        name, frame_type = frame.frame_class, known[frame.dprtype]
        if use and draft.selected.forbids(frame.identifier, use):
            reason = "reject list: {n} frame(s)"
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        further: list[Inputs] = []
        if needs_template or optional_template:
            # One answer for all frames of an object: no row makes what it reads.
            if name not in templates:
                kept[name] = needs_template and keeps_template(draft, name)
                templates[name] = template_input(draft, name, required=needs_template)
            if kept[name] or (needs_template and not templates[name]):
                reason = "{n} frame(s) without a template, planned or stored"
                if kept[name]:
                    reason = "RECAL_TEMPLATES = False: {n} frame(s) of objects with a template"
                left_out[reason] = left_out.get(reason, 0) + 1
                continue
            further += templates[name]
        kind = row.source or argument.kinds[0]
        if kind == "CORRECTED":
            kind = draft.corrected_kind(frame)
        main = draft.inputs("files", kind, argument.fibres, (frame,))
        waits = ""
        if trigger:
            waits = draft.waits_for(request, step, frame_type.science, frame_type.reference)
            if main.producers[0] == MISSING and (kind, "") in request.wanted:
                waits = waits or kind
        if waits:
            reason = f"the night has no {waits} yet: {{n}} frame(s)"
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        if is_fit:
            further.append(model_input(draft, request, row.targets == "telluric"))
        elif recipe.name == "cal_ccf" and frame_type.reference == "fp":
            further.append(draft.inputs("fpfiles", "E2DSFF", ("C",), (frame,), required=False))
        elif recipe.name == "cal_postprocess":
            further += package_inputs(draft, main, recipe.arguments, mask_stem(draft))
        run = step
        if is_fit and step.variant == "p1":
            if name not in refitted:
                refitted[name] = refits(draft, row, name)
            if _owns_public_name(draft, request, row, frame, refitted[name]):
                run = public
        number += draft.add(
            request,
            run,
            number + 1,
            obs_dir=frame.obs_dir,
            stem=frame.identifier,
            time=frame.mjdmid,
            inputs=(main, *further),
            science=frame_type.science,
            reference=frame_type.reference,
            mask=mask,
        )
    reasons = [text.format(n=n) for text, n in left_out.items()]
    if not frames:
        reasons.append(why_no_frame(draft, row))
    return reasons


def _owns_public_name(draft: Draft, request: Request, row: Row, frame: RawFrame, refitted: bool) -> bool:
    """Whether the first fit of this frame is also its last, so that its products get the public names.

    ``refitted``: a later fit with a template is planned for its object.
    """
    earlier = draft.made.get("TCORR", {}).get(frame.identifier)
    if earlier is not None and draft.by_key[earlier].step.short != row.short:
        return False
    if row.targets == "telluric":
        # Hot stars have no third fit, in whatever sequence: one that went on from another name would repeat
        # everything behind the models.  A star that is a science target as well gets its last fit there.
        return bool(row.macro) or not request.targets.takes("science", frame.frame_class)
    return not refitted


def mask_stem(draft: Draft, name: str = "") -> str:
    """Mask part of product names: the file the user has, or the packaged mask."""
    chosen = name or (DEFAULT_MASK if DEFAULT_MASK in draft.snapshot.masks else BUILTIN_MASK)
    base = chosen.rpartition("/")[2]
    return base.lower().removesuffix(".mas").removesuffix(".fits")


def why_no_frame(draft: Draft, row: Row) -> str:
    """Why a row finds no frame at all."""
    if row.targets in ("telluric", "science"):
        types = " or ".join(t for t in row.types if not t.startswith("POLAR"))
        return f"no {types} frame of a {row.targets} target is left"
    types = " or ".join(row.types) if row.types else "usable"
    seen = sorted({f.dprtype for f in draft.selected.frames})
    return f"no {types} frame is left (types seen: {one_line(seen) or 'none'})"
