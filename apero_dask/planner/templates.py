"""Templates: which objects get one, which steps use it, and which fit is the last of an object."""

from __future__ import annotations

from apero_dask.core.frames import RawFrame
from apero_dask.core.plan import MISSING, STORED, Inputs, Step
from apero_dask.planner.draft import Draft, Request, template_path
from apero_dask.planner.grouping import mean_time
from apero_dask.planner.sequences import Row

FITTED = ("TCORR1", "TCORR")
"""Spectra a template is made from: of the first fit, under the public name if it is also the last."""


def keeps_template(draft: Draft, name: str) -> bool:
    """RECAL_TEMPLATES is off and the object has a template: its template-dependent steps are left out."""
    recompute = draft.settings.recal_templates
    if recompute is None:
        recompute = not draft.settings.trigger_run
    return not recompute and draft.has_template(name)


def template_input(draft: Draft, name: str, *, required: bool) -> tuple[Inputs, ...]:
    """Template of an object as an input: of this plan where needed, else the stored one.

    A step that could do without takes no template that this plan makes anew: a first reduction and its
    repetition must give the same.
    """
    key = draft.templates.get(name)
    if required and key is not None:
        return (Inputs("template", "TEMPLATE", ("AB",), (), (key,), (template_path(name),)),)
    if not draft.has_template(name) or (not required and name in draft.future_templates):
        return ()
    return (Inputs("template", "TEMPLATE", ("AB",), (), (STORED,), (template_path(name),), required),)


def refits(draft: Draft, row: Row, name: str) -> bool:
    """Whether a later fit with a template owns the public name of this object's spectra."""
    if not draft.settings.runs(row.macro or "FTELLU3") or keeps_template(draft, name):
        return False
    return name in draft.future_templates or name in draft.templates or draft.has_template(name)


def coming_templates(
    draft: Draft, request: Request, rows: tuple[Row, ...], active: list[bool]
) -> frozenset[str]:
    """Objects whose template the active ones among ``rows`` will make."""
    fitted = {
        row.targets
        for row, on in zip(rows, active, strict=True)
        if on and row.recipe == "obj_fit_tellu" and row.variant == "p1"
    }
    names: set[str] = set()
    for row, on in zip(rows, active, strict=True):
        if not on or row.scope != "object":
            continue
        stored = (
            set() if row.targets in fitted else {m.object for kind in FITTED for m, _ in draft.stored(kind)}
        )
        for frame in draft.frames_of(request, row):
            name = frame.frame_class
            if name in names or (row.targets not in fitted and name not in stored):
                continue
            if not draft.selected.forbids(frame.identifier, "telluric") and not keeps_template(draft, name):
                names.add(name)
    return frozenset(names)


def plan_objects(draft: Draft, request: Request, row: Row, step: Step) -> list[str]:
    """Runs of a template row, one per object; the reasons for the frames it leaves out."""
    by_object: dict[str, list[RawFrame]] = {}
    refused = without = kept = number = 0
    for frame in draft.frames_of(request, row):
        if keeps_template(draft, frame.frame_class):
            kept += 1
        elif draft.selected.forbids(frame.identifier, "telluric"):
            refused += 1
        else:
            by_object.setdefault(frame.frame_class, []).append(frame)
    for name in sorted(by_object):
        kind = row.source if row.source in FITTED else _spectra(draft, by_object[name])
        frames = tuple(f for f in by_object[name] if draft.producer(f, kind, "AB") != MISSING)
        without += len(by_object[name]) - len(frames)
        stored = _stored_spectra(draft, name, kind, {f.identifier for f in frames})
        if not frames:
            continue
        inputs = draft.inputs("files", kind, ("AB",), frames)
        number += draft.add(
            request,
            step,
            number + 1,
            obs_dir="",
            object_name=name,
            stem=name,
            time=mean_time(frames),
            inputs=(
                Inputs(
                    "files",
                    kind,
                    ("AB",),
                    frames,
                    (*inputs.producers, *(STORED for _ in stored)),
                    tuple(stored),
                ),
            ),
        )
    reasons = []
    if refused:
        reasons.append(f"reject list: {refused} frame(s)")
    if kept:
        reasons.append(f"RECAL_TEMPLATES = False: {kept} frame(s) of objects with a template")
    if without:
        reasons.append(f"{without} frame(s) without a corrected spectrum, planned or stored")
    if not number and not reasons:
        words = {"telluric": " telluric", "science": " science"}.get(row.targets, "")
        reasons.append(f"no spectrum of a{words} target is left")
    return reasons


def _spectra(draft: Draft, frames: list[RawFrame]) -> str:
    """Kind of the spectra of one object: what this plan makes comes before what is stored."""
    for kind in FITTED:
        made = draft.made.get(kind, {})
        if any(frame.identifier in made for frame in frames):
            return kind
    for kind in FITTED:
        if any(draft.producer(frame, kind, "AB") != MISSING for frame in frames):
            return kind
    return FITTED[0]


def _stored_spectra(draft: Draft, name: str, kind: str, planned: set[str]) -> list[str]:
    """Stored spectra of an object from frames that this plan does not touch."""
    return [
        output.path
        for marker, output in draft.stored_of(kind, name)
        if output.fibre == "AB" and marker.stem not in planned
    ]
