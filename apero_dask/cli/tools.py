"""``apero-dask``: tools around a reduction."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from apero_dask import __version__

EXIT_DIFFERENT = 1
KIND_OF_SUFFIX = {".dot": "dot", ".gv": "dot", ".svg": "svg", ".mmd": "mermaid", ".md": "mermaid"}
"""Drawings by name of file; another name (.png) would hold text that its program cannot read."""


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

    _add_state_commands(commands)
    commands.add_parser(
        "retry",
        help="run chosen runs of a run file again (see apero-dask retry --help)",
        add_help=False,
    )
    commands.add_parser(
        "recipe",
        help="run one recipe: apero-dask recipe NAME ARGUMENTS (see apero-dask recipe NAME --help)",
        add_help=False,
    )
    commands.add_parser(
        "simulate",
        help="write raw frames with a known truth (see apero-dask simulate --help)",
        add_help=False,
    )
    return parser


def _add_state_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Commands that look at what was reduced below a data root."""
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument(
        "--data", metavar="DIR", help="folder with raw, tmp, reduced, ...; else APERO_DATA, else DRS_DATA_*"
    )
    status = commands.add_parser("status", parents=[where], help="how a reduction stands")
    status.add_argument("invocation", nargs="?", default="", metavar="INVOCATION", help="default: the newest")
    status.add_argument("--json", action="store_true", help="print one JSON object")

    why = commands.add_parser(
        "why", parents=[where], help="where a product comes from, or why it is not there"
    )
    why.add_argument("product", metavar="PRODUCT", help="name or path of a product, or of a registered file")
    why.add_argument(
        "--depth", type=int, default=1, metavar="N", help="generations of producers (0 = to raw)"
    )
    why.add_argument(
        "--invocation", default="", metavar="NAME", help="for a missing one; default: the newest"
    )
    why.add_argument("--json", action="store_true", help="print the marker of an existing product")

    verify = commands.add_parser(
        "verify", parents=[where], help="compare disk and markers; status 1 if they differ"
    )
    verify.add_argument("--night", default="", metavar="NIGHT", help="products of one night only")
    verify.add_argument("--size", action="store_true", help="compare sizes only, read no file")
    verify.add_argument("--all", action="store_true", help="list every file, however many")

    reset = commands.add_parser("reset", parents=[where], help="make databases anew")
    reset.add_argument(
        "--from-markers",
        action="store_true",
        required=True,
        help="state, calibration and telluric database from the markers of finished runs",
    )
    rv = commands.add_parser("rv", parents=[where], help="velocities of every object; writes their files")
    rv.add_argument("object", nargs="*", metavar="OBJECT", help="default: all")
    compare = commands.add_parser(
        "compare-rv", parents=[where], help="velocities beside those of a simulation; status 1 if they differ"
    )
    compare.add_argument(
        "--truth", type=Path, metavar="DIR", help="output folder of the simulation; default: the data root"
    )
    compare.add_argument(
        "--factor", type=float, default=1.3, metavar="X", help="scatter allowed over the errors (default 1.3)"
    )
    assets = commands.add_parser(
        "assets", help="line lists, masks, object table: what is used, and from where"
    )
    verbs = assets.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs.add_parser(
        "show", parents=[where], help="which file of every kind is used, where a better one goes"
    )
    take = verbs.add_parser(
        "import", parents=[where], help="take over those of an APERO installation, each checked by content"
    )
    take.add_argument("source", type=Path, metavar="DIR", help="folder that is searched, with all below it")
    take.add_argument("--force", action="store_true", help="replace files that are there")
    take.add_argument("--dry-run", action="store_true", help="say what would be taken, write nothing")
    detector = verbs.add_parser(
        "detector", parents=[where], help="make hot-pixel list and fixed patterns from the raw darks"
    )
    detector.add_argument("instrument", metavar="INSTRUMENT", help="SPIROU or SPIROU_MINI")
    detector.add_argument(
        "--flat",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="raw frame of the detector under full illumination; may be repeated",
    )


def _state_command(options: argparse.Namespace) -> int | None:
    """Run one of the commands about a data root; None if it is another one."""
    if options.command == "status":
        from apero_dask.cli.status import show_status

        return show_status(options.data, options.invocation, options.json)
    if options.command == "why":
        from apero_dask.cli.why import show_why

        return show_why(options.product, options.data, options.invocation, options.depth, options.json)
    if options.command == "verify":
        from apero_dask.cli.verify import show_verification

        check = "size" if options.size else "content"
        return show_verification(options.data, options.night, check, options.all)
    if options.command == "reset":
        from apero_dask.cli.verify import rebuild

        return rebuild(options.data)
    if options.command == "rv":
        from apero_dask.cli.velocities import show_velocities

        return show_velocities(options.data, options.object)
    if options.command == "compare-rv":
        from apero_dask.cli.velocities import compare_velocities

        return compare_velocities(options.data, options.truth, options.factor)
    if options.command == "assets":
        from apero_dask.cli.assets import make_detector, show_assets, take_assets

        if options.verb == "import":
            return take_assets(options.data, options.source, options.force, options.dry_run)
        if options.verb == "detector":
            return make_detector(options.data, options.instrument, options.flat)
        return show_assets(options.data)
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["simulate"]:
        from apero_dask.simulator.cli import main as simulate

        return simulate(arguments[1:])
    if arguments[:1] == ["retry"]:
        from apero_dask.cli.retry import retry

        return retry(arguments[1:])
    if arguments[:1] == ["recipe"] and len(arguments) > 1:
        from apero_dask.cli.recipe import main as recipe

        return recipe(arguments[2:], arguments[1])
    options = build_parser().parse_args(arguments)
    from apero_dask.report.plan_files import PlanFileError

    try:
        done = _state_command(options)
        if done is not None:
            return done
        if options.command == "plan":
            return plan_diff(options.first, options.second, options.json)
        return graph_of(options.plan, options.format, options.out, options.steps)
    except BrokenPipeError:
        # The reader of the text (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except PlanFileError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"{error.filename}: {error.strerror}; check its permissions or choose another place.",
            file=sys.stderr,
        )
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
        kind = KIND_OF_SUFFIX.get(out.suffix.lower()) if out is not None else "dot"
        if kind is None:
            print(
                f"{out}: a drawing is written as {', '.join(KIND_OF_SUFFIX)}; rename it, or use --format.",
                file=sys.stderr,
            )
            return 2
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
