"""Settings of all tests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# A busy machine draws slowly; time says nothing about correctness here.
settings.register_profile("apero", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("apero")

SHARING = ("recipes", "engine", "cluster", "report", "cli")
"""Folders whose tests share archives that take long to make, the slowest first: each stays in one process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests for parallel processes, and start the longest groups first."""

    def group(item: pytest.Item) -> str:
        folder = item.path.parent.name
        return folder if folder in SHARING else f"{folder}/{item.path.name}"

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    order = {name: place for place, name in enumerate(SHARING)}
    items.sort(key=lambda item: order.get(group(item), len(order)))
