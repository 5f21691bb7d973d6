"""``apero-dask retry``: run chosen runs of a run file again, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from apero_dask.core.errors import EXIT_INTERRUPTED, EXIT_INVALID, EXIT_OK, UserError

USAGE = """\
usage: apero-dask retry --only WHAT [WHAT ...] [--with-descendants] INSTRUMENT RUN_FILE [options]

Run chosen runs of a run file again, whatever their SKIP_ switch says; everything else keeps what it has.

WHAT is a short name (FF), a run key as in the plan, in status and in the logs (00001.16.00002), or the word
failed: every run that failed or was blocked the last time.

  --with-descendants   also run everything again that depends on them

INSTRUMENT, RUN_FILE and all other options are those of apero_processing (see apero_processing --help).
"""
ONLY = "--only"
DESCENDANTS = "--with-descendants"


def _fail(text: str) -> int:
    print(f"apero-dask retry: {text}\nSee apero-dask retry --help.", file=sys.stderr)
    return EXIT_INVALID


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    """(words behind --only, with descendants, rest for apero_processing).

    The words end at the next option or at the name of an instrument; commas separate them too.

    >>> split_arguments(["--only", "FF", "LOC,BAD", "SPIROU", "a.ini", "--cores", "2"])
    (['FF', 'LOC', 'BAD'], False, ['SPIROU', 'a.ini', '--cores', '2'])
    """
    from apero_dask.instruments.base import INSTRUMENTS

    words: list[str] = []
    rest: list[str] = []
    descendants = reading = False
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag == ONLY:
            reading = not equals
            words += value.split(",")
        elif argument == DESCENDANTS:
            descendants, reading = True, False
        elif argument.startswith("-") or argument.upper() in INSTRUMENTS or not reading:
            reading = False
            rest.append(argument)
        else:
            words += argument.split(",")
    return [word.strip() for word in words if word.strip()], descendants, rest


def retry(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return EXIT_OK
    words, descendants, rest = split_arguments(arguments)
    if not words:
        return _fail(f"{ONLY} is missing: name steps, run keys, or the word failed")
    from apero_dask.cli.options import parse
    from apero_dask.cli.processing import show
    from apero_dask.notebook.calls import read_run_file, run
    from apero_dask.planner.narrow import Narrowing

    line = parse(rest)
    try:
        request = read_run_file(line)
        if request.prepared.only_show:
            return _fail("--plan and --test show the whole run file; leave them out, or use apero_processing")
        return run(request, Narrowing(tuple(words), descendants)).status
    except UserError as error:
        show(error.findings)
        return error.status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
