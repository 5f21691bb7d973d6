"""Which calibration a run takes: ranking, limits, fallbacks, pairs, thermal rule, failures of a night."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apero_dask.core.frames import FrameIndex, RawFrame
from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan, Task
from apero_dask.core.snapshot import Snapshot
from apero_dask.planner.selection import nearest_reference
from tests.planner.archive import night_frames, worked_index
from tests.planner.markers import Done, execute, failing
from tests.planner.planning import NIGHTS, plan, run, runs, selection, sources, texts

ONE, TWO, THREE = NIGHTS
ERROR = State.FAILED_ERROR


@pytest.fixture(scope="module")
def limited() -> Plan:
    return plan("id1 = limited_seq", only_show=False)


def chosen(
    made: Plan, done: Done, task: Task, kind: str, fibre: str = "", applies_to: str = ""
) -> tuple[str, str, int]:
    """(short name, night, rank) of what a run took."""
    wanted = selection(task, kind, fibre, applies_to)
    choice = done.resolver.bindings[task.key].choices[task.selections.index(wanted)]
    assert choice is not None
    source = made.by_key[choice.source]
    assert isinstance(source, Task)
    return source.step.short, source.obs_dir, choice.rank


# -- times -------------------------------------------------------------------------------------


def test_product_times_of_the_worked_example(limited: Plan) -> None:
    flats = {task.obs_dir: task.time for task in runs(limited, "FF")}
    assert flats == pytest.approx({ONE: 58386.41, TWO: 58387.14, THREE: 58388.41}, abs=0.005)
    darks = {t.obs_dir: t.time for t in runs(limited, "THERMAL") if t.step.variant == "DARK_DARK_TEL"}
    assert darks == pytest.approx({ONE: 58386.13, TWO: 58387.13}, abs=0.01)
    assert run(limited, "WAVE", ONE).time == pytest.approx(58386.42, abs=0.01)


def test_times_belong_to_the_leading_argument(limited: Plan) -> None:
    for task in runs(limited, "BAD"):
        flats = [f.mjdmid for f in task.inputs[0].frames]
        assert task.inputs[0].argument == "flatfiles"
        assert task.time == pytest.approx(sum(flats) / len(flats), abs=1e-9)
    shape = run(limited, "SHAPEM")
    own = [f.mjdmid for f in shape.inputs[1].frames if f.obs_dir == ONE]
    assert shape.time == pytest.approx(sum(own) / len(own), abs=1e-9)


@pytest.mark.parametrize(
    ("time", "expected"),
    [(58386.2, 58386.431858), (58386.9, 58386.431858), (58385.95, 58386.431858), (58386.94, 58387.431858)],
)
def test_local_midnight(time: float, expected: float) -> None:
    # Longitude 155.468876 W: midnight at 10:21:52 UT.
    assert nearest_reference(time, -155.468876, 0.0) == pytest.approx(expected, abs=1e-6)
    assert abs(nearest_reference(time, -155.468876, 0.5) - expected) == pytest.approx(0.5, abs=1e-6)


# -- examples of the documents -----------------------------------------------------------------


def test_all_good_every_night_its_own(limited: Plan) -> None:
    done = execute(limited)
    for task in runs(limited, "EXTOBJ"):
        assert chosen(limited, done, task, "BADPIX") == ("BAD", task.obs_dir, 1)
        assert chosen(limited, done, task, "FLAT") == ("FF", task.obs_dir, 1)
        assert chosen(limited, done, task, "WAVE") == ("WAVE", task.obs_dir, 1)


def test_ranking_of_bad_pixels(limited: Plan) -> None:
    def ranked(night: str) -> list[tuple[str, str]]:
        return sources(limited, selection(run(limited, "FF", night), "BADPIX"))

    assert ranked(ONE) == [("BAD", ONE), ("BADM", ONE), ("BAD", TWO), ("BAD", THREE)]
    assert ranked(TWO) == [("BAD", TWO), ("BAD", THREE), ("BAD", ONE), ("BADM", ONE)]
    assert ranked(THREE) == [("BAD", THREE), ("BAD", TWO), ("BAD", ONE), ("BADM", ONE)]


def test_bad_pixels_of_the_second_night_fail(limited: Plan) -> None:
    done = execute(limited, outcome=failing({("BAD", TWO, ""): State.QC_FAILED}))
    for short in ("LOC", "SHAPE", "FF", "WAVE"):
        for task in runs(limited, short, TWO):
            assert chosen(limited, done, task, "BADPIX")[:2] == ("BAD", THREE)
            assert chosen(limited, done, task, "BKGRDMAP") == ("BAD", THREE, 2)
    for task in runs(limited, "EXTOBJ", TWO):
        assert chosen(limited, done, task, "LOC", "AB")[:2] == ("LOC", TWO)
    assert done.tally(limited) == {"DONE": 275, "QC_FAILED": 1}


def test_only_the_failed_night_waits(limited: Plan) -> None:
    """Localisation of the second night waits for bad pixels of the third, and for those alone."""
    done = execute(
        limited, outcome=failing({("BAD", TWO, ""): State.QC_FAILED}), stop_after=146 + 11, seed=None
    )
    resolver = done.resolver
    started = set(resolver.bindings)
    bad = {night: run(limited, "BAD", night).key for night in NIGHTS}
    assert set(bad.values()) <= started
    ready = resolver.record(bad[TWO], State.QC_FAILED).ready
    assert not any(limited.by_key[k].obs_dir == TWO for k in ready)  # type: ignore[union-attr]
    ready = resolver.record(bad[ONE], State.DONE).ready
    assert {limited.by_key[k].obs_dir for k in ready} == {ONE}  # type: ignore[union-attr]
    ready = resolver.record(bad[THREE], State.DONE).ready
    assert {limited.by_key[k].obs_dir for k in ready} == {TWO, THREE}  # type: ignore[union-attr]


def test_bad_pixels_of_two_nights_fail(limited: Plan) -> None:
    done = execute(limited, outcome=failing({("BAD", TWO, ""): ERROR, ("BAD", THREE, ""): ERROR}))
    for night in (TWO, THREE):
        # The master-tier product has the same time and loses the tie.
        assert chosen(limited, done, run(limited, "FF", night), "BADPIX")[:2] == ("BAD", ONE)


def test_third_night_has_no_telescope_darks(limited: Plan) -> None:
    task = runs(limited, "EXTOBJ", THREE)[0]
    wanted = selection(task, "THERMALT")
    assert sources(limited, wanted)[:3] == [("THERMAL", TWO), ("THERMAL", ONE), ("THTM", ONE)]
    assert [c.rank for c in wanted.candidates] == list(range(2, 2 + len(wanted.candidates)))
    assert all(c.fallback for c in wanted.candidates)
    # Internal darks follow, those of the own night first.
    assert [c.kinds for c in wanted.candidates[3:]] == [("THERMALI",)] * 4
    assert sources(limited, wanted)[3] == ("THERMAL", THREE)


def test_wave_of_the_second_night_fails(limited: Plan) -> None:
    wanted = selection(runs(limited, "EXTOBJ", TWO)[0], "WAVE")
    assert sources(limited, wanted) == [("WAVE", TWO), ("WAVE", THREE), ("WAVE", ONE), ("WAVEM", ONE)]
    assert [c.rank for c in wanted.candidates] == [1, 2, 3, 0]
    assert [c.fallback for c in wanted.candidates] == [False, True, True, True]
    done = execute(limited, outcome=failing({("WAVE", TWO, ""): ERROR}))
    assert chosen(limited, done, runs(limited, "EXTOBJ", TWO)[0], "WAVE")[:2] == ("WAVE", THREE)


def test_wave_fails_on_all_nights(limited: Plan) -> None:
    done = execute(limited, outcome=failing({("WAVE", "", ""): State.QC_FAILED}))
    for task in runs(limited, "EXTOBJ"):
        assert chosen(limited, done, task, "WAVE") == ("WAVEM", ONE, 0)
    assert done.tally(limited) == {"DONE": 273, "QC_FAILED": 3}


def test_flats_of_all_nights_fail(limited: Plan) -> None:
    done = execute(limited, outcome=failing({("FF", "", ""): State.QC_FAILED}))
    for task in runs(limited, "EXTOBJ"):
        assert chosen(limited, done, task, "FLAT")[:2] == ("FLATM", ONE)


def test_night_far_from_all_calibrations() -> None:
    late = [
        replace(f, obs_dir="2018-10-06", path=f"2018-10-06/{f.identifier}.fits", mjdmid=f.mjdmid - 2.0)
        for f in night_frames("2018-10-08")
        if f.obstype == "OBJECT"
    ]
    made = plan("id1 = limited_seq", FrameIndex.of([*worked_index(), *late]), only_show=False)
    task = runs(made, "EXTOBJ", "2018-10-06")[0]
    assert selection(task, "BADPIX").candidates == ()
    assert any("no BADPIX/BKGRDMAP within reach" in text for text in texts(made, "W-NO-CALIB"))
    done = execute(made)
    assert {done.states[t.key] for t in runs(made, "EXTOBJ", "2018-10-06")} == {State.FAILED_CALIB}
    assert {done.states[t.key] for t in runs(made, "LEAKOBJ", "2018-10-06")} == {State.BLOCKED}
    without = plan("DO_CALIB_DTIME_CHECK = False\nid1 = limited_seq", FrameIndex.of([*worked_index(), *late]))
    assert len(selection(runs(without, "EXTOBJ", "2018-10-06")[0], "BADPIX").candidates) == 4


# -- keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "second"),
    [
        ("closest", [("BAD", TWO), ("BAD", THREE), ("BAD", ONE), ("BADM", ONE)]),
        ("older", [("BAD", TWO), ("BAD", ONE), ("BADM", ONE)]),
        ("newer", [("BAD", TWO), ("BAD", THREE)]),
    ],
)
def test_direction_of_the_search(match: str, second: list[tuple[str, str]]) -> None:
    made = plan(f"CALIB_DB_MATCH = {match}\nid1 = limited_seq")
    assert sources(made, selection(run(made, "FF", TWO), "BADPIX")) == second


def test_age_limit() -> None:
    # 58387.14 and 58388.41 lie 0.29 and 0.98 d from the midnight 58387.43.
    made = plan("MAX_CALIB_DTIME = 0.99\nid1 = limited_seq")
    assert sources(made, selection(run(made, "FF", TWO), "BADPIX")) == [("BAD", TWO), ("BAD", THREE)]
    made = plan("MAX_CALIB_DTIME = 0.1\nid1 = limited_seq")
    # The product of the own night is exempt from the limit.
    assert sources(made, selection(run(made, "FF", TWO), "BADPIX")) == [("BAD", TWO)]


def test_time_of_the_frame_instead_of_midnight() -> None:
    made = plan("CALIB_BIN_IN_TIME = False\nid1 = limited_seq")
    early = run(made, "EXTOBJ", stem="2320229o")
    task = replace(early)
    ranked = sources(made, selection(task, "THERMALT"))
    # Frames at 6 h UT are nearer to the darks of the evening before than local midnight is.
    assert ranked[:2] == [("THERMAL", TWO), ("THERMAL", ONE)]
    assert early.selections is not run(made, "EXTOBJ", stem="2320230o").selections
    # Night-level steps keep the midnight.
    midnight = plan("id1 = limited_seq")
    assert sources(made, selection(run(made, "FF", TWO), "BADPIX")) == sources(
        midnight, selection(run(midnight, "FF", TWO), "BADPIX")
    )


def test_equal_runs_share_their_selections(limited: Plan) -> None:
    (first, *others) = runs(limited, "EXTOBJ", ONE)
    assert all(task.selections is first.selections for task in others)


# -- rules -------------------------------------------------------------------------------------


def kinds_of(task: Task) -> set[tuple[str, ...]]:
    return {s.kinds for s in task.selections}


def test_products_of_one_run_are_selected_together(limited: Plan) -> None:
    extraction = kinds_of(runs(limited, "EXTOBJ")[0])
    assert ("BADPIX", "BKGRDMAP") in extraction
    assert ("LOC", "ORDER_PROFILE") in extraction
    assert ("SHAPEX", "SHAPEY") in extraction
    assert ("FLAT", "BLAZE") in extraction
    assert ("SHAPEX", "SHAPEY", "FPMASTER") in kinds_of(runs(limited, "SHAPE")[0])
    for task in limited.tasks:
        groups = [s.fibre for s in task.selections if "LOC" in s.kinds]
        assert len(groups) == len(set(groups))


def thermal_of(task: Task) -> dict[str, tuple[str, ...]]:
    """Thermal kinds by the fibres they are for."""
    found = {}
    for s in task.selections:
        if s.kinds[0].startswith("THERMAL"):
            kinds = tuple(dict.fromkeys(k for c in s.candidates for k in c.kinds))
            found[s.applies_to or "all"] = kinds
    return found


def test_thermal_rule_by_what_a_fibre_sees() -> None:
    made = plan("id1 = limited_seq\nid2 = eng_seq")
    star_fp = run(made, "EXTOBJ", stem="2320031o")
    assert thermal_of(star_fp) == {"science": ("THERMALT", "THERMALI"), "reference": ("THERMALI",)}
    polar_fp = run(made, "EXTOBJ", stem="2320130o")
    assert thermal_of(polar_fp) == thermal_of(star_fp)
    star_dark = run(made, "EXTOBJ", stem="2320134o")
    assert thermal_of(star_dark) == {"science": ("THERMALT", "THERMALI")}
    assert thermal_of(run(made, "EXTDFP", stem="2320025a")) == {"reference": ("THERMALI",)}
    assert thermal_of(run(made, "EXTFPFP", stem="2320020a")) == {
        "science": ("THERMALI",),
        "reference": ("THERMALI",),
    }
    assert thermal_of(runs(made, "THERMAL")[0]) == {}
    assert set(thermal_of(runs(made, "WAVE")[0]).values()) == {("THERMALI",)}


def test_thermal_fallback_after_failures(limited: Plan) -> None:
    broken = failing({("THTM", "", ""): State.DONE, ("THERMAL", ONE, ""): ERROR, ("THERMAL", TWO, ""): ERROR})
    done = execute(limited, outcome=broken)
    task = runs(limited, "EXTOBJ", TWO)[0]
    # The master-tier product of telescope darks comes before internal darks of any night.
    assert chosen(limited, done, task, "THERMALT") == ("THTM", ONE, 3)


def test_master_steps_take_the_master_tier_only(limited: Plan) -> None:
    for task in limited.tasks:
        if task.step.tier != "master":
            continue
        for s in task.selections:
            for c in s.candidates:
                assert c.rank == 0
                if c.source:
                    source = limited.by_key[c.source]
                    assert isinstance(source, Task)
                    assert source.step.tier == "master"


def test_first_guesses(limited: Plan) -> None:
    wave = {
        short: sources(limited, selection(run(limited, short), "WAVE0"))
        for short in ("SHAPEM", "THIM", "WAVEM")
    }
    assert all(found == [("default:WAVE0", "")] for found in wave.values())
    night = {s.kinds for task in limited.tasks if task.step.tier == "night" for s in task.selections}
    assert ("WAVE0",) not in night
    leak = selection(runs(limited, "LEAKOBJ")[0], "LEAKM")
    assert sources(limited, leak) == [("LEAKM", ONE), ("default:LEAK0", "")]
    assert [c.fallback for c in leak.candidates] == [False, True]


def test_leak_reference_needs_the_thermal_product() -> None:
    made = plan("id1 = master_seq")
    wanted = selection(run(made, "LEAKM"), "THERMALI")
    assert sources(made, wanted) == [("THIM", ONE)]
    done = execute(plan("id1 = pp_seq\nid2 = master_seq", only_show=False))
    shorts = [key for key in done.executed if key.startswith("00002")]
    steps = {key.split(".")[1] for key in shorts}
    assert steps == {f"{n:02d}" for n in range(1, 12)}
    assert shorts.index("00002.09.00001") < shorts.index("00002.08.00001")


def test_leak_reference_without_the_thermal_step() -> None:
    made = plan("RUN_THIM = False\nRUN_WAVEM = False\nid1 = pp_seq\nid2 = master_seq", only_show=False)
    assert selection(run(made, "LEAKM"), "THERMALI").candidates == ()
    assert selection(run(made, "LEAKM"), "THERMALI").optional
    done = execute(made)
    assert done.states[run(made, "LEAKM").key] is State.DONE


def test_master_night_without_comb_in_the_reference_fibre() -> None:
    index = FrameIndex.of(f for f in worked_index() if not (f.dprtype == "DARK_FP" and f.obs_dir == ONE))
    made = plan("id1 = limited_seq", index)
    assert not runs(made, "LEAKM")
    assert "E-MASTER-INCOMPLETE" not in {f.code for f in made.findings}
    assert any(text.startswith("LEAKM: no run planned") for text in texts(made, "W-NO-RUNS"))
    assert sources(made, selection(runs(made, "LEAKOBJ")[0], "LEAKM")) == [("default:LEAK0", "")]
    assert execute(made).tally(made) == {"DONE": 276 - 2 - 1}


# -- stored products ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reduced() -> Done:
    made = plan("id1 = pp_seq\nid2 = master_seq\nid3 = calib_seq", only_show=False)
    return execute(made)


def test_stored_products_of_nights_not_made_again(reduced: Done) -> None:
    made = plan(f"NIGHT_NAME = {TWO}\nid1 = calib_seq", snapshot=reduced.snapshot, only_show=False)
    wanted = selection(run(made, "FF", TWO), "BADPIX")
    assert [(bool(c.source), c.tier, c.obs_dir) for c in wanted.candidates] == [
        (True, "night", TWO),
        (False, "night", THREE),
        (False, "night", ONE),
        (False, "master", ONE),
    ]
    done = execute(made, reduced.snapshot, failing({("BAD", TWO, ""): ERROR}))
    choice = done.resolver.bindings[run(made, "FF", TWO).key].choices
    assert [c.obs_dir for c in choice if c and "BADPIX" in c.kinds] == [THREE]


def test_stored_products_serve_a_sequence_on_its_own(reduced: Done) -> None:
    made = plan("id1 = tellu_seq", snapshot=reduced.snapshot, only_show=False)
    assert not [f for f in made.findings if f.code.startswith(("E-", "W-NOT"))]
    task = runs(made, "EXTTELL", TWO)[0]
    assert [c.rank for c in selection(task, "WAVE").candidates] == [1, 2, 3, 0]
    assert selection(task, "DARKM").candidates[0].identity
    assert execute(made, reduced.snapshot).tally(made) == {"DONE": 26}


def test_stored_failures_are_no_candidates() -> None:
    made = plan("id1 = pp_seq\nid2 = master_seq\nid3 = calib_seq", only_show=False)
    done = execute(made, outcome=failing({("BAD", TWO, ""): State.QC_FAILED}))
    later = plan("id1 = tellu_seq", snapshot=done.snapshot, only_show=False)
    wanted = selection(runs(later, "EXTTELL", TWO)[0], "BADPIX")
    assert [c.obs_dir for c in wanted.candidates] == [THREE, ONE, ONE]
    assert [c.rank for c in wanted.candidates] == [2, 3, 4]


def test_one_damaged_file_makes_its_run_useless(reduced: Done) -> None:
    marker = next(m for m in reduced.snapshot.markers.values() if m.short == "BAD" and m.obs_dir == TWO)
    background = next(o.path for o in marker.outputs if o.kind == "BKGRDMAP")
    snapshot = Snapshot.of(reduced.snapshot.markers.values(), damaged=[background])
    made = plan("id1 = tellu_seq", snapshot=snapshot, only_show=False)
    wanted = selection(runs(made, "EXTTELL", TWO)[0], "BADPIX")
    assert [c.obs_dir for c in wanted.candidates] == [THREE, ONE, ONE]


def test_other_master_nights_of_the_database_do_not_count(reduced: Done) -> None:
    base = f"MASTER_OBS_DIR = {TWO}\nSCIENCE_TARGETS = Gl699, TOI-442\n"
    made = plan("id1 = calib_seq", base=base, snapshot=reduced.snapshot, only_show=False)
    assert {t.split()[5] for t in texts(made, "E-MASTER-PRODUCT")} == {"DARKM", "SHAPEX", "WAVEM"}


def test_only_master_night_of_the_database(reduced: Done) -> None:
    base = "SCIENCE_TARGETS = Gl699, TOI-442\n"
    made = plan("id1 = calib_seq", base=base, snapshot=reduced.snapshot, only_show=False)
    assert not [f for f in made.findings if f.code.startswith("E-")]
    assert sources(made, selection(run(made, "FF", TWO), "SHAPEX"))[0][1] == ONE


def test_several_master_nights_of_the_database(reduced: Done) -> None:
    base = f"MASTER_OBS_DIR = {THREE}\n"
    frames = [
        replace(f, dprtype="DARK_DARK_TEL") if f.identifier in ("2320201d",) else f for f in worked_index()
    ]
    second = plan("id1 = pp_seq\nid2 = master_seq", FrameIndex.of(frames), base=base, only_show=False)
    both = execute(second, reduced.snapshot)
    made = plan("id1 = calib_seq", base="", snapshot=both.snapshot)
    assert texts(made, "E-MASTER-UNSET") == ["Step LOC needs MASTER_OBS_DIR, which is not set."]
    # Preprocessing needs no reference product.
    assert not texts(plan("id1 = pp_seq", base="", snapshot=both.snapshot), "E-MASTER-UNSET")


def test_night_whose_raw_frames_are_gone(reduced: Done) -> None:
    """Its time is that of its stored products."""
    made = plan(
        f"id1 = cal_ccf {TWO} 2320130o_pp_e2dsff_AB.fits",
        FrameIndex.of(f for f in worked_index() if f.obs_dir != TWO),
        snapshot=replace(
            reduced.snapshot, listing={f"reduced/{TWO}": frozenset({"2320130o_pp_e2dsff_AB.fits"})}
        ),
        only_show=False,
    )
    assert not [f for f in made.findings if f.code.startswith("E-")]
    wanted = selection(made.tasks[0], "WAVE")
    assert [c.obs_dir for c in wanted.candidates] == [TWO, THREE, ONE, ONE]


def frame(identifier: str, night: str, dprtype: str, mjdmid: float) -> RawFrame:
    return RawFrame(identifier, night, f"{night}/{identifier}.fits", dprtype, mjdmid, 60.0)


def test_one_query_time_for_a_folder_with_daytime_frames() -> None:
    # Frames after local noon (22:22 UT) belong to two local nights; the median decides once for all of them.
    made = plan("id1 = limited_seq")
    extra = frame("2320098a", TWO, "FP_FP", 58387.97)
    moved = plan(
        "id1 = limited_seq",
        FrameIndex.of([*worked_index(), replace(extra, obstype="ALIGN", frame_class="CALIB")]),
    )
    assert [c.obs_dir for c in selection(run(moved, "FF", TWO), "BADPIX").candidates] == [
        c.obs_dir for c in selection(run(made, "FF", TWO), "BADPIX").candidates
    ]
