"""Which copy of an exposure counts: against the rule written out in the slow way."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from apero_dask.core.frames import FOLD_DUPLICATES, RawFrame, drop_duplicates


def frame(identifier: str, night: str, mjdmid: float, ending: str = ".fits", name: str = "") -> RawFrame:
    path = f"{night}/{name or identifier}{ending}"
    return RawFrame(identifier, night, path, "OBJ_FP", mjdmid, 300.0)


def slow_rule(frames: list[RawFrame]) -> set[str]:
    """Paths that stay: distances by brute force over all pairs of frames."""
    identifiers = {f.identifier for f in frames}
    where = {i: {f.obs_dir for f in frames if f.identifier == i} for i in identifiers}
    stay = set()
    for identifier in identifiers:
        candidates = []
        for night in where[identifier]:
            copies = [f for f in frames if f.identifier == identifier and f.obs_dir == night]
            named = [f for f in copies if f.path.split("/")[-1].split(".")[0] == identifier] or copies
            copy = sorted(named, key=lambda f: f.path)[0]
            distances = [
                abs(other.mjdmid - copy.mjdmid)
                for other in frames
                if other.obs_dir == night and not where[identifier] <= where[other.identifier]
            ]
            candidates.append((min(distances, default=math.inf), night, copy.mjdmid, identifier, copy.path))
        stay.add(min(candidates)[-1])
    return stay


def test_without_copies_nothing_happens_but_canonical_order() -> None:
    frames = [frame("2320002o", "b", 2.0), frame("2320003o", "a", 9.0), frame("2320001o", "b", 1.0)]
    kept, findings = drop_duplicates(frames)
    assert [f.identifier for f in kept] == ["2320003o", "2320001o", "2320002o"]
    assert findings == ()


def test_copy_stays_in_the_night_of_its_neighbours() -> None:
    frames = [
        frame("2320030o", "2018-09-25", 58386.27),
        frame("2320031o", "2018-09-25", 58386.28),
        frame("2320031o", "2018-09-24", 58386.28),  # sorts first, but belongs to the night after
        frame("2319990o", "2018-09-24", 58385.30),
    ]
    kept, findings = drop_duplicates(frames)
    assert [(f.identifier, f.obs_dir) for f in kept] == [
        ("2319990o", "2018-09-24"),
        ("2320030o", "2018-09-25"),
        ("2320031o", "2018-09-25"),
    ]
    assert [str(f) for f in findings] == [
        "W-DUP-FRAME: Frame 2320031o exists in 2018-09-25 and 2018-09-24; using the one of 2018-09-25."
    ]


def test_frames_misplaced_together_do_not_vouch_for_each_other() -> None:
    together = [(f"232003{n}o", 58386.28 + 0.004 * n) for n in range(3)]
    frames = [frame(i, night, t) for i, t in together for night in ("2018-09-24", "2018-09-25")]
    frames += [frame("2320001d", "2018-09-25", 58386.1), frame("2319990o", "2018-09-24", 58385.3)]
    kept, _ = drop_duplicates(frames)
    assert {f.obs_dir for f in kept if f.identifier.startswith("232003")} == {"2018-09-25"}


def test_a_copied_night_counts_once_and_is_reported_in_one_message() -> None:
    times = [(f"23200{n:02d}o", 58386.0 + n / 100) for n in range(FOLD_DUPLICATES + 1)]
    frames = [frame(i, night, t) for i, t in times for night in ("night", "night copy")]
    kept, findings = drop_duplicates(frames)
    assert {f.obs_dir for f in kept} == {"night"} and len(kept) == len(times)
    assert [f.text for f in findings] == [
        "Frame 2320000o, 2320001o, 2320002o, 2320003o, 2320004o, 2320005o, 2320006o, 2320007o, ... "
        "(9 in all) exists in night and night copy; using the one of night."
    ]
    few, findings = drop_duplicates(frames[:16])
    assert len(few) == len(findings) == 8


def test_copies_inside_one_night() -> None:
    compressed = frame("2320031o", "a", 1.0, ".fits.gz")
    renamed = frame("2320031o", "a", 1.0, name="2320001o")
    plain = frame("2320031o", "a", 1.0)
    kept, findings = drop_duplicates([compressed, renamed, plain])
    assert kept == (plain,)
    assert findings[0].text == (
        "Frame 2320031o exists in a/2320031o.fits and a/2320001o.fits, a/2320031o.fits.gz; "
        "using the one of a/2320031o.fits."
    )
    assert drop_duplicates([compressed, renamed])[0] == (compressed,)


def test_removing_a_night_before_gives_the_frame_back() -> None:
    near, far = frame("2320031o", "a", 1.0), frame("2320031o", "b", 1.0)
    frames = [near, far, frame("2320030o", "a", 0.9), frame("2320040o", "b", 5.0)]
    assert near in drop_duplicates(frames)[0]
    assert far in drop_duplicates([f for f in frames if f.obs_dir != "a"])[0]


@st.composite
def archives(draw: st.DrawFn) -> list[RawFrame]:
    """Few nights and identifiers on a coarse time grid: many copies, many ties."""
    times = {f"23200{n:02d}o": draw(st.integers(0, 12)) / 4 for n in range(8)}
    places = [
        (identifier, night, ending)
        for identifier, night, ending in itertools.product(times, "abcd", (".fits", ".fits.gz"))
        if ending == ".fits" or identifier.endswith("0o")
    ]
    chosen = draw(st.lists(st.sampled_from(places), unique=True, max_size=24))
    return [frame(i, night, times[i] + (night == "d") / 8, ending) for i, night, ending in chosen]


@given(archives(), st.randoms())
def test_the_slow_rule_agrees_whatever_the_order(frames: list[RawFrame], order: random.Random) -> None:
    kept, findings = drop_duplicates(frames)
    assert {f.path for f in kept} == slow_rule(frames)
    assert list(kept) == sorted(kept, key=lambda f: f.order_key)
    counts = Counter(f.identifier for f in frames)
    assert bool(findings) == any(count > 1 for count in counts.values())
    shuffled = list(frames)
    order.shuffle(shuffled)
    assert drop_duplicates(shuffled) == (kept, findings)
