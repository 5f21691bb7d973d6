"""Bodies of internal nodes: tasks with a product that no recipe line names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_BODIES: dict[str, Callable[..., Any]] = {}


def register_internal(product: str, body: Callable[..., Any]) -> None:
    """Make ``body`` the function that computes an internal product kind."""
    _BODIES[product] = body


def internal_body(name: str) -> Callable[..., Any] | None:
    """Body of an internal product kind; None for the name of a recipe."""
    return _BODIES.get(name)
