"""Rows of the table of accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One judged quantity."""

    quantity: str
    target: str
    measured: str
    met: bool | None
    """None: it could not be measured, or nothing is asked of it."""
    note: str = ""

    @property
    def verdict(self) -> str:
        return {True: "met", False: "MISSED", None: "-"}[self.met]


def below(
    quantity: str,
    limit: float,
    values: dict[str, float],
    *,
    unit: str = "",
    form: str = ".3g",
    note: str = "",
) -> Figure:
    """All values below a limit, in absolute value."""
    text = ", ".join(f"{name} {value:{form}}".strip() for name, value in values.items())
    met = bool(values) and all(abs(value) < limit for value in values.values())
    return Figure(quantity, f"< {limit:g}{unit}", f"{text}{unit}", met, note)


def above(
    quantity: str,
    limit: float,
    values: dict[str, float],
    *,
    unit: str = "",
    form: str = ".4g",
    note: str = "",
) -> Figure:
    """All values above a limit."""
    text = ", ".join(f"{name} {value:{form}}".strip() for name, value in values.items())
    met = bool(values) and all(value > limit for value in values.values())
    return Figure(quantity, f"> {limit:g}{unit}", f"{text}{unit}", met, note)


def between(
    quantity: str, low: float, high: float, values: dict[str, float], *, form: str = ".3f", note: str = ""
) -> Figure:
    """All values between two limits."""
    text = ", ".join(f"{name} {value:{form}}".strip() for name, value in values.items())
    met = bool(values) and all(low < value < high for value in values.values())
    return Figure(quantity, f"{low:g}..{high:g}", text, met, note)


def told(quantity: str, text: str, note: str = "") -> Figure:
    """Something worth knowing of which nothing is asked."""
    return Figure(quantity, "", text, None, note)


def markdown(figures: Iterable[Figure]) -> str:
    """The table."""
    rows = ["| quantity | target | measured | verdict | note |", "|---|---|---|---|---|"]
    rows += [f"| {f.quantity} | {f.target} | {f.measured} | {f.verdict} | {f.note} |" for f in figures]
    return "\n".join(rows)
