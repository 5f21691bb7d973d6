"""One recipe from the shell: ``cal_ccf_spirou.py 2018-08-05 FILE --mask M``, as a line of a run file.

Every installed command of this kind is the same function; the name it was called by tells the recipe.  A
call is a run file with one line: same options, checks, calibrations, markers and exit status.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apero_dask.core.errors import EXIT_INVALID, EXIT_OK

if TYPE_CHECKING:
    from apero_dask.core.declare import Argument, Option, Recipe

DEFAULT_INSTRUMENT = "SPIROU"
WITH_VALUE = {
    "--data": ("DIR", "folder with raw, tmp, reduced, ...; else APERO_DATA, else the DRS_DATA_* variables"),
    "--instrument": ("NAME", f"SPIROU or SPIROU_MINI (default: {DEFAULT_INSTRUMENT})"),
    "--master_obs_dir": ("NIGHT", "night of the reference calibrations, where there are several"),
    "--plan": ("FILE", "write the plan as JSON lines and stop"),
    "--skip-check": ("WORD", "what counts as finished: content, size or exists"),
}
"""Options of the command itself that take a value, with its name and a help text."""
SWITCHES = {
    "--test": "list what would run and stop",
    "--strict": "treat warnings as errors",
    "--no-resume": "do not continue an interrupted invocation",
}
"""Options of the command itself without a value."""
WIDTH = 30
"""Of the first column of the help."""


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Run the recipe that the command is named after; returns the exit status.

    Parameters
    ----------
    argv
        Arguments; default ``sys.argv[1:]``.
    program
        Name of the command; default that of ``sys.argv[0]``.
    """
    from apero_dask.runfile.commands import declared_recipes, find_recipe, nearest_recipe

    name = Path(sys.argv[0]).name if program is None else program
    tokens = list(sys.argv[1:] if argv is None else argv)
    recipes = declared_recipes()
    recipe = find_recipe(name, recipes)
    if recipe is None:
        near = nearest_recipe(name, recipes)
        hint = f" Did you mean {near}?" if near else f" Recipes: {', '.join(recipes)}."
        print(f'"{name}" is not a recipe.{hint}', file=sys.stderr)
        return EXIT_INVALID
    if {"-h", "--help"} & set(tokens):
        print("\n".join(help_lines(name, recipe)))
        return EXIT_OK
    try:
        own, line = split_tokens(tokens)
    except ValueError as error:
        print(f"{name}: {error}.\nSee {name} --help.", file=sys.stderr)
        return EXIT_INVALID
    return _process(name, recipe, own, line)


def split_tokens(tokens: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Options of the command itself, and the words of the recipe line.

    Raises
    ------
    ValueError
        A value is missing, or a word that no run file can hold.

    >>> split_tokens(["2018-08-05", "a.fits", "--data=/d", "--rv", "-110.5", "--test"])
    ({'--data': '/d', '--test': 'True'}, ['2018-08-05', 'a.fits', '--rv', '-110.5'])
    """
    own: dict[str, str] = {}
    line: list[str] = []
    rest = list(reversed(tokens))
    while rest:
        token = rest.pop()
        if "\n" in token or "\r" in token:
            raise ValueError(f"{token!r} goes over several lines, expected one")
        flag, equals, value = token.partition("=")
        if flag in WITH_VALUE:
            if not equals:
                if not rest or rest[-1].startswith("--"):
                    raise ValueError(f"{flag} needs a value")
                value = rest.pop()
            own[flag] = value
        elif token in SWITCHES:
            own[token] = "True"
        else:
            line.append(token)
    return own, line


def _process(name: str, recipe: Recipe, own: Mapping[str, str], line: Sequence[str]) -> int:
    """Plan and run one line."""
    from apero_dask.cli.options import parse
    from apero_dask.cli.processing import process

    words = [own.get("--instrument", DEFAULT_INSTRUMENT), name]
    for flag, value in own.items():
        if flag in SWITCHES:
            words.append(flag)
        elif flag != "--instrument":
            words.append(f"{flag}={value}")
    return process(parse(words), run_file_of(name, recipe, line))


def run_file_of(name: str, recipe: Recipe, line: Sequence[str]) -> str:
    """Run file with one line.

    >>> from apero_dask.runfile.commands import declared_recipes
    >>> print(run_file_of("cal_ccf_spirou.py", declared_recipes()["cal_ccf"], ["2018-08-05", "a b.fits"]))
    RUN_NAME = cal_ccf_spirou.py
    id00001 = cal_ccf 2018-08-05 'a b.fits'
    """
    return f"RUN_NAME = {name}\nid00001 = {shlex.join([recipe.name, *line])}"


def help_lines(name: str, recipe: Recipe) -> Iterator[str]:
    """Help text of the command of a recipe."""
    from apero_dask.runfile.commands import gathered

    positional = {"obs_dir": ["NIGHT"], "objname": ["OBJECT"]}.get(recipe.takes, [])
    files = [a for a in recipe.arguments if a.positional]
    named = [a for a in recipe.arguments if not a.positional and not gathered(recipe, a)]
    usage = [name, *positional, *(["FILE", "[FILE ...]"] if files else [])]
    for argument in named:
        text = f"--{argument.name} FILE [FILE ...]"
        usage.append(text if argument.required else f"[{text}]")
    yield f"usage: {' '.join([*usage, '[options]'])}"
    yield ""
    text = (recipe.body.__doc__ or "").strip().partition("\n")[0] if recipe.body is not None else ""
    yield text or f"Run {recipe.name}."
    yield ""
    if positional:
        what = "folder of the night" if recipe.takes == "obs_dir" else "name of the object"
        yield _row(positional[0], what)
    for argument in files:
        yield _row("FILE", f"{_kinds(argument)}; base names, * ? and [...] are expanded in {recipe.tree_in}")
    for argument in named:
        yield _row(f"--{argument.name} FILE ...", _kinds(argument))
    if recipe.options:
        yield "\noptions of the recipe, as in a run file"
        for option in recipe.options:
            yield _row(*_option(option))
    yield "\noptions of the command"
    for flag, (value, words) in WITH_VALUE.items():
        yield _row(f"{flag} {value}", words)
    for flag, words in {**SWITCHES, "--help": "show this text"}.items():
        yield _row(flag, words)


def _kinds(argument: Argument) -> str:
    fibres = [f for f in argument.fibres if f]
    of = f" of fibre {' or '.join(fibres)}" if fibres else ""
    types = f", {' or '.join(argument.types)} frames" if argument.types else ""
    return f"{' or '.join(argument.kinds)}{of}{types}"


def _option(option: Option) -> tuple[str, str]:
    value = {
        "bool": "BOOL",
        "int": "N",
        "float": "X",
        "str": "TEXT",
        "choice": "|".join(option.choices),
        "file": "FILE",
    }.get(option.kind, "")
    facts = [option.unit] if option.unit else []
    if option.default is not None:
        facts.append(f"default {option.default}")
    return f"--{option.name} {value}".rstrip(), option.help + (f" ({', '.join(facts)})" if facts else "")


def _row(first: str, text: str) -> str:
    if len(first) > WIDTH - 4:
        return f"  {first}\n{'':<{WIDTH}}{text}"
    return f"  {first:<{WIDTH - 2}}{text}"


if __name__ == "__main__":
    sys.exit(main())
