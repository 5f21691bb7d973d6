"""What killed workers and drivers leave behind, and its removal at the next start."""

from __future__ import annotations

import contextlib
from pathlib import Path

from apero_dask.core.plan import Plan
from apero_dask.engine.worker import RUNNING
from apero_dask.io.atomic import leftovers
from apero_dask.io.markers import FOLDER, absolute
from apero_dask.io.trees import Trees


def clear_leftovers(plan: Plan, trees: Trees) -> int:
    """Remove temporary files from the folders the plan writes into, half-written markers and started marks.

    To be called by the driver that holds the lock, before anything runs.  Returns the number of temporary
    files.
    """
    folders = {path.rpartition("/")[0] for item in plan.by_key.values() for _, _, path in item.outputs()}
    removed = 0
    for folder in sorted(folders):
        for path in leftovers(absolute(trees, folder)):
            removed += _remove(path)
    markers = trees.log / FOLDER
    if markers.is_dir():
        for place in sorted(markers.iterdir()):
            if place.is_dir():
                for path in sorted(place.iterdir()):
                    # Markers are written under a hidden name, like products.
                    if path.name.startswith("."):
                        removed += _remove(path)
    running = trees.log / RUNNING
    if running.is_dir():
        for path in sorted(running.iterdir()):
            _remove(path)
    return removed


def _remove(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        # A worker of the dead driver may still be ending and tidy up itself.
        path.unlink()
        return True
    return False
