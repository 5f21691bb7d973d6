"""Ranking of calibration candidates by themselves: ties, own night, unknown times, numbers."""

from __future__ import annotations

from apero_dask.core.settings import Settings
from apero_dask.planner.selection import Maker, Shelf, candidates


def maker(time: float, night: str, tier: str = "night", source: str = "run", stem: str = "a") -> Maker:
    return Maker(time, tier, night, source, "" if source else f"id {stem}", stem)


def test_ties() -> None:
    settings = Settings()
    makers = [
        maker(11.0, "later"),
        maker(9.0, "earlier", stem="b"),
        maker(9.0, "earlier", "master"),
        maker(9.0, "earlier", source="", stem="a"),
        maker(9.0 + 4e-7, "near", stem="0"),
    ]
    ranked = Shelf.of(reversed(makers)).ranked("night", 10.0, settings)
    labels = [(m.obs_dir, m.tier, bool(m.source)) for m, _ in ranked]
    # Earlier time first, then night before master tier, then planned before stored; the fourth differs by
    # less than 0.1 s in distance but is later.
    assert labels == [
        ("earlier", "night", True),
        ("earlier", "night", False),
        ("earlier", "master", True),
        ("near", "night", True),
        ("later", "night", True),
    ]


def test_own_night_is_first_whatever_its_time() -> None:
    shelf = Shelf.of([maker(10.4, "night", stem="x"), maker(10.0, "other"), maker(10.1, "night", "master")])
    ranked = shelf.ranked("night", 10.0, Settings(max_calib_dtime=0.2))
    assert [(m.obs_dir, m.tier, own) for m, own in ranked] == [
        ("night", "night", True),
        ("other", "night", False),
        ("night", "master", False),
    ]


def test_unknown_time_leaves_the_own_night() -> None:
    shelf = Shelf.of([maker(10.4, "night"), maker(10.0, "other")])
    found = candidates(shelf, ("BADPIX",), "night", float("nan"), Settings(), after=0, other=False)
    assert [(c.obs_dir, c.rank, c.fallback) for c in found] == [("night", 1, False)]


def test_ranks_number_on_after_another_kind() -> None:
    shelf = Shelf.of([maker(10.4, "night"), maker(10.0, "other")])
    for after, expected in ((0, [2, 3]), (1, [2, 3]), (4, [5, 6])):
        found = candidates(shelf, ("THERMALI",), "night", 10.0, Settings(), after=after, other=True)
        assert [c.rank for c in found] == expected
