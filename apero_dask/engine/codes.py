"""Digests of code: what a finished run was computed with.

The digest of a recipe covers its module and, followed through its imports, every module of the package and
every kernel it uses, the static tables, and the files of the user's assets that it declares to read; a change
elsewhere does not touch it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from apero_dask.core.declare import Recipe, registered
from apero_dask.core.ids import digest

FOLLOWED = ("apero_dask.recipes", "apero_dask.io", "apero_dask.instruments", "apero_kernels")
"""Packages whose modules count; ``core`` holds records only, the engine cannot change a product."""
NOT_FOLLOWED = frozenset({"apero_dask.recipes", "apero_dask.io", "apero_dask.instruments"})
"""Package modules that import everything below them."""
TABLES = "apero_dask.tables"


@cache
def _source(module: str) -> tuple[Path, bytes] | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    return path, path.read_bytes()


@cache
def _imports(module: str) -> frozenset[str]:
    """Followed modules that a module imports, at its top or inside functions."""
    found = _source(module)
    if found is None:
        return frozenset()
    names: set[str] = set()
    for node in ast.walk(ast.parse(found[1])):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    followed = {n for n in names if n.startswith(FOLLOWED) and n not in NOT_FOLLOWED}
    return frozenset(n for n in followed if _source(n) is not None)


def closure(module: str) -> list[str]:
    """A module and all followed modules it reaches, sorted."""
    reached, todo = {module}, [module]
    while todo:
        for name in _imports(todo.pop()):
            if name not in reached:
                reached.add(name)
                todo.append(name)
    return sorted(reached)


@cache
def _tables_digest() -> str:
    spec = importlib.util.find_spec(TABLES)
    total = hashlib.sha256()
    assert spec is not None and spec.origin is not None
    for path in sorted(Path(spec.origin).parent.iterdir()):
        if path.suffix in (".csv", ".toml"):
            total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@cache
def module_digest(module: str) -> str:
    """Digest of a module with everything it uses, and of the static tables."""
    total = hashlib.sha256(_tables_digest().encode())
    for name in closure(module):
        found = _source(name)
        if found is not None:
            total.update(name.encode() + b"\0" + found[1])
    return total.hexdigest()[:32]


def recipe_digest(recipe: Recipe) -> str:
    """Digest of the code of a recipe; empty for one without a body."""
    return module_digest(recipe.body.__module__) if recipe.body is not None else ""


@cache
def _content(path: Path, size: int, changed_ns: int) -> str:
    # Size and time are part of the key alone: a file that changes while the program lives is read again.
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def asset_contents(recipe: Recipe, assets: Path, instrument: str) -> list[tuple[str, str]]:
    """Name below the assets and SHA-256 of every file of the assets that a recipe reads, sorted.

    Raises
    ------
    OSError
        A file cannot be read.
    """
    found: dict[str, str] = {}
    for pattern in recipe.reads:
        for path in assets.glob(pattern.format(instrument=instrument.lower())):
            if path.is_file():
                status = path.stat()
                name = path.relative_to(assets).as_posix()
                found[name] = _content(path, status.st_size, status.st_mtime_ns)
    return sorted(found.items())


def code_digests(
    assets: Path | None = None, instrument: str = "", given: Iterable[str] = ()
) -> dict[str, str]:
    """Digest by recipe name, of all registered recipes that have a body.

    Parameters
    ----------
    assets
        Folder of the assets; without it only the code counts.
    instrument
        Name of the instrument.
    given
        Files outside the data trees that recipe lines name: they count for every recipe that takes one.

    Raises
    ------
    OSError
        A file of the assets, or a given one, cannot be read.
    """
    named = [(name, _given_content(Path(name))) for name in sorted(set(given))]
    digests = {}
    for name, recipe in registered().items():
        if recipe.body is None:
            continue
        read = asset_contents(recipe, assets, instrument) if assets is not None else []
        if any(option.absolute_path for option in recipe.options):
            read += named
        code = recipe_digest(recipe)
        digests[name] = digest([code, read])[: len(code)] if read else code
    return digests


def _given_content(path: Path) -> str:
    status = path.stat()
    return _content(path.absolute(), status.st_size, status.st_mtime_ns)
