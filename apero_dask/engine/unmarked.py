"""Products that were skipped because they are there, with no marker that tells what they are."""

from __future__ import annotations

from collections.abc import Iterator

from apero_dask.core.outcome import OutputRecord, State
from apero_dask.core.plan import Node, Plan, Task
from apero_dask.engine.made import Finished
from apero_dask.io.markers import absolute
from apero_dask.io.trees import Trees
from apero_dask.state.disk import sha256


def unmarked(plan: Plan, trees: Trees) -> Iterator[tuple[str, Finished]]:
    """Run key and products of skipped runs without a marker that runs of this plan read.

    Only ``skip_check = exists`` skips such runs.  The digest of the whole file stands for that of its
    content, which only whoever wrote the file could tell: when it is made again, so are its readers.

    Raises
    ------
    OSError
        A file cannot be read.
    """
    without = {t.key for t in plan.tasks if t.state is State.SKIPPED_EXISTS and not t.marker}
    if not without:
        return
    read: set[str] = set()
    for item in plan.by_key.values():
        if isinstance(item, Node):
            read.update(item.members, item.fallback)
        elif item.state is State.PLANNED:
            read.update(item.producers(), item.depends)
            read.update(c.source for s in item.selections for c in s.candidates)
    for key in sorted(without & read):
        task = plan.by_key[key]
        assert isinstance(task, Task)
        records = []
        for kind, fibre, name in task.outputs():
            path = absolute(trees, name)
            found = sha256(path)
            records.append(OutputRecord(kind, fibre, name, path.stat().st_size, found, found))
        yield key, Finished.of_run(task, task.identity(), tuple(records))
