"""Reference dark and bad pixels from the frames of the night alone, without those that were added."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from apero_dask.core.products import KINDS, folder
from apero_dask.core.work import InputFile
from apero_dask.io.fits import FitsFile
from apero_dask.io.trees import find_trees
from apero_dask.recipes.context import run_recipe
from apero_dask.simulator.spec import FrameSpec
from tests.accuracy.reduced import Reduced

VOLATILE = (("DRSPDATE", "2026-01-01T00:00:00"), ("DRSPID", "PID-1"))


@lru_cache
def bare_products(root: Path) -> tuple[FitsFile, FitsFile]:
    """Reference dark and bad pixels that the recipes make of the four darks and the flats, no static flat.

    The frames are preprocessed as those of the night are.
    """
    night = Reduced(root)
    shutil.rmtree(root / "bare", ignore_errors=True)
    darks = night.of_type("DARK_DARK_INT") + night.of_type("DARK_DARK_TEL")
    dark = _run(night, "cal_dark_master", "DARKM", "master", {"darkfiles": darks}, ["DARKM"])
    inputs = {"flatfiles": night.of_type("FLAT_FLAT"), "darkfiles": darks}
    bad = _run(night, "cal_badpix", "BAD", "night", inputs, ["BADPIX", "BKGRDMAP"])
    return FitsFile(dark["DARKM"]), FitsFile(bad["BADPIX"])


def _run(
    night: Reduced,
    recipe: str,
    short: str,
    tier: str,
    inputs: Mapping[str, Sequence[FrameSpec]],
    kinds: Sequence[str],
) -> dict[str, Path]:
    bare = night.root / "bare"
    plain = night.context(recipe)
    first = next(iter(inputs.values()))[0]
    outputs = tuple(
        (kind, "", folder("reduced", tier, night.night, KINDS[kind].life) + KINDS[kind].file_name("bare"))
        for kind in kinds
    )
    work = replace(
        plain.work,
        short=short,
        tier=tier,
        stem="bare",
        time=first.mjd_mid,
        identity=f"bare {recipe}",
        calibrations=(),
        outputs=outputs,
        volatile=VOLATILE,
        inputs=tuple(
            (name, tuple(InputFile(f"tmp/{s.obs_dir}/{s.identifier}_pp.fits") for s in specs))
            for name, specs in inputs.items()
        ),
    )
    trees = replace(find_trees(str(bare)), tmp=plain.trees.tmp)
    result = run_recipe(work, trees, night.instrument)
    return {made.kind: bare / made.path for made in result.outputs}
