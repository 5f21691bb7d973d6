"""Finds the file of a calibration that was chosen for a run.

The choice itself is made before the run starts and travels with it; nothing is searched here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from apero_dask.core.declare import Recipe, Select
from apero_dask.core.errors import ContractError, DataError
from apero_dask.core.work import Calibration, CalibrationFile, Work
from apero_dask.instruments import Instrument
from apero_dask.io.markers import absolute
from apero_dask.io.provenance import file_for, serves
from apero_dask.io.trees import TREES, Trees
from apero_dask.recipes.sharing import file_key

GIVEN = "file:"
"""Source of a calibration that the user named on the command line."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One calibration file that was chosen for the run."""

    kind: str
    """Kind found: the one asked for, or its fallback."""
    fibre: str
    path: Path | None
    """None for a shipped first guess."""
    key: str
    """Changes with the content; used by the cache."""
    calibration: Calibration


def find_calibration(
    work: Work, recipe: Recipe, trees: Trees, instrument: Instrument, kind: str, fibre: str
) -> Chosen | None:
    """File of a calibration kind; None for an optional one that was not found.

    Raises
    ------
    ContractError
        The recipe does not declare the kind, the run came without it, or the chosen set has no file for
        this fibre.
    DataError
        A file given by the user is not there.
    """
    select = _select(recipe, kind)
    found = [c for c in work.calibrations if kind in c.kinds and _concerns(c, fibre, instrument)]
    if not found:
        if select.optional or not select.applies(work.tier, work.variant, work.science, work.reference):
            return None
        raise ContractError(f"{recipe.name}: the run came without the calibration {kind} {fibre}".rstrip())
    calibration = found[0]
    if not calibration.source:
        return None
    if calibration.source.startswith(GIVEN):
        path = _of_fibre(_given(work, recipe, trees, kind, calibration), fibre, instrument)
        return Chosen(kind, fibre, path, f"{calibration.source} {file_key(path)}", calibration)
    if not calibration.files:
        return Chosen(calibration.source.partition(":")[2], fibre, None, calibration.source, calibration)
    file = _file(recipe, calibration, (kind, *select.fallback), fibre, instrument)
    key = file.content or file.digest or f"{file.path} {calibration.content}"
    return Chosen(file.kind, file.fibre, absolute(trees, file.path), key, calibration)


def _select(recipe: Recipe, kind: str) -> Select:
    for select in recipe.selects:
        if kind in select.kinds:
            return select
    raise ContractError(f"{recipe.name} declares no calibration {kind}")


def _concerns(calibration: Calibration, fibre: str, instrument: Instrument) -> bool:
    if not serves(calibration, fibre, instrument):
        return False
    group = calibration.fibre
    return not group or not fibre or fibre == group or instrument.localised_group(fibre) == group


def _file(
    recipe: Recipe, calibration: Calibration, kinds: tuple[str, ...], fibre: str, instrument: Instrument
) -> CalibrationFile:
    for kind in kinds:
        file = file_for([f for f in calibration.files if f.kind == kind], fibre, instrument)
        if file is not None:
            return file
    held = ", ".join(f"{f.kind} {f.fibre}".strip() for f in calibration.files)
    raise ContractError(f"{recipe.name}: no file {kinds[0]} {fibre} in the chosen set ({held})")


def _given(work: Work, recipe: Recipe, trees: Trees, kind: str, calibration: Calibration) -> Path:
    """Path of a calibration the user named: absolute, below the data root, in calibDB or of the night."""
    given = dict(work.options)
    names = [str(given[o.name]) for o in recipe.options if o.calibration == kind and given.get(o.name)]
    name = names[0] if names else calibration.source.removeprefix(GIVEN)
    return given_file(name, kind, trees, work.obs_dir)


def _of_fibre(path: Path, fibre: str, instrument: Instrument) -> Path:
    """The file of another fibre that lies beside the one a user named, if there is one."""
    stem, _, named = path.name.removesuffix(".fits").rpartition("_")
    if not fibre or named == fibre or named not in instrument.fibres:
        return path
    beside = path.with_name(f"{stem}_{fibre}.fits")
    return beside if beside.is_file() else path


def given_file(name: str, kind: str, trees: Trees, obs_dir: str) -> Path:
    """Path of a product the user named, see the places above; templates lie in a folder of their own.

    Raises
    ------
    DataError
        It is in none of them.
    """
    places = list(_places(name, trees, obs_dir))
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(str(place.parent) for place in places)
    raise DataError(f"{kind} file {name} is not there (looked in {looked}); correct the option.")


def _places(name: str, trees: Trees, obs_dir: str) -> Iterator[Path]:
    if Path(name).is_absolute():
        yield Path(name)
        return
    if PurePosixPath(name).parts[0] in TREES:
        yield absolute(trees, name)
    yield trees.calibDB / name
    yield trees.reduced / obs_dir / name
    yield trees.tmp / obs_dir / name
    yield trees.telluDB / name
    yield trees.reduced / "other" / name
