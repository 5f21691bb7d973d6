"""Ids that must wait for earlier ones although no product ties them together.

Results are those of running the ids one after the other.  Runs of different ids overlap wherever products do
not forbid it; where a later id would write a file that an earlier one reads as it is on disk, and with
``--order strict`` between unlike neighbours, an order node holds the later id back until the earlier ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from apero_dask.core.plan import STORED, Node
from apero_dask.core.settings import Request as RunFileRequest
from apero_dask.planner.draft import Draft, Request


def add_order_nodes(draft: Draft, asked: Sequence[RunFileRequest], requests: Sequence[Request]) -> list[Node]:
    """Order nodes of the plan; the runs behind each get it as a dependency."""
    nodes: list[Node] = []
    strict = draft.settings.order == "strict"
    waiting: list[str] = []
    read: set[str] = set()
    models: dict[str, str] = {}
    before = ""
    for wanted, request in zip(asked, requests, strict=True):
        kind = wanted.command.recipe if wanted.command is not None else f"{wanted.sequence} {wanted.number}"
        needed = strict and bool(before) and kind != before
        mine = {i.producers[0]: i.others[0] for i in request.models.values()}
        if waiting and not needed:
            needed = any(models.get(path, key) != key for key, path in mine.items()) or (
                bool(read) and any(p in read for task in request.tasks for _, _, p in task.outputs())
            )
        if needed and waiting:
            node = Node(f"ORDER-{request.number:05d}", "order", tuple(waiting))
            nodes.append(node)
            waiting = [node.key]
        if nodes:
            for task in request.tasks:
                task.depends = (*task.depends, nodes[-1].key)
            for model in draft.nodes:
                if model.key in mine and model.key.endswith(f"-{request.number:05d}"):
                    model.after = nodes[-1].key
        waiting += [task.key for task in request.tasks]
        waiting += [key for key in mine if key.endswith(f"-{request.number:05d}")]
        if request is not requests[-1]:
            read |= _stored_reads(draft, request)
        models.update((path, key) for key, path in mine.items())
        if request.tasks:
            before = kind
    return nodes


def _stored_reads(draft: Draft, request: Request) -> set[str]:
    """Files of earlier invocations that the runs of an id may read."""
    if not draft.snapshot.outputs and not draft.snapshot.listing:
        return set()
    found: set[str] = set()
    seen: set[int] = set()
    for task in request.tasks:
        for inputs in task.inputs:
            if inputs.kind != "RAW" and STORED in inputs.producers:
                found.update(
                    p for producer, paths in inputs.by_producer() if producer == STORED for p in paths
                )
        if id(task.selections) in seen:
            continue
        seen.add(id(task.selections))
        for selection in task.selections:
            for candidate in selection.candidates:
                marker = draft.snapshot.markers.get(candidate.identity)
                if marker is not None:
                    found.update(output.path for output in marker.outputs)
    keys = {model.producers[0] for model in request.models.values()}
    for node in draft.nodes:
        if node.key in keys:
            found.update((*node.stored, *node.fallback_stored))
    return found
