"""A plan is a function of what goes in: no order of files, hash seed or repetition shows in it."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import apero_dask
from apero_dask.core.frames import FrameIndex, RawFrame
from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan
from apero_dask.core.snapshot import Snapshot
from apero_dask.planner.build import build_plan
from apero_dask.planner.order import check_acyclic, critical_path
from tests.planner.archive import worked_index
from tests.planner.markers import execute
from tests.planner.planning import SPIROU, plan, settings_of
from tests.planner.test_skip import SKIP_ALL

TEXTS = (
    "id1 = limited_seq",
    "RUN_SCIPOST = True\nid1 = full_seq",
    "CALIB_GROUPING = exposure_sequence\nCALIB_BIN_IN_TIME = False\nid1 = calib_seq\nid2 = eng_seq",
    "id3 = science_seq\nid1 = tellu_seq\nid2 = pp_seq_opt",
)


def content(made: Plan) -> str:
    """Digest of the written plan and its messages."""
    text = "".join(made.json_lines()) + "\n".join(str(f) for f in made.findings)
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("text", TEXTS)
def test_order_of_frames(text: str) -> None:
    frames = list(worked_index("2018-10-08"))
    expected = content(plan(text, FrameIndex.of(frames)))
    for seed in range(5):
        random.Random(seed).shuffle(frames)
        assert content(plan(text, FrameIndex.of(frames))) == expected


def test_order_of_the_lines_of_the_run_file() -> None:
    lines = [
        "MASTER_OBS_DIR = 2018-09-25",
        "SCIENCE_TARGETS = Gl699, TOI-442",
        "RUN_LEAKOBJ = False",
        "CALIB_DB_MATCH = older",
        "EXCLUDE_OBS_DIRS = 2018-09-27",
        "id2 = science_seq",
        "id1 = tellu_seq",
        "id10 = calib_seq",
    ]
    expected = list(plan("\n".join(lines), base="").json_lines())
    for seed in range(5):
        random.Random(seed).shuffle(lines)
        text = "# one comment\n\n" + "  # and another\n".join(lines)
        assert list(plan(text, base="").json_lines()) == expected


def test_order_of_markers() -> None:
    done = execute(plan("id1 = limited_seq", only_show=False))
    markers = list(done.snapshot.markers.values())
    text = SKIP_ALL + "id1 = limited_seq"
    expected = content(plan(text, worked_index("2018-10-08"), snapshot=done.snapshot, only_show=False))
    for seed in range(3):
        random.Random(seed).shuffle(markers)
        made = plan(text, worked_index("2018-10-08"), snapshot=Snapshot.of(markers), only_show=False)
        assert content(made) == expected


def test_order_of_completion_does_not_show_in_what_is_left() -> None:
    made = plan("id1 = limited_seq", only_show=False)
    contents = {
        tuple(sorted((p, o.content) for p, (_, o) in execute(made, seed=seed).snapshot.outputs.items()))
        for seed in (None, 1, 2)
    }
    assert len(contents) == 1


def test_hash_seed() -> None:
    """Sets and dictionaries of strings iterate differently in every process; plans do not."""
    code = (
        "from tests.planner.test_properties import TEXTS, content\n"
        "from tests.planner.planning import plan\n"
        "print(*[content(plan(text)) for text in TEXTS])"
    )
    root = Path(apero_dask.__file__).resolve().parents[1]
    found = set()
    for seed in ("0", "1", "4242"):
        environment = os.environ | {
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join([str(root), str(root / "kernels")]),
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=root,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1
    assert found.pop().split() == [content(plan(text)) for text in TEXTS]


@pytest.mark.parametrize("text", TEXTS)
def test_no_cycle_and_every_producer_first(text: str) -> None:
    made = plan(text)
    place = {key: number for number, key in enumerate(check_acyclic(made))}
    assert set(place) == set(made.by_key)
    for task in made.tasks:
        before = [*task.producers(), *task.depends, *([task.gate] if task.gate else [])]
        before += [c.source for s in task.selections for c in s.candidates if c.source]
        assert all(place[key] < place[task.key] for key in before), task.key


def test_cycle_is_noticed() -> None:
    made = plan("id1 = calib_seq")
    first, last = made.tasks[0], made.tasks[-1]
    first.depends = (last.key,)
    with pytest.raises(ValueError, match="cycle"):
        check_acyclic(made)
    first.depends = ("00009.01.00001",)
    with pytest.raises(ValueError, match="does not contain"):
        check_acyclic(made)


def test_longest_chain() -> None:
    made = plan("id1 = limited_seq")
    seconds, chain = critical_path(made, check_acyclic(made))
    shorts = [made.by_key[key].step.short for key in chain]  # type: ignore[union-attr]
    # Reference steps, then one night, then the telluric part, each link of the chain once.
    assert shorts == [
        "PP", "BADM", "LOCM", "SHAPEM", "SHAPELM", "FLATM", "THIM", "WAVEM",
        "BAD", "SHAPE", "FF", "THERMAL", "WAVE",
        "EXTTELL", "LEAKTELL", "MKTELLU1", "MKTELLU2", "MKTELLU3", "MKTELLU4",
        "FTELLU1", "FTELLU2", "FTELLU3", "CCF",
    ]  # fmt: skip
    assert seconds == pytest.approx(sum(made.by_key[key].seconds() for key in chain))  # type: ignore[union-attr]


# -- random archives ---------------------------------------------------------------------------

TYPES = {
    "DARK_DARK_INT": ("DARK", "CALIB"),
    "DARK_DARK_TEL": ("DARK", "CALIB"),
    "DARK_FLAT": ("FLAT", "CALIB"),
    "FLAT_DARK": ("FLAT", "CALIB"),
    "FLAT_FLAT": ("FLAT", "CALIB"),
    "FP_FP": ("ALIGN", "CALIB"),
    "DARK_FP": ("ALIGN", "CALIB"),
    "HCONE_HCONE": ("COMPARISON", "CALIB"),
    "OBJ_FP": ("OBJECT", "GL699"),
    "OBJ_DARK": ("OBJECT", "59PEG"),
    "POLAR_FP": ("OBJECT", "TOIM442"),
    "DARK_FP_SKY": ("OBJECT", "SKY"),
    "UNKNOWN": ("OBJECT", ""),
}


@st.composite
def archives(draw: st.DrawFn) -> FrameIndex:
    """Up to five nights with any frames at any times, equal times included."""
    frames = []
    number = 2320001
    for day in range(draw(st.integers(1, 5))):
        night = f"2018-09-{20 + 3 * day}"
        for _ in range(draw(st.integers(0, 25))):
            dprtype = draw(st.sampled_from(sorted(TYPES)))
            obstype, frame_class = TYPES[dprtype]
            frames.append(
                RawFrame(
                    f"{number}a",
                    night,
                    f"{night}/{number}a.fits",
                    dprtype,
                    58380.0 + 3 * day + draw(st.integers(0, 20)) / 20.0,
                    draw(st.sampled_from([5.0, 60.0, 600.0])),
                    obstype,
                    frame_class,
                    pi_name="PI",
                    cmpltexp=draw(st.integers(0, 3)),
                )
            )
            number += 1
    return FrameIndex.of(frames)


@settings(max_examples=120, deadline=None)
@given(
    index=archives(),
    seed=st.integers(0, 2**16),
    text=st.sampled_from(TEXTS),
    keys=st.sampled_from(
        ["", "GROUP_FILE_LIMIT = 2\n", "RUN_DEFAULT = False\nRUN_PP = True\nRUN_BAD = True\n"]
    ),
    only_show=st.booleans(),
)
def test_any_archive_gives_a_sound_plan(
    index: FrameIndex, seed: int, text: str, keys: str, only_show: bool
) -> None:
    base = "MASTER_OBS_DIR = 2018-09-20\n"
    chosen = settings_of(keys + text, base)
    made = build_plan(index, chosen, SPIROU, only_show=only_show)
    assert len({t.key for t in made.tasks}) == len(made.tasks)
    assert len({t.identity() for t in made.tasks}) == len(made.tasks)
    paths = [path for t in made.tasks for _, _, path in t.outputs()]
    assert len(set(paths)) == len(paths)
    check_acyclic(made)
    for task in made.tasks:
        for inputs in task.inputs:
            assert len(inputs.producers) == len(inputs.frames) + len(inputs.others) > 0
            assert sum(len(found) for _, found in inputs.by_producer()) == len(inputs.paths())
    # Whatever fails, everything ends, and nothing starts twice.
    rng = random.Random(seed)
    outcome = {key: rng.random() < 0.2 for key in made.by_key}
    done = execute(
        made,
        outcome=lambda item: State.QC_FAILED if outcome[item.key] else State.DONE,
        seed=seed,
    )
    assert done.resolver.finished
    assert len(done.executed) == len(set(done.executed))
    shuffled = list(index)
    rng.shuffle(shuffled)
    assert content(build_plan(FrameIndex.of(shuffled), chosen, SPIROU, only_show=only_show)) == content(made)


@settings(max_examples=40, deadline=None)
@given(index=archives(), seed=st.integers(0, 2**16))
def test_repetition_of_any_archive_executes_only_what_failed(index: FrameIndex, seed: int) -> None:
    base = "MASTER_OBS_DIR = 2018-09-20\n"
    chosen = settings_of(SKIP_ALL + "id1 = limited_seq", base)
    made = build_plan(index, chosen, SPIROU, only_show=False)
    rng = random.Random(seed)
    fails = {t.key for t in made.tasks if rng.random() < 0.1}
    done = execute(made, outcome=lambda i: State.FAILED_ERROR if i.key in fails else State.DONE, seed=seed)
    again = build_plan(index, chosen, SPIROU, snapshot=done.snapshot, only_show=False)
    second = execute(again, done.snapshot, seed=seed + 1)
    clean = execute(build_plan(index, chosen, SPIROU, only_show=False))
    # Continued after failures or done in one go: the same products.
    assert {p: o.content for p, (_, o) in second.snapshot.outputs.items()} == {
        p: o.content for p, (_, o) in clean.snapshot.outputs.items()
    }
    third = build_plan(index, chosen, SPIROU, snapshot=second.snapshot, only_show=False)
    left = [t for t in third.tasks if t.state is State.PLANNED]
    ended = {t.key: second.states[t.key] for t in left}
    assert all(state.failed or state.blocked for state in ended.values())
