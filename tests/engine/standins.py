"""Cheap stand-in bodies for every recipe: they combine the digests of what they read into a small product.

A product is a pure function of its inputs, calibrations and options, so that any mistake of the engine shows
as another content digest.  Faults are read from a file beside the data, so that they reach all workers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import apero_dask.recipes  # noqa: F401
from apero_dask.core.declare import registered, set_body
from apero_dask.core.errors import DataError
from apero_dask.core.work import TaskOutcome, Work
from apero_dask.engine.worker import run_task
from apero_dask.io.fitswriter import Image
from apero_dask.recipes.context import RecipeContext

FAULTS = "faults.json"
TRACE = "trace.txt"
"""Below the log tree: one line for every body that was really executed."""


def faults_of(ctx: RecipeContext) -> dict[str, Any]:
    """Fault planned for this run: ``{"kind": ..., ...}`` by "<SHORT> <night> <stem>" and shorter forms."""
    path = ctx.trees.log / FAULTS
    if not path.exists():
        return {}
    table = json.loads(path.read_text(encoding="utf-8"))
    work = ctx.work
    for name in (
        f"{work.short} {work.obs_dir} {work.stem}",
        f"{work.short} {work.stem}",
        f"{work.short} {work.obs_dir}",
        work.short,
        "*",
    ):
        if name in table:
            return dict(table[name])
    return {}


def draw(work: Work, purpose: str) -> float:
    """Number in [0, 1) that depends on run, attempt and purpose alone, the same in every process."""
    text = f"{work.identity} {work.attempt} {purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _once(ctx: RecipeContext, name: str) -> bool:
    """True the first time a run comes here, whichever process it is in."""
    mark = ctx.trees.log / f"{name}_{ctx.work.key}"
    if mark.exists():
        return False
    mark.touch()
    return True


def misbehave(ctx: RecipeContext, fault: dict[str, Any]) -> None:
    """Do what the fault says, before anything is written."""
    kind = fault.get("kind", "")
    if kind == "sleep":
        time.sleep(fault["seconds"])
    elif kind == "sleep_once":
        if _once(ctx, "slept"):
            time.sleep(fault["seconds"])
    elif kind == "jitter":
        time.sleep(fault["seconds"] * draw(ctx.work, "jitter"))
    elif kind == "error":
        raise DataError("planned failure")
    elif kind == "bug":
        raise ZeroDivisionError("planned defect")
    elif kind == "memory":
        raise MemoryError("planned")
    elif kind == "kill" or (kind == "kill_once" and _once(ctx, "killed")):
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "transient" and draw(ctx.work, f"transient {fault.get('seed', 0)}") < fault["share"]:
        raise OSError(5, "Input/output error", "somewhere")
    elif kind == "flip" and _once(ctx, "flipped"):
        # Somebody damages a product of an earlier run while this one is at work.
        target = ctx.trees.path(fault["path"].partition("/")[0]) / fault["path"].partition("/")[2]
        flip_bit(target)


def flip_bit(path: Any, position: int = -3000) -> None:
    """Change one bit of a file; a file that other trees share by hard links is copied first."""
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.unlink()
    path.write_bytes(bytes(content))


def body(ctx: RecipeContext) -> None:
    """Write every declared product; its pixels come from a digest of everything that was read."""
    fault = faults_of(ctx)
    with (ctx.trees.log / TRACE).open("a", encoding="utf-8") as stream:
        stream.write(f"{ctx.work.short} {ctx.work.key} {ctx.work.attempt}\n")
    misbehave(ctx, fault)
    total = hashlib.sha256()
    for argument, files in ctx.work.inputs:
        total.update(argument.encode())
        for file in files:
            total.update(file.path.encode())
            total.update(file.content.encode())
    for calibration in ctx.work.calibrations:
        total.update(repr((calibration.kinds, calibration.source, calibration.rank)).encode())
        total.update(calibration.content.encode())
    total.update(repr(ctx.work.options).encode())
    failed = fault.get("kind") == "qc"
    ctx.qc("STANDIN", 0 if failed else 1, "STANDIN < 1", not failed)
    seed = total.digest()
    for product, fibre, path in ctx.work.outputs:
        mixed = hashlib.sha256(seed + product.encode() + fibre.encode() + path.encode()).digest()
        ctx.save(product, Image(product, np.frombuffer(mixed, dtype=np.uint8).reshape(4, 8)), fibre=fibre)


def install() -> None:
    """Give every recipe the stand-in body."""
    for name, recipe in registered().items():
        if recipe.body is not body:
            set_body(name, body)


@contextlib.contextmanager
def standing_in() -> Iterator[None]:
    """Every recipe has the stand-in body, and its own again afterwards: other tests share the process."""
    before = {name: recipe.body for name, recipe in registered().items()}
    install()
    try:
        yield
    finally:
        for name, own in before.items():
            set_body(name, own)


def run(work: Work, upstream: Sequence[TaskOutcome] = ()) -> TaskOutcome:
    """What a worker executes in these tests."""
    install()
    return run_task(work, tuple(upstream))
