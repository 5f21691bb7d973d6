"""Command line of the simulator: ``apero-dask simulate``."""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

EXIT_BAD_INPUT = 2
EXIT_STORAGE = 5
"""Exit status: the command cannot be carried out as given; it could not be carried on."""


SMALL_CAMPAIGNS = ("demo", "rv", "season", "faults")
"""Campaigns that use the small instrument unless another one is named."""


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    p = argparse.ArgumentParser(
        prog="apero-dask simulate",
        description="Write raw SPIRou frames with a known truth, or a picture of one frame.",
    )
    p.add_argument("--list", action="store_true", help="list the built-in campaigns and stop")
    p.add_argument(
        "--show-config", action="store_true", help="print the configuration with all options applied and stop"
    )
    p.add_argument("--campaign", metavar="NAME", help="built-in campaign (default: demo)")
    p.add_argument(
        "--instrument",
        metavar="NAME",
        help="SPIROU, SPIROU_MINI or a geometry of the configuration (default: SPIROU_MINI for "
        f"{', '.join(SMALL_CAMPAIGNS)}, else SPIROU)",
    )
    p.add_argument("--out", metavar="DIR", type=Path, help="folder that receives raw/, truth/ and assets/")
    p.add_argument("--seed", type=int, metavar="N", help="campaign seed (default: 1)")
    p.add_argument("--nights", type=int, metavar="N", help="number of nights")
    p.add_argument("--frames", type=int, metavar="N", help="exposures of the science target per night")
    p.add_argument("--extra-night", action="store_true", help="append a night 13 days after the first")
    p.add_argument("--headers-only", action="store_true", help="write files of one header, without pixels")
    p.add_argument("--config", metavar="FILE", type=Path, help="configuration (TOML)")
    p.add_argument("--assets", metavar="DIR", type=Path, help="folder with real line lists")
    p.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    p.add_argument(
        "--no-truth-images", action="store_true", help="leave the large planes out of the truth files"
    )
    p.add_argument("--preview", metavar="FRAME", type=Path, help="draw a picture of this frame and stop")
    p.add_argument(
        "--png", metavar="FILE", type=Path, help="where --preview writes (default: the current folder)"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 done, 2 unusable input, 5 stopped by disk or memory."""
    options = parser().parse_args(argv)
    from apero_dask.simulator.archive import StorageError
    from apero_dask.simulator.settings import ConfigError

    try:
        if options.list:
            return _list()
        if options.preview:
            return _preview(options)
        if options.show_config:
            return _show(options)
        return _simulate(options)
    except ConfigError as error:
        print(f"apero-dask simulate: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except StorageError as error:
        print(f"apero-dask simulate: {error}", file=sys.stderr)
        return EXIT_STORAGE
    except MemoryError:
        print(
            "apero-dask simulate: out of memory; use fewer --workers, then give the same command again: "
            "finished frames are kept.",
            file=sys.stderr,
        )
        return EXIT_STORAGE
    except KeyboardInterrupt:
        print("apero-dask simulate: interrupted; the same command carries on.", file=sys.stderr)
        return 130


def _list() -> int:
    from apero_dask.simulator.programmes import PROGRAMMES

    for programme in PROGRAMMES.values():
        print(f"{programme.name:8s} {programme.nights:4d} nights  {programme.summary}")
    return 0


def _configuration(options: argparse.Namespace):
    """The configuration file, if any, with the options of the command line laid over it."""
    from apero_dask.simulator.config import SimulatorConfig, read_config

    config = read_config(options.config) if options.config else SimulatorConfig()
    named_there = options.config is not None and "instrument" in tomllib.loads(options.config.read_text())
    named = {"name": options.campaign, "nights": options.nights, "frames": options.frames}
    given = {key: value for key, value in named.items() if value is not None}
    if options.extra_night:
        given["extra_night"] = True
    changes = {"campaign": replace(config.campaign, **given)}
    if options.instrument is not None:
        changes["instrument"] = options.instrument
    elif not named_there and changes["campaign"].name in SMALL_CAMPAIGNS:
        changes["instrument"] = "SPIROU_MINI"
    if options.seed is not None:
        changes["seed"] = options.seed
    if options.no_truth_images:
        changes["output"] = replace(config.output, truth_images=False)
    if options.assets is not None:
        changes["lines"] = replace(config.lines, folder=str(options.assets))
    return replace(config, **changes)


def _show(options: argparse.Namespace) -> int:
    from apero_dask.simulator.config import document

    print(document(_configuration(options)), end="")
    return 0


def _simulate(options: argparse.Namespace) -> int:
    from apero_dask.simulator.archive import Archive
    from apero_dask.simulator.runner import run_campaign, run_headers
    from apero_dask.simulator.settings import ConfigError

    if options.out is None:
        raise ConfigError("no output folder given; name one with --out DIR.")
    if options.workers < 1:
        raise ConfigError(f"--workers {options.workers}: expected 1 or more.")
    config = _configuration(options)
    archive = Archive(options.out.absolute())
    started = time.monotonic()
    progress = _Progress()
    run = run_headers if options.headers_only else run_campaign
    summary = run(config, archive, options.workers, progress)
    progress.end()
    print(
        f"{summary.frames} frames of campaign '{config.campaign.name}' ({config.instrument}, "
        f"seed {config.seed}) in {archive.root}: {summary.written} written, {summary.kept} already there, "
        f"{time.monotonic() - started:.1f} s"
    )
    return 0


class _Progress:
    """One line that counts up on a terminal, a line every ten per cent elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._tenth = -1
        self._shown = 0.0

    def __call__(self, done: int, total: int, name: str) -> None:
        if self._terminal:
            now = time.monotonic()
            if done == total or now - self._shown > 0.1:
                self._shown = now
                print(f"\r{done}/{total} {name:<40.40s}", end="", file=sys.stderr, flush=True)
        elif 10 * done // total > self._tenth:
            self._tenth = 10 * done // total
            print(f"{done}/{total} {name}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._terminal:
            print(file=sys.stderr)


def _preview(options: argparse.Namespace) -> int:
    from apero_dask.simulator.preview import preview

    print(preview(options.preview, options.png))
    return 0


if __name__ == "__main__":
    sys.exit(main())
