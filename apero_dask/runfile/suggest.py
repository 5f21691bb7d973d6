"""Names that the user probably meant."""

from __future__ import annotations

from collections.abc import Iterable

NEAR = 2
"""Largest edit distance of a near miss."""
SHARED = 6
"""Length of a shared beginning that makes a near miss of a longer name."""
LONGEST = 64
"""Longer names are not compared: nothing a user types by hand."""


def edit_distance(a: str, b: str) -> int:
    """Number of single letters to insert, delete or replace to get from ``a`` to ``b``.

    Notes
    -----
    Levenshtein (1966), computed row by row (Wagner & Fischer 1974).

    >>> edit_distance("CORE", "CORES"), edit_distance("DARKM", "BADM"), edit_distance("", "FF")
    (1, 3, 2)
    """
    previous = list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        row = [i]
        for j, other in enumerate(b, start=1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (letter != other)))
        previous = row
    return previous[-1]


def _shared_beginning(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """Candidate nearest to ``name``, without regard to case; None if nothing is near.

    Near means an edit distance of at most 2 that leaves something of the shorter name, or the same
    six first letters.  Of equally near candidates the alphabetically first is returned.

    >>> closest("calib_sec", ["calib_seq", "tellu_seq"]), closest("xx", ["PP", "FF"])
    ('calib_seq', None)
    >>> closest("cal_dark", ["cal_dark_master", "cal_leak"])
    'cal_dark_master'
    """
    wanted = name.upper()
    if not wanted or len(wanted) > LONGEST:
        return None
    best: tuple[int, int, str] | None = None
    for candidate in candidates:
        other = candidate.upper()
        shared = _shared_beginning(wanted, other)
        distance = NEAR + 1
        if abs(len(other) - len(wanted)) <= NEAR:
            distance = edit_distance(wanted, other)
        if distance > NEAR or distance >= min(len(wanted), len(other)):
            if shared < SHARED:
                continue
            distance = NEAR + 1
        rank = (distance, -shared, candidate)
        if best is None or rank < best:
            best = rank
    return None if best is None else best[2]
