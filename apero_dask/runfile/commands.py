"""Explicit recipe lines: split like a shell would, then checked against the recipe's declaration.

Nothing is expanded here: wildcards stay as written and are resolved by the planner, which knows the files.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from apero_dask.core.declare import Argument, Option, OptionValue, Recipe, registered
from apero_dask.core.errors import Findings, one_line
from apero_dask.core.names import clean_object_name
from apero_dask.core.settings import Command
from apero_dask.runfile.grammar import shown
from apero_dask.runfile.suggest import closest
from apero_dask.runfile.values import WrongType, is_null, parse_bool, parse_float, parse_int

LONGEST = 100_000
"""Letters of a command line; a longer one was not meant."""
INSTRUMENT_SUFFIX = "_spirou"
NO_RECIPE = "command line"
"""Stands for the recipe in messages about a line that cannot be split."""

BOOKKEEPING = (
    "prog",
    "program",
    "recipe_kind",
    "shortname",
    "parallel",
    "crunfile",
    "debug",
    "verbose",
    "nosave",
)
"""Beginnings of options that APERO adds when it writes command lines; they change nothing."""
MASTER_MARKS = ("ref", "master")
"""Options that ask for the master tier."""

AT_LEAST_RATIO: dict[str, tuple[str, str, float]] = {"cal_ccf": ("width", "step", 10.0)}
"""Recipe -> (option, option, least ratio): fewer than 10 steps per half width sample no line profile."""


def declared_recipes() -> dict[str, Recipe]:
    """Every declared recipe that a line can name, by canonical name."""
    import apero_dask.recipes  # noqa: F401  (importing it registers the declarations)

    return {name: recipe for name, recipe in registered().items() if not recipe.internal}


def find_recipe(word: str, recipes: Mapping[str, Recipe]) -> Recipe | None:
    """Recipe whose canonical or script name is ``word``, with or without ``_spirou`` and ``.py``."""
    wanted = _bare(word)
    for recipe in recipes.values():
        if wanted in (_bare(name) for name in (recipe.name, *recipe.scripts, *recipe.aliases)):
            return recipe
    return None


def nearest_recipe(word: str, recipes: Mapping[str, Recipe]) -> str | None:
    """Name of a recipe that the user may have meant by ``word``, or None."""
    names = (_bare(name) for r in recipes.values() for name in (r.name, *r.scripts, *r.aliases))
    return closest(_bare(word.rpartition("/")[2]), names)


def gathered(recipe: Recipe, argument: Argument) -> bool:
    """Whether the planner finds the files of ``argument`` by itself, so that a line cannot name them.

    Files are base names inside a night: a recipe without a night cannot be given any.  An argument named
    ``files`` is either the trailing list of a line or, if it is not positional, all there is of its type.
    """
    return argument.found or recipe.takes == "" or (argument.name == "files" and not argument.positional)


def read_command(
    text: str,
    label: str,
    line: int,
    findings: Findings,
    recipes: Mapping[str, Recipe],
    note_alias: Callable[[str, str, int], None] | None = None,
) -> Command | None:
    """Checked command of an explicit line, or None after reporting what is wrong with it.

    Parameters
    ----------
    text : str
        The line without its comment.
    label : str
        Five-digit id for messages.
    note_alias : callable(alias, canonical, line), optional
        Told about other spellings of options; by default each is reported.
    """

    def fail(recipe: str, detail: str) -> None:
        findings.add("E-ARG", line=line, n=label, recipe=recipe, detail=detail)

    def note(alias: str, canonical: str) -> None:
        if note_alias is not None:
            note_alias(alias, canonical, line)
        else:
            findings.add("I-ALIAS", line=line, alias=alias, canonical=canonical)

    if len(text) > LONGEST:
        fail(NO_RECIPE, f"longer than {LONGEST} letters")
        return None
    try:
        tokens = shlex.split(text, comments=False, posix=True)
    except ValueError as error:
        fail(NO_RECIPE, f"{str(error).lower()} in {shown(text)}")
        return None
    if not tokens or not tokens[0]:
        fail(NO_RECIPE, "the name of the recipe is empty")
        return None
    recipe = find_recipe(tokens[0], recipes)
    if recipe is None:
        findings.add(
            "E-RECIPE-UNKNOWN",
            line=line,
            n=label,
            name=shown(tokens[0]),
            suggestion=nearest_recipe(tokens[0], recipes),
        )
        return None
    checker = _Checker(recipe, lambda detail: fail(recipe.name, detail), note)
    checker.read(tokens[1:])
    for name in checker.idle:
        findings.add("W-NOTIMPL", line=line, key=f"id{label}: --{name} of {recipe.name}")
    for argument, name in checker.repeated:
        findings.add("W-LISTDUP", line=line, key=f"id{label} {argument}", item=shown(name))
    return None if checker.failed else checker.command(text)


def _bare(name: str) -> str:
    return name.lower().removesuffix(".py").removesuffix(INSTRUMENT_SUFFIX)


def _is_option(token: str) -> bool:
    """Whether a token is an option; ``-110.5`` is a value, and so is a lone dash."""
    if not token.startswith("-") or token == "-":
        return False
    if token.startswith("--"):
        return True
    try:
        float(token)
    except ValueError:
        return True
    return False


@dataclass(frozen=True, slots=True)
class _Given:
    """An option with the tokens that follow it."""

    dashes: str
    name: str
    values: tuple[str, ...]


def _split(tokens: list[str]) -> tuple[list[str], list[_Given]]:
    """Positional tokens and options with their values."""
    starts = [i for i, token in enumerate(tokens) if _is_option(token)]
    bounds = [*starts, len(tokens)]
    given = []
    for start, stop in pairwise(bounds):
        name, equals, value = tokens[start].partition("=")
        values = ([value] if equals else []) + tokens[start + 1 : stop]
        dashes = "--" if name.startswith("--") else "-"
        given.append(_Given(dashes, name.removeprefix(dashes), tuple(values)))
    return tokens[: bounds[0]], given


class _Checker:
    """Checks the tokens of one line against one declaration, collecting everything that is wrong."""

    def __init__(self, recipe: Recipe, fail: Callable[[str], None], note: Callable[[str, str], None]) -> None:
        self.recipe = recipe
        self._fail = fail
        self._note = note
        self.failed = False
        self.obs_dir = ""
        self.objname = ""
        self.files: dict[str, tuple[str, ...]] = {}
        self.options: dict[str, OptionValue] = {}
        self.is_master = False
        self.repeated: list[tuple[str, str]] = []
        self.idle: list[str] = []
        """Options set that change nothing."""
        self._lists = {
            argument.name.lower(): argument
            for argument in recipe.arguments
            if not argument.positional and not gathered(recipe, argument)
        }

    def fail(self, detail: str) -> None:
        self.failed = True
        self._fail(detail)

    def read(self, tokens: list[str]) -> None:
        """Read the tokens after the name of the recipe."""
        positional, given = _split(tokens)
        self._read_positional(positional)
        for option in given:
            self._read_option(option)
        for argument in self._lists.values():
            if argument.required and argument.name not in self.files:
                self.fail(f"needs --{argument.name} followed by one or more files")
        self._check_ratio()

    def command(self, text: str) -> Command:
        """The checked command."""
        order = [argument.name for argument in self.recipe.arguments if argument.name in self.files]
        return Command(
            recipe=self.recipe.name,
            obs_dir=self.obs_dir,
            objname=self.objname,
            files=tuple((name, self.files[name]) for name in order),
            options=tuple(sorted(self.options.items())),
            is_master=self.is_master,
            text=text,
        )

    def _read_positional(self, tokens: list[str]) -> None:
        rest = list(tokens)
        argument = next((a for a in self.recipe.arguments if a.positional), None)
        if self.recipe.takes == "obs_dir":
            if not rest and argument is not None:
                self.fail("needs a night (obs_dir) and one or more files")
                return
            self._read_night(rest.pop(0) if rest else "")
        elif self.recipe.takes == "objname":
            self.objname = rest.pop(0) if rest else ""
            if not clean_object_name(self.objname):
                self.fail("needs the name of an object")
        if argument is None:
            if rest:
                self.fail(f'takes no further positional argument, found "{shown(one_line(rest, 3))}"')
        elif rest:
            self._store_files(argument, rest)
        elif argument.required:
            self.fail("needs one or more files after the night")

    def _read_night(self, token: str) -> None:
        self.obs_dir = token
        if not token:
            self.fail("needs a night (obs_dir)")
        elif token.lower().endswith(".fits"):
            self.fail(f'expected a night (obs_dir) before the files, found "{shown(token)}"')
        elif token.startswith("/") or ".." in token.split("/"):
            self.fail(f'night "{shown(token)}": expected the name of a folder inside {self.recipe.tree_in}')

    def _store_files(self, argument: Argument, names: list[str]) -> None:
        for name in names:
            if not name or "/" in name or name in (".", ".."):
                self.fail(
                    f'file "{shown(name)}": expected a base name; '
                    f"files are looked for in {self.recipe.tree_in}, folder of the night"
                )
        kept = tuple(dict.fromkeys(names))
        if len(kept) < len(names):
            seen: set[str] = set()
            for name in names:
                if name in seen:
                    self.repeated.append((argument.name, name))
                seen.add(name)
        self.files[argument.name] = kept

    def _read_option(self, given: _Given) -> None:
        written = given.dashes + given.name
        name = given.name.lower()
        argument = self._lists.get(name)
        declared = self.recipe.option(name) if argument is None else None
        if argument is not None:
            self._respell(written, f"--{argument.name}")
            if argument.name in self.files:
                self.fail(f"--{argument.name} is given twice")
            elif not given.values:
                self.fail(f"--{argument.name} needs one or more files")
                self.files[argument.name] = ()
            else:
                self._store_files(argument, list(given.values))
        elif declared is not None:
            self._respell(written, f"--{declared.name}")
            self._read_declared(declared, given.values)
        elif name in MASTER_MARKS:
            self._read_master(written, given.values)
        elif not name.startswith(BOOKKEEPING):
            self._unknown(written)

    def _respell(self, written: str, canonical: str) -> None:
        if written.lower() != canonical.lower():
            self._note(written, canonical)

    def _unknown(self, written: str) -> None:
        known = [
            *self._lists,
            *(o.name for o in self.recipe.options),
            *(alias for o in self.recipe.options for alias in o.aliases),
        ]
        nearest = closest(written.lstrip("-"), known)
        if nearest is not None:
            self.fail(f"unknown option {shown(written)}; did you mean --{nearest}")
        else:
            names = ", ".join(f"--{name}" for name in sorted(known))
            self.fail(f"unknown option {shown(written)}; known are {names or 'none'}")

    def _read_master(self, written: str, values: tuple[str, ...]) -> None:
        try:
            self.is_master = parse_bool(values[0]) if values else True
        except WrongType as error:
            self.fail(f'{written} = "{shown(values[0])}": expected {error}')

    def _read_declared(self, option: Option, values: tuple[str, ...]) -> None:
        if option.kind == "switch" and not values:
            self._store(option, True)
            return
        if len(values) != 1 or not values[0]:
            if len(values) > 1:
                self.fail(f"--{option.name} takes one value, found {len(values)}: {shown(one_line(values))}")
            else:
                self.fail(f"--{option.name} needs a value")
            return
        text = values[0]
        if is_null(text) and "none" not in (choice.lower() for choice in option.choices):
            return
        try:
            value = _option_value(option, text)
        except WrongType as error:
            unit = f" in {option.unit}" if option.unit else ""
            self.fail(f'--{option.name} = "{shown(text)}": expected {error}{unit}')
            return
        if option.refused and value != option.default:
            self.fail(f"--{option.name} {shown(text)} is not possible: {option.refused}; leave it out")
            return
        if option.kind != "switch" or value:
            self._store(option, value)

    def _store(self, option: Option, value: OptionValue) -> None:
        if option.no_effect and value != option.default and option.name not in self.idle:
            self.idle.append(option.name)
        earlier = self.options.setdefault(option.name, value)
        if earlier != value:
            self.fail(f"--{option.name} is given twice, with {earlier} and {value}")

    def _check_ratio(self) -> None:
        if self.failed or self.recipe.name not in AT_LEAST_RATIO:
            return
        upper, lower, least = AT_LEAST_RATIO[self.recipe.name]
        values = []
        for name in (upper, lower):
            option = self.recipe.option(name)
            value = self.options.get(name, None if option is None else option.default)
            if not isinstance(value, int | float):
                return
            values.append(float(value))
        # 20 / 2.0000000000000004 must not fail for a rounding of the last digit.
        if values[0] / values[1] < least * (1 - 1e-12):
            self.fail(
                f"--{upper} = {values[0]:g} and --{lower} = {values[1]:g}: "
                f"expected a ratio of at least {least:g}, found {values[0] / values[1]:.3g}"
            )


def _option_value(option: Option, text: str) -> OptionValue:
    """Value of a declared option; WrongType if the text is none."""
    match option.kind:
        case "bool" | "switch":
            return parse_bool(text)
        case "int":
            return _limited(option, parse_int(text), "an integer")
        case "float":
            return _limited(option, parse_float(text), "a finite number")
        case "choice":
            for choice in option.choices:
                if choice.lower() == text.lower():
                    return choice
            raise WrongType(f"one of {', '.join(option.choices)}")
        case "file":
            outside = option.absolute_path or bool(option.calibration)
            if text in (".", "..") or ("/" in text and not (outside and text.startswith("/"))):
                raise WrongType("a base name or an absolute path" if outside else "a base name")
            return text
        case "str":
            return text
    raise AssertionError(f"--{option.name}: unknown kind {option.kind}")


def _limited(option: Option, number: int | float, what: str) -> int | float:
    if option.at_least is not None and number < option.at_least:
        raise WrongType(f"{what} of at least {option.at_least:g}")
    if option.above is not None and number <= option.above:
        raise WrongType(f"{what} above {option.above:g}")
    if option.below is not None and abs(number) >= option.below:
        raise WrongType(f"{what} between -{option.below:g} and {option.below:g}")
    return number
