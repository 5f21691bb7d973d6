"""What a run is scheduled with, from the declaration of its recipe."""

from __future__ import annotations

from apero_dask.core.plan import Node, Task

LEAST_MEMORY_MB = 400


def memory_mb(item: Task | Node | None, scale: float) -> int:
    """Memory for a run, MB; ``scale``: pixels of the instrument relative to full frames.

    A node of the plan, or nothing, needs the least that anything is scheduled with.
    """
    if not isinstance(item, Task):
        return LEAST_MEMORY_MB
    return max(LEAST_MEMORY_MB, round(item.step.recipe.resources.memory_gb * 1000 * scale))
