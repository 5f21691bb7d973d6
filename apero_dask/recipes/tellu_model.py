"""tellu_model: residual model of the atmosphere from all transmissions that passed; an internal task."""

from __future__ import annotations

from apero_dask.core.declare import Argument, Group, Makes, Recipe, Resources, register
from apero_dask.recipes.tellu_run import tellu_model

TELLU_MODEL = register(
    Recipe(
        name="tellu_model",
        short="PCA",
        scripts=(),
        group=Group.OBJECT,
        tree_in="reduced",
        tree_out="reduced",
        takes="",
        arguments=(Argument("transmissions", ("TRANS2", "TRANS1"), fibres=("AB",)),),
        makes=(Makes("MODEL1", ("AB",), variants=("p1",)), Makes("MODEL2", ("AB",), variants=("final",))),
        resources=Resources(memory_gb=0.5, seconds=3.0, per_input_s=0.1),
        internal=True,
        body=tellu_model,
    )
)
