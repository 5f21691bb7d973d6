"""Recipe declarations: what a recipe consumes, selects, makes and costs.

The planner, the command line and the worker read the declaration alone; none of them knows a recipe
by name.  Recipes meet only through product kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

OptionValue = str | bool | int | float | tuple[str, ...]


class Group(StrEnum):
    """How frames are gathered into runs."""

    FILE = "file"
    NIGHT = "night"
    NIGHT_AND_TYPE = "night x type"
    ARCHIVE = "archive"
    OBJECT = "object"
    MACRO = "macro"


@dataclass(frozen=True, slots=True)
class Option:
    """One ``--name`` of a recipe line."""

    name: str
    kind: str
    """bool, int, float, str, choice, switch (present or not) or file."""
    default: OptionValue | None = None
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    below: float | None = None
    """Exclusive limit of the absolute value."""
    unit: str = ""
    changes_result: bool = True
    """Part of the run identity; bookkeeping options are not."""
    calibration: str = ""
    """Product kind that a file option replaces."""
    absolute_path: bool = False
    """A file outside the data trees may be given as an absolute path."""
    elsewhere: str = ""
    """What acts on it, where no body reads it."""
    no_effect: str = ""
    """Why it changes nothing; a line that sets it is told."""
    refused: str = ""
    """Why no value but the default can be granted; a line that asks for another is an error."""
    help: str = ""


@dataclass(frozen=True, slots=True)
class Argument:
    """A list of input files."""

    name: str
    kinds: tuple[str, ...]
    """Product kinds accepted, ``RAW`` for raw frames; the first is what a sequence uses."""
    types: tuple[str, ...] = ()
    """Frame types accepted; empty = every type."""
    one_type: bool = True
    """All files of one run have the same type."""
    positional: bool = False
    required: bool = True
    archive: bool = False
    """Files of the whole archive join those of the night."""
    fibres: tuple[str, ...] = ("",)
    """Fibres whose files belong together; a recipe line names one of them."""
    found: bool = False
    """The planner adds its files by itself where they are planned or stored; a line cannot name them."""


@dataclass(frozen=True, slots=True)
class Select:
    """Calibration products that must come from one producing run."""

    kinds: tuple[str, ...]
    fibre: str = ""
    """Localisation group, where products of several groups come from different runs."""
    fallback: tuple[str, ...] = ()
    """Kinds whose ranking follows when nothing is found, one after the other."""
    optional: bool = False
    """The run goes on without, and records it."""
    tiers: tuple[str, ...] = ()
    """Only in these tiers; empty = both."""
    variants: tuple[str, ...] = ()
    science: tuple[str, ...] = ()
    """Only when the science fibres see one of these (star, fp, ...); empty = always."""
    reference: tuple[str, ...] = ()
    """Only when the reference fibre sees one of these."""
    applies_to: str = ""
    """Fibres the product is used for: science, reference, or empty for all."""
    option: str = ""
    """Only when this boolean option is set."""

    def applies(
        self,
        tier: str,
        variant: str,
        science: str,
        reference: str,
        options: frozenset[str] = frozenset(),
    ) -> bool:
        """Whether a run of this tier, variant and illumination, with these options set, needs it."""
        return (
            (not self.option or self.option in options)
            and (not self.tiers or tier in self.tiers)
            and (not self.variants or variant in self.variants)
            and (not self.science or science in self.science)
            and (not self.reference or reference in self.reference)
        )


@dataclass(frozen=True, slots=True)
class Makes:
    """A product kind a run writes, one file per fibre."""

    kind: str
    fibres: tuple[str, ...] = ("",)
    variants: tuple[str, ...] = ()
    """Only in these variants of the recipe; empty = all."""
    reference: tuple[str, ...] = ()
    """Only when the reference fibre sees one of these."""
    option: str = ""
    """Only when this boolean option is set."""
    may_lack: bool = False
    """A run whose inputs do not allow it ends without, and says why."""

    def applies(self, variant: str, reference: str, options: frozenset[str] = frozenset()) -> bool:
        """Whether a run of this variant, illumination and with these options set makes the product."""
        return (
            (not self.option or self.option in options)
            and (not self.variants or variant in self.variants)
            and (not self.reference or reference in self.reference)
        )


_NOTHING: frozenset[str] = frozenset()
FIBRE = "fiber"
"""Option that confines a run to the products of one fibre."""


def options_set(options: Sequence[tuple[str, OptionValue]]) -> frozenset[str]:
    """Names of the boolean options of a run that are set, and the fibre it is confined to.

    >>> sorted(options_set([("leakcorr", True), ("thermal", False), ("objname", "GL699")]))
    ['leakcorr']
    >>> sorted(options_set([("fiber", "AB")]))
    ['fiber=AB']
    """
    if not options:
        return _NOTHING
    names = [name for name, value in options if value is True]
    return frozenset([*names, *(f"{FIBRE}={value}" for name, value in options if name == FIBRE)])


def only_fibre(options: frozenset[str]) -> str:
    """Fibre that a run with these options is confined to, empty if it makes all.

    >>> only_fibre(frozenset({"leakcorr", "fiber=AB"}))
    'AB'
    """
    prefix = f"{FIBRE}="
    return next((text.removeprefix(prefix) for text in options if text.startswith(prefix)), "")


@dataclass(frozen=True, slots=True)
class Resources:
    """Starting estimate for one run at full frame, to be replaced by measurements."""

    memory_gb: float
    seconds: float
    per_input_s: float = 0.0
    """Added for every input file beyond the first."""
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """Declaration of one recipe."""

    name: str
    """Canonical name, as in the table of a sequence."""
    short: str
    """Own short name: switch of explicit lines."""
    scripts: tuple[str, ...]
    """Names accepted on a command line beside the canonical one, without ``.py``."""
    group: Group
    tree_in: str
    """raw, tmp or reduced."""
    tree_out: str
    takes: str
    """Leading positional: obs_dir, objname or empty."""
    arguments: tuple[Argument, ...]
    makes: tuple[Makes, ...]
    resources: Resources
    leading: str = ""
    """Argument whose frames name and date the products; empty = the first."""
    selects: tuple[Select, ...] = ()
    options: tuple[Option, ...] = ()
    stratum: int = 0
    """Depth in the order of nightly kinds: a selection only concerns products of lower strata."""
    body: Callable[..., Any] | None = None
    """Function that reduces one run; None while this version cannot run the recipe."""
    reads: tuple[str, ...] = ()
    """Files of the assets it reads, as patterns below their folder; ``{instrument}`` stands for the name of
    the instrument in lower case.  A finished run is repeated when one of them changes, comes or goes."""
    extension: bool = False
    """Not one of the recipes of the run-file document."""
    internal: bool = False
    """Task of the engine's own: no recipe line can name it."""
    aliases: tuple[str, ...] = field(default=())

    def option(self, name: str) -> Option | None:
        """Option called ``name`` (any case, aliases included), or None."""
        wanted = name.lower()
        for option in self.options:
            if wanted == option.name.lower() or wanted in (alias.lower() for alias in option.aliases):
                return option
        return None


_REGISTRY: dict[str, Recipe] = {}


def register(recipe: Recipe) -> Recipe:
    """Add a recipe to the registry.

    Raises
    ------
    ValueError
        If another recipe has the name or one of the script names.
    """
    taken = {script for other in _REGISTRY.values() for script in (other.name, *other.scripts)}
    for name in (recipe.name, *recipe.scripts):
        if name in taken:
            raise ValueError(f"recipe name {name} is declared twice")
    _REGISTRY[recipe.name] = recipe
    return recipe


def set_body(name: str, body: Callable[..., Any] | None) -> None:
    """Replace the body of a registered recipe, for extensions and experiments.

    Raises
    ------
    KeyError
        If no recipe has that name.
    """
    _REGISTRY[name] = replace(_REGISTRY[name], body=body)


def registered() -> dict[str, Recipe]:
    """Recipes by canonical name, in the order they were declared; import ``apero_dask.recipes`` first."""
    return dict(_REGISTRY)
