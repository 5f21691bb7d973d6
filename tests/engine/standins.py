"""Cheap stand-in bodies for every recipe: they combine the digests of what they read into a small product.

A product is a pure function of its inputs, calibrations and options, so that any mistake of the engine shows as
another content digest.  Faults are read from a file beside the data, so that they reach every worker process.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Sequence
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


def faults_of(ctx: RecipeContext) -> dict[str, Any]:
    """Faults planned for this run: {"kind": ..., ...} by "<SHORT> <place> <stem>", or empty."""
    path = ctx.trees.log / FAULTS
    if not path.exists():
        return {}
    table = json.loads(path.read_text(encoding="utf-8"))
    work = ctx.work
    for name in (f"{work.short} {work.obs_dir} {work.stem}", f"{work.short} {work.stem}", work.short):
        if name in table:
            return dict(table[name])
    return dict(table.get("*", {}))


def body(ctx: RecipeContext) -> None:
    """Write every declared product; its pixels come from a digest of everything that was read."""
    fault = faults_of(ctx)
    kind = fault.get("kind", "")
    if kind == "sleep":
        time.sleep(fault["seconds"])
    if kind == "error":
        raise DataError("planned failure")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "kill_once":
        mark = ctx.trees.log / f"killed_{ctx.work.key}"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if kind == "transient":
        rng = np.random.default_rng(abs(hash((ctx.work.identity, ctx.work.attempt))) % 2**32)
        if ctx.work.attempt <= fault.get("times", 1) and rng.random() < fault.get("share", 1.0):
            raise OSError(5, "Input/output error", "somewhere")
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
    ctx.qc("STANDIN", 0 if kind == "qc" else 1, "STANDIN < 1", kind != "qc")
    seed = total.digest()
    for product, fibre, path in ctx.work.outputs:
        mixed = hashlib.sha256(seed + product.encode() + fibre.encode() + path.encode()).digest()
        ctx.save(product, Image(product, np.frombuffer(mixed, dtype=np.uint8).reshape(4, 8)), fibre=fibre)


def install() -> None:
    """Give every recipe the stand-in body."""
    for name, recipe in registered().items():
        if recipe.body is not body:
            set_body(name, body)


def run(work: Work, upstream: Sequence[TaskOutcome] = ()) -> TaskOutcome:
    """What a worker executes in these tests."""
    install()
    return run_task(work, tuple(upstream))
