"""``apero_processing``: plan a run file, show the plan or execute it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from apero_dask.cli.options import parse
from apero_dask.core.errors import EXIT_INVALID, EXIT_OK, EXIT_STOPPED, Finding, UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    line = parse(argv)
    from apero_dask.cli.prepare import cannot_run, prepare

    try:
        prepared = prepare(line)
    except UserError as error:
        show(error.findings)
        return error.status
    except KeyboardInterrupt:
        return 130
    show(prepared.findings)
    try:
        if line.plan is not None:
            return write_plan(prepared.plan.json_lines(), Path(line.plan))
        if prepared.settings.test_run:
            from apero_dask.report.plan_view import listing

            for tree, path, origin in prepared.trees.items():
                print(f"{tree:<8} {path} ({origin})")
            print(f"run file {prepared.run_file}: {prepared.settings.run_name}\n")
            for text in listing(prepared.plan, prepared.instrument):
                print(text)
            return EXIT_OK
    except BrokenPipeError:
        # The reader of the listing (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    missing = cannot_run(prepared.plan)
    if missing:
        print(
            f"Nothing was executed: this version can plan but not yet run {', '.join(missing)}. "
            "Use --test or --plan FILE to see the plan.",
            file=sys.stderr,
        )
        return EXIT_INVALID
    print("Nothing to do: the plan has no run.", file=sys.stderr)
    return EXIT_OK


def show(findings: Iterable[Finding]) -> None:
    """Print messages, one a line, on the error stream."""
    for finding in findings:
        print(finding, file=sys.stderr)


def write_plan(lines: Iterable[str], path: Path) -> int:
    """Write a plan as JSON lines, complete or not at all."""
    if str(path) == "-":
        sys.stdout.writelines(lines)
        return EXIT_OK
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.writelines(lines)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        print(f"Plan {path} cannot be written: {error.strerror}; choose another place.", file=sys.stderr)
        return EXIT_STOPPED
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
