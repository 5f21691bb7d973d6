"""Which run is worth starting first: the one with the longest chain of work behind it."""

from __future__ import annotations

from apero_dask.core.plan import Plan, Task
from apero_dask.planner.order import check_acyclic, optimistic_edges


def ranks(plan: Plan) -> dict[str, int]:
    """Place of every run and node in the order of submission, 0 first.

    Longest estimated time from its start to the end of everything that hangs on it comes first ("highest
    level first", Hu 1961, Oper. Res. 9, 841); ties in plan order.  A pure function of the plan.
    """
    order = check_acyclic(plan)
    left: dict[str, float] = dict.fromkeys(order, 0.0)
    for key in reversed(order):
        item = plan.by_key[key]
        cost = item.seconds() if isinstance(item, Task) else 0.0
        mine = left[key] = left[key] + cost
        for before in optimistic_edges(item):
            if mine > left[before]:
                left[before] = mine
    position = {key: number for number, key in enumerate(plan.by_key)}
    return {
        key: number
        for number, key in enumerate(sorted(order, key=lambda k: (-round(left[k], 3), position[k])))
    }
