"""Options of ``apero_processing``, and from ``sys.argv`` to a :class:`CommandLine`.

Options that replace run-file keys come from the table of keys, so that both have one definition.
Imports nothing that costs time: ``--help`` must be immediate.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from apero_dask import __version__
from apero_dask.runfile.grammar import unquoted
from apero_dask.runfile.keys import KEYS, Key
from apero_dask.runfile.merge import CommandLine, Override
from apero_dask.runfile.suggest import closest
from apero_dask.runfile.values import FALSE, NULL, TRUE

PROGRAM = "apero_processing"

_VALUE_NAMES = {
    "night": "NIGHT",
    "list": "LIST",
    "int": "N",
    "bool": "BOOL",
    "choice": "WORD",
    "str": "NAME",
    "memory": "SIZE",
    "walltime": "TIME",
}
_BY_FLAG: dict[str, Key] = {flag: key for key in KEYS for flag in key.options}
_SWITCHES = frozenset(
    {"--strict", "--no-resume", "--package", "--single-allocation", "--help", "-h", "--version"}
)
_FLAGS = frozenset({*_BY_FLAG, *_SWITCHES, "--data", "--plan", "--order"})

_EPILOG = """\
Lists are one shell word, items separated by commas or semicolons:
  --include_obs_dirs "2018-09-25, 2018-09-26"
An option replaces the run-file key of the same meaning; None counts as not given.
BOOL is True, False, 1, 0, yes, no, on or off; without a value it means True.
"""


class _Parser(argparse.ArgumentParser):
    """Parser whose errors are one clear line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\nSee {self.prog} --help.\n")


