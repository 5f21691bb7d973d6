"""Groups of frames against naive restatements of their rules."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from apero_dask.core.frames import FrameIndex, RawFrame
from apero_dask.planner.grouping import (
    canonical,
    even_in_time,
    exposure_sequences,
    fp_archive_list,
    mean_time,
    subgroups,
)
from tests.planner.archive import night_frames, worked_index
from tests.planner.markers import execute
from tests.planner.planning import codes, plan, run, runs, texts

ONE = "2018-09-25"


def frame(number: int, mjdmid: float, night: str = ONE, dprtype: str = "FP_FP") -> RawFrame:
    name = f"{2320000 + number}a"
    return RawFrame(name, night, f"{night}/{name}.fits", dprtype, mjdmid, 60.0, "ALIGN", "CALIB")


def naive_thinning(frames: list[RawFrame], most: int) -> list[RawFrame]:
    """Drop, again and again, the frame nearest to a neighbour; the earlier one on ties."""
    left = sorted(frames, key=lambda f: (f.mjdmid, f.identifier))
    while len(left) > most:
        gaps = []
        for i, f in enumerate(left):
            near = [abs(f.mjdmid - g.mjdmid) for g in (*left[max(i - 1, 0) : i], *left[i + 1 : i + 2])]
            gaps.append(min(near))
        left.pop(gaps.index(min(gaps)))
    return canonical(left)


@pytest.mark.parametrize("seed", range(20))
def test_even_in_time(seed: int) -> None:
    rng = random.Random(seed)
    step = rng.choice([1.0, 0.125])
    frames = [frame(n, 58000 + step * rng.randrange(60)) for n in range(rng.randrange(5, 60))]
    most = rng.randrange(2, 30)
    expected = naive_thinning(frames, most)
    assert even_in_time(frames, most) == expected
    rng.shuffle(frames)
    assert even_in_time(frames, most) == expected


def test_few_frames_are_all_taken() -> None:
    frames = [frame(n, 58000 + n) for n in range(5)]
    assert even_in_time(frames, 5) == frames
    assert even_in_time(frames, 100) == frames
    assert even_in_time([], 100) == []


def test_subgroups_start_two_hours_after_the_first_frame() -> None:
    hours = [0.0, 1.0, 1.9, 2.1, 3.9, 4.2, 30.0]
    found = subgroups([frame(n, 58000 + h / 24) for n, h in enumerate(hours)], 2.0)
    assert [[f.identifier[-3:-1] for f in group] for group in found] == [
        ["00", "01", "02"],
        ["03", "04"],
        ["05"],
        ["06"],
    ]


def test_small_sets_are_not_used() -> None:
    frames = [frame(n, 58000 + (n // 3) + 0.01 * n) for n in range(6)] + [
        frame(9, 58010.0),
        frame(10, 58010.01),
    ]
    chosen = fp_archive_list(frames, 100, 2.0, ONE)
    assert {f.identifier for f in chosen} == {frame(n, 0).identifier for n in range(6)}


@pytest.mark.parametrize("nights", [10, 60, 200])
def test_large_archive_keeps_whole_sets_and_those_of_the_master_night(nights: int) -> None:
    frames = [
        frame(10 * day + n, 58000 + day + 0.002 * n, f"n{day:03d}") for day in range(nights) for n in range(5)
    ]
    chosen = fp_archive_list(frames, 100, 2.0, "n007")
    assert len(chosen) <= 100
    by_night: dict[str, int] = {}
    for f in chosen:
        by_night[f.obs_dir] = by_night.get(f.obs_dir, 0) + 1
    assert min(by_night.values()) >= 3
    assert by_night["n007"] >= 3
    assert len(by_night) >= min(nights, 20)
    random.Random(1).shuffle(frames)
    assert fp_archive_list(frames, 100, 2.0, "n007") == chosen


def test_exposure_sequences_end_where_the_counter_does() -> None:
    counters = [1, 2, 3, 1, 2, 4, 5, 0, 0]
    frames = [frame(n, 58000 + n / 100) for n in range(len(counters))]
    frames = [RawFrame(**{**f.to_json(), "cmpltexp": c}) for f, c in zip(frames, counters, strict=True)]
    found = [[f.cmpltexp for f in group] for group in exposure_sequences(frames)]
    assert found == [[1, 2, 3], [1, 2], [4, 5], [0], [0]]


def test_exposure_sequences_take_the_nearest_set_of_the_second_argument() -> None:
    made = plan("CALIB_GROUPING = exposure_sequence\nid1 = calib_seq")
    evening, morning = runs(made, "WAVE", ONE)
    assert [f.identifier for f in evening.inputs[1].frames] == [f"23200{n}a" for n in range(20, 25)]
    assert [f.identifier for f in morning.inputs[1].frames] == [f"23200{n}a" for n in range(51, 56)]
    # Both bad-pixel runs of the night take the only darks, both kinds in one list.
    for task in runs(made, "BAD", ONE):
        assert [f.identifier for f in task.inputs[1].frames] == [f"232000{n}d" for n in (1, 2, 3, 4)]
    # Master steps combine the whole night whatever the grouping.
    master = plan("CALIB_GROUPING = exposure_sequence\nid1 = master_seq")
    assert [len(i.frames) for i in run(master, "WAVEM").inputs] == [4, 10]


def crowded(dprtype: str, number: int) -> FrameIndex:
    """The worked nights with more frames of one type on the first."""
    extra = [
        RawFrame(
            f"{2390000 + n}f",
            ONE,
            f"{ONE}/{2390000 + n}f.fits",
            dprtype,
            58386.2 + n * 1e-4,
            27.86,
            "FLAT",
            "CALIB",
        )
        for n in range(number)
    ]
    return FrameIndex.of([*worked_index(), *extra])


@pytest.mark.parametrize(
    ("keys", "dprtype", "short", "limit"),
    [
        ("", "FLAT_FLAT", "BAD", 20),
        ("", "FLAT_FLAT", "FF", 50),
        ("", "DARK_FLAT", "LOC", 50),
        ("", "FP_FP", "SHAPE", 20),
        ("GROUP_FILE_LIMIT = 7\n", "FLAT_FLAT", "FF", 7),
    ],
)
def test_group_limit_keeps_the_last_frames(keys: str, dprtype: str, short: str, limit: int) -> None:
    index = crowded(dprtype, 70)
    made = plan(keys + "id1 = calib_seq", index)
    task = next(t for t in runs(made, short, ONE) if t.inputs[0].frames[0].dprtype == dprtype)
    everything = [f for f in index if f.obs_dir == ONE and f.dprtype == dprtype]
    assert list(task.inputs[0].frames) == everything[-limit:]
    assert task.stem == everything[-limit].identifier
    said = [t for t in texts(made, "W-GROUP-LIMIT") if t.startswith(f"{short} of {ONE}")]
    assert said == [
        f"{short} of {ONE}: 80 {dprtype} frames, only the last {limit} are used (GROUP_FILE_LIMIT)."
    ]


def test_short_darks_are_not_used_for_the_reference() -> None:
    index = FrameIndex.of(
        RawFrame(**{**f.to_json(), "exptime": 5.0}) if f.identifier == "2320001d" else f
        for f in worked_index()
    )
    made = plan("id1 = master_seq", index)
    assert len(run(made, "DARKM").inputs[0].frames) == 9
    (count,) = [c for c in made.counts if c.step.short == "DARKM"]
    assert count.reasons == ("1 dark(s) shorter than 10 s left out",)
    assert (
        len(run(plan("DARK_MASTER_MIN_EXPTIME = 1\nid1 = master_seq", index), "DARKM").inputs[0].frames) == 10
    )


def test_archive_caps() -> None:
    made = plan("DARK_MASTER_MAX_FILES = 4\nSHAPE_MASTER_MAX_FILES = 12\nid1 = master_seq")
    assert len(run(made, "DARKM").inputs[0].frames) == 4
    combs = run(made, "SHAPEM").inputs[1].frames
    assert len(combs) <= 12
    assert sum(f.obs_dir == ONE for f in combs) >= 6


def test_archive_steps_of_an_execution_take_what_is_preprocessed() -> None:
    made = plan("RUN_PP = False\nNIGHT_NAME = 2018-09-25\nid1 = limited_seq", only_show=False)
    # Nothing is preprocessed: the runs are planned, and what they lack is named.
    assert len(run(made, "DARKM").inputs[0].frames) == 10
    assert "W-NOT-MADE" in codes(made)
    done = execute(plan("NIGHT_NAME = 2018-09-25\nid1 = pp_seq", only_show=False))
    later = plan("id1 = master_seq", snapshot=done.snapshot, only_show=False)
    assert {f.obs_dir for f in run(later, "DARKM").inputs[0].frames} == {ONE}
    assert {f.obs_dir for f in run(later, "SHAPEM").inputs[1].frames} == {ONE}
    shown = plan("id1 = master_seq", snapshot=done.snapshot)
    assert len(run(shown, "DARKM").inputs[0].frames) == 10


def test_mean_time_is_rounded_once() -> None:
    frames = night_frames(ONE)
    times = [f.mjdmid for f in frames]
    assert mean_time(frames) == fmean(times)
    assert mean_time(frames[::-1]) == mean_time(frames)
