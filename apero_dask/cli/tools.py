"""``apero-dask``: tools around a reduction."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from apero_dask import __version__

EXIT_DIFFERENT = 1


def build_parser() -> argparse.ArgumentParser:
    """Parser of ``apero-dask COMMAND ...``."""
    parser = argparse.ArgumentParser(prog="apero-dask", description="Tools around apero_processing.")
    parser.add_argument("--version", action="version", version=f"apero_dask {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    plan = commands.add_parser("plan", help="look at plans written with --plan")
    verbs = plan.add_subparsers(dest="verb", metavar="VERB", required=True)
    diff = verbs.add_parser("diff", help="compare two plans; status 1 if they differ")
    diff.add_argument("first", type=Path, metavar="A")
    diff.add_argument("second", type=Path, metavar="B")
    diff.add_argument("--json", action="store_true", help="print the differing records")

    graph = commands.add_parser("graph", help="draw a plan folded to steps and nights")
    graph.add_argument("plan", type=Path, metavar="PLAN", help="file written with --plan")
    graph.add_argument("--format", choices=("dot", "svg", "mermaid"), help="default: by the name of --out")
    graph.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
    graph.add_argument("--steps", action="store_true", help="fold all nights into one point per step")

    commands.add_parser(
        "simulate",
        help="write raw frames with a known truth (see apero-dask simulate --help)",
        add_help=False,
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["simulate"]:
        from apero_dask.simulator.cli import main as simulate

        return simulate(arguments[1:])
    options = build_parser().parse_args(arguments)
    from apero_dask.report.plan_files import PlanFileError

    try:
        if options.command == "plan":
            return plan_diff(options.first, options.second, options.json)
        return graph_of(options.plan, options.format, options.out, options.steps)
    except PlanFileError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename}: {error.strerror}; choose another place.", file=sys.stderr)
        return 5


def plan_diff(first: Path, second: Path, as_json: bool) -> int:
    """Print how two plans differ."""
    from apero_dask.report.plan_files import compare, difference_lines, read_plan

    difference = compare(read_plan(first), read_plan(second))
    if as_json:
        for sign, records in (("-", difference.only_first), ("+", difference.only_second)):
            for record in records:
                print(json.dumps({"sign": sign, "record": record}))
        for one, two, names in difference.changed:
            print(json.dumps({"sign": "~", "fields": names, "first": one, "second": two}))
    else:
        for text in difference_lines(difference) or ["The plans are equal."]:
            print(text)
    return EXIT_DIFFERENT if difference else 0


def graph_of(plan: Path, kind: str | None, out: Path | None, steps: bool) -> int:
    """Write the drawing of a plan."""
    from apero_dask.report.plan_files import read_plan
    from apero_dask.report.plan_graph import fold, to_dot, to_mermaid

    folded = fold(read_plan(plan), by_night=not steps)
    if kind is None:
        suffix = out.suffix if out is not None else ""
        kind = {".svg": "svg", ".mmd": "mermaid", ".md": "mermaid"}.get(suffix, "dot")
    text = to_mermaid(folded) if kind == "mermaid" else to_dot(folded)
    if kind == "svg":
        dot = shutil.which("dot")
        if dot is None:
            print(
                "SVG needs the program dot of graphviz, which is not installed; "
                "install it, or use --format dot or mermaid.",
                file=sys.stderr,
            )
            return 2
        drawn = subprocess.run([dot, "-Tsvg"], input=text, capture_output=True, text=True, check=False)
        if drawn.returncode:
            print(f"dot ended with status {drawn.returncode}: {drawn.stderr.strip()}", file=sys.stderr)
            return 2
        text = drawn.stdout
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