class _Once(argparse.Action):
    """Store a value; the same key given twice with different values is an error."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        earlier: tuple[str, str] | None = getattr(namespace, self.dest)
        option = option_string or self.option_strings[0]
        text = unquoted(str(values).strip())
        if earlier is not None and earlier[1] != text:
            parser.error(f'{earlier[0]} "{earlier[1]}" and {option} "{text}" contradict each other')
        setattr(namespace, self.dest, (option, text))


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def word(text: str) -> str:
        lower = unquoted(text.strip()).lower()
        if lower not in choices:
            raise argparse.ArgumentTypeError(f'"{text}": expected {" or ".join(choices)}')
        return lower

    return word


def build_parser() -> argparse.ArgumentParser:
    """Parser of ``apero_processing [--data DIR] INSTRUMENT RUN_FILE [options]``.

    ``parse`` prepares the arguments before it uses the parser; use that for anything but help texts.
    """
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [--data DIR] INSTRUMENT RUN_FILE [options]",
        description="Reduce a SPIRou archive as a run file says.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("instrument", metavar="INSTRUMENT", help="SPIROU or SPIROU_MINI")
    parser.add_argument(
        "run_file", metavar="RUN_FILE", help="path of the run file, or its name in the runs folder"
    )
    parser.add_argument("--version", action="version", version=f"apero_dask {__version__}")

    where = parser.add_argument_group("data and plan")
    where.add_argument(
        "--data",
        metavar="DIR",
        action=_Once,
        help="folder with raw, tmp, reduced, ...; else APERO_DATA, else the DRS_DATA_* variables",
    )
    where.add_argument("--plan", metavar="FILE", action=_Once, help="write the plan as JSON lines and stop")
    where.add_argument("--strict", action="store_true", help="treat warnings as errors")

    how = parser.add_argument_group("execution")
    how.add_argument(
        "--order",
        metavar="WORD",
        type=_one_of(("graph", "strict")),
        default="graph",
        help="graph (default): what does not depend on each other runs side by side; strict: id after id",
    )
    how.add_argument(
        "--no-resume",
        dest="resume",
        action="store_false",
        help="do not continue an interrupted invocation",
    )
    how.add_argument("--package", action="store_true", help="write the packaged files (RUN_SCIPOST = True)")
    how.add_argument(
        "--single-allocation",
        action="store_true",
        help="start the workers inside the allocation of this job instead of submitting jobs",
    )

    keys = parser.add_argument_group("instead of run-file keys")
    for key in KEYS:
        if key.options:
            keys.add_argument(
                *key.options,
                dest=key.name,
                action=_Once,
                metavar=_VALUE_NAMES[key.kind],
                help=f"{key.help} ({key.name})",
            )
    return parser


def parse(argv: Sequence[str] | None = None) -> CommandLine:
    """Command line from ``argv`` (default ``sys.argv[1:]``).

    Raises
    ------
    SystemExit
        Status 0 after ``--help`` and ``--version``; status 2 after a message about an unknown option or a
        missing or superfluous argument.  Values of options that replace keys are checked later, with those
        of the run file, so that all faults are seen at once.

    >>> line = parse(["SPIROU", "mini_run.ini", "--cores", "8", "--test"])
    >>> line.run_file, [(o.key, o.text) for o in line.overrides]
    ('mini_run.ini', [('CORES', '8'), ('TEST_RUN', 'True')])
    """
    parser = build_parser()
    arguments = _prepared(parser, list(sys.argv[1:] if argv is None else argv))
    given = parser.parse_args(arguments)
    overrides = []
    for key in KEYS:
        pair = getattr(given, key.name, None) if key.options else None
        if pair is not None:
            overrides.append(Override(key.name, pair[0], pair[1]))
    return CommandLine(
        instrument=given.instrument,
        run_file=given.run_file,
        overrides=tuple(overrides),
        data=None if given.data is None else given.data[1],
        plan=None if given.plan is None else given.plan[1],
        order=given.order,
        strict=given.strict,
        resume=given.resume,
        package=given.package,
        single_allocation=given.single_allocation,
    )


def _is_flag(token: str) -> bool:
    """Whether a token is an option; a negative number is a value."""
    if not token.startswith("-") or token == "-":
        return False
    return not token[1:].replace(".", "", 1).isdigit()


def _prepared(parser: argparse.ArgumentParser, tokens: list[str]) -> list[str]:
    """Arguments that argparse understands without guessing.

    A bare ``--trigger`` in front of INSTRUMENT must not swallow it, an unknown option deserves a suggestion,
    and a list that the shell has split deserves an explanation.
    """
    prepared: list[str] = []
    positional: list[str] = []
    described: list[str] = []
    behind = ""
    rest = list(reversed(tokens))
    while rest:
        token = rest.pop()
        if not _is_flag(token):
            positional.append(token)
            described.append(f'"{token}"' + (f" (behind {behind})" if behind else ""))
            behind = ""
            continue
        flag, equals, value = token.partition("=")
        behind = flag
        if flag not in _FLAGS:
            nearest = closest(flag.lstrip("-"), [name.lstrip("-") for name in _FLAGS])
            parser.error(f"unknown option {flag}" + (f"; did you mean --{nearest}?" if nearest else ""))
        if flag in _SWITCHES:
            prepared.append(token)
            continue
        key = _BY_FLAG.get(flag)
        if not equals:
            following = rest[-1] if rest else None
            if key is not None and key.bare is not None and not _is_bool_word(following):
                value = key.bare
            elif following is None or _is_flag(following):
                parser.error(f"{flag} needs a value")
            else:
                value = rest.pop()
                if key is not None and key.name == "DASK_CLUSTER" and _is_address(value, rest):
                    prepared.append(f"--address={rest.pop()}")
        if key is None and not unquoted(value.strip()):
            parser.error(f"{flag} needs a value")
        prepared.append(f"{flag}={value}")
    if len(positional) > 2 and not {"-h", "--help", "--version"} & set(prepared):
        parser.error(
            f"expected INSTRUMENT and RUN_FILE, found {len(positional)} words: {', '.join(described)}; "
            "a list must be one word in quotes"
        )
    return [*prepared, *positional]


def _is_address(kind: str, rest: list[str]) -> bool:
    """Whether ``--cluster existing`` is followed by the place of a scheduler; ``rest`` is reversed."""
    if unquoted(kind.strip()).lower() != "existing" or not rest:
        return False
    word = rest[-1]
    return "://" in word or word.endswith(".json")


def _is_bool_word(token: str | None) -> bool:
    return token is not None and unquoted(token.strip()).lower() in TRUE | FALSE | NULL
