"""``apero_processing``: plan a run file, show the plan or execute it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apero_dask.cli.options import parse
from apero_dask.core.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_STOPPED, Finding, UserError

if TYPE_CHECKING:
    from apero_dask.cli.prepare import Prepared
    from apero_dask.core.plan import Plan
    from apero_dask.runfile.merge import CommandLine


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return process(parse(argv))


def process(line: CommandLine, text: str | None = None) -> int:
    """Plan a run file, show the plan or execute it; returns the exit status.

    ``text``: content of the run file, if there is none on the disk.
    """
    from apero_dask.notebook.calls import plan, read_run_file, run

    try:
        request = read_run_file(line, text=text)
        if not request.prepared.only_show:
            return run(request).status
        planned = plan(request)
    except UserError as error:
        show(error.findings if text is None else without_id(error.findings))
        return error.status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    show(planned.findings)
    return show_plan(line, request.prepared, planned.plan)


def without_id(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Findings without the id and the line of a run file that nobody has written."""
    for finding in findings:
        yield Finding(finding.code, finding.text.removeprefix("id00001: "), only_warn=finding.only_warn)


def show(findings: Iterable[Finding]) -> None:
    """Print messages, one a line, on the error stream."""
    for finding in findings:
        print(finding, file=sys.stderr)


def show_plan(line: CommandLine, prepared: Prepared, plan: Plan) -> int:
    """Write the plan as JSON lines, or list it."""
    try:
        if line.plan is not None:
            return write_plan(plan.json_lines(), Path(line.plan))
        from apero_dask.report.plan_view import listing

        for tree, path, origin in prepared.trees.items():
            print(f"{tree:<8} {path} ({origin})")
        print(f"run file {prepared.run_file}: {prepared.settings.run_name}\n")
        for text in listing(plan, prepared.instrument):
            print(text)
    except BrokenPipeError:
        # The reader of the listing (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_OK


def write_plan(lines: Iterable[str], path: Path) -> int:
    """Write a plan as JSON lines, complete or not at all; ``-`` is the standard output.

    A device or a pipe is written to, never replaced; of a link, the file that it leads to is replaced.
    """
    if str(path) == "-":
        sys.stdout.writelines(lines)
        return EXIT_OK
    try:
        write_lines(lines, path)
    except OSError as error:
        print(f"Plan {path} cannot be written: {error.strerror}; choose another place.", file=sys.stderr)
        return EXIT_STOPPED
    return EXIT_OK


def write_lines(lines: Iterable[str], path: Path) -> None:
    """Write a file whole or not at all; see :func:`write_plan`.

    Raises
    ------
    OSError
        It cannot be written.
    """
    temporary: Path | None = None
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open("w", encoding="utf-8") as stream:
                stream.writelines(lines)
            return
        target = path.resolve()
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        with temporary.open("w", encoding="utf-8") as stream:
            stream.writelines(lines)
        temporary.replace(target)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
