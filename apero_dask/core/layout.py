"""Where the products of a run lie and how they are named, by recipe, variant and light."""

from __future__ import annotations

from functools import cache

from apero_dask.core.declare import Recipe, only_fibre
from apero_dask.core.products import KINDS


@cache
def ending(kind: str, fibre: str = "", mask: str = "") -> str:
    """What follows the stem in the file name of a product kind (not of those named after an object)."""
    return KINDS[kind].file_name("", fibre, mask)


@cache
def endings_of(kind: str, fibres: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Tree, with ``/``, and endings of the files of one frame."""
    return ("tmp/" if kind == "PP" else "reduced/"), tuple(ending(kind, fibre) for fibre in fibres)


_NONE: frozenset[str] = frozenset()
_LAYOUTS: dict[
    tuple[int, str, str, frozenset[str]], tuple[Recipe, list[tuple[str, str, tuple[str, ...]]]]
] = {}
"""Products by recipe object (kept alive by the entry), variant, reference light and options set."""


def layout(
    recipe: Recipe, variant: str, reference: str, options: frozenset[str] = _NONE
) -> list[tuple[str, str, tuple[str, ...]]]:
    """(kind, rule of the stem, fibres) of everything a run of this variant makes.

    Looked up by the identity of the recipe: hashing a declaration for every run would dominate planning.
    """
    key = (id(recipe), variant, reference, options)
    found = _LAYOUTS.get(key)
    if found is None:
        only = only_fibre(options)
        rows = []
        for makes in recipe.makes:
            fibres = tuple(fibre for fibre in makes.fibres if only in ("", fibre))
            if fibres and makes.applies(variant, reference, options):
                rows.append((makes.kind, KINDS[makes.kind].stem, fibres))
        found = _LAYOUTS[key] = (recipe, rows)
    return found[1]


NamedLayout = list[tuple[str, str, tuple[tuple[str, str], ...]]]
_NAMED: dict[tuple[int, str, str, str, frozenset[str]], tuple[Recipe, NamedLayout]] = {}


def named_layout(
    recipe: Recipe, variant: str, reference: str, mask: str, options: frozenset[str] = _NONE
) -> NamedLayout:
    """(kind, rule of the stem, (fibre, ending of the file name)) of everything a run makes."""
    key = (id(recipe), variant, reference, mask, options)
    found = _NAMED.get(key)
    if found is None:
        rows = [
            (kind, rule, tuple((f, "" if rule == "object" else ending(kind, f, mask)) for f in fibres))
            for kind, rule, fibres in layout(recipe, variant, reference, options)
        ]
        found = _NAMED[key] = (recipe, rows)
    return found[1]
