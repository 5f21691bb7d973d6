"""Records that travel between processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Travels:
    """Base of frozen dataclasses with slots that are pickled by the thousand.

    They are pickled as the call that makes them.  What dataclasses do by themselves looks every field up by
    name in both directions, which costs a driver more than all it decides about a run.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        kind = type(self)
        return kind, tuple([getattr(self, name) for name in kind.__match_args__])  # type: ignore[attr-defined]
