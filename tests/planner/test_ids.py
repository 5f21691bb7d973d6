"""Several ids: results are those of running them one after the other."""

from __future__ import annotations

import pytest

from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan
from apero_dask.core.snapshot import Snapshot
from apero_dask.planner.filters import Rejection
from apero_dask.planner.order import check_acyclic
from apero_dask.runfile.merge import CommandLine
from tests.planner.markers import execute, failing
from tests.planner.planning import codes, counts, plan, run, runs, selection, sources, states, texts
from tests.planner.test_skip import SKIP_ALL

PARTS = "id0 = pp_seq\nid1 = master_seq\nid2 = calib_seq\nid3 = tellu_seq\nid4 = science_seq"
ONE, TWO, THREE = "2018-09-25", "2018-09-26", "2018-09-27"


@pytest.fixture(scope="module")
def reduced() -> Snapshot:
    return execute(plan("id1 = limited_seq", only_show=False)).snapshot


def test_limited_sequence_is_the_union_of_its_parts() -> None:
    whole, parts = plan("id1 = limited_seq"), plan(PARTS)
    assert {t.identity() for t in whole.tasks} == {t.identity() for t in parts.tasks}
    assert len(parts.tasks) == 276

    def chosen(made: Plan) -> dict[str, list[list[str]]]:
        """Candidates by run identity, as run identities."""
        return {
            t.identity(): [
                [made.by_key[c.source].identity() if c.source else c.identity for c in s.candidates]  # type: ignore[union-attr]
                for s in t.selections
            ]
            for t in made.tasks
        }

    assert chosen(whole) == chosen(parts)


@pytest.mark.parametrize(
    "keys", ["EXCLUDE_OBS_DIRS = 2018-09-26\n", "RUN_LEAKOBJ = False\n", "FILENAME = 2320031o\n"]
)
def test_union_under_filters(keys: str) -> None:
    whole, parts = plan(keys + "id1 = limited_seq"), plan(keys + PARTS)
    assert {t.identity() for t in whole.tasks} == {t.identity() for t in parts.tasks}


def test_full_sequence_has_the_same_runs_with_all_other_objects_as_targets() -> None:
    base = "MASTER_OBS_DIR = 2018-09-25\n"
    whole, limited = plan("id1 = full_seq", base=base), plan("id1 = limited_seq", base=base)
    full = {t.identity() for t in whole.tasks if not t.step.short.startswith(("MKTELLU", "CCF"))}
    other = {t.identity() for t in limited.tasks if not t.step.short.startswith(("MKTELLU", "CCF"))}
    assert full == other


def test_wrong_order_sees_nothing_of_later_ids() -> None:
    made = plan("id1 = calib_seq\nid2 = master_seq\nid3 = pp_seq", only_show=False)
    assert "E-MASTER-PRODUCT" in codes(made)
    assert set(run(made, "BAD", TWO).inputs[0].producers) == {"missing"}
    assert run(made, "FF", TWO).gate == ""


def test_wrong_order_on_a_reduced_archive(reduced: Snapshot) -> None:
    """Extraction first: it takes what the database has, and is over before the nights are calibrated anew."""
    made = plan("id1 = science_seq\nid2 = calib_seq", snapshot=reduced, only_show=False)
    task = runs(made, "EXTOBJ", TWO)[0]
    assert all(not c.source for s in task.selections for c in s.candidates)
    (order,) = [n for n in made.nodes if n.kind == "order"]
    assert order.key == "ORDER-00002"
    assert {t.depends for t in made.tasks if t.step.request == 2} == {("ORDER-00002",)}
    assert {t.depends for t in made.tasks if t.step.request == 1} == {()}
    place = {key: n for n, key in enumerate(execute(made, reduced, seed=1).executed)}
    last = max(place[t.key] for t in made.tasks if t.step.request == 1)
    assert last < min(place[t.key] for t in made.tasks if t.step.request == 2)
    check_acyclic(made)


def test_usual_order_overlaps(reduced: Snapshot) -> None:
    made = plan("id1 = calib_seq\nid2 = science_seq", snapshot=reduced, only_show=False)
    assert not [n for n in made.nodes if n.kind == "order"]
    task = runs(made, "EXTOBJ", TWO)[0]
    assert sources(made, selection(task, "WAVE"))[0] == ("WAVE", TWO)


def test_same_sequence_twice() -> None:
    made = plan("id1 = limited_seq\nid2 = limited_seq")
    assert len(made.tasks) == 276
    second = [c for c in made.counts if c.step.request == 2]
    assert all(c.runs == 0 and "planned by an earlier step" in c.reasons[-1] for c in second)
    # Nothing is missing: no message about steps without runs beside that of the third night.
    assert len(texts(made, "W-NO-RUNS")) == 1
    assert len([n for n in made.nodes if n.kind == "model"]) == 2


def test_overlapping_sequences() -> None:
    made = plan("id1 = limited_seq\nid2 = full_seq\nid3 = eng_seq")
    paths = [path for t in made.tasks for _, _, path in t.outputs()]
    assert len(set(paths)) == len(paths)
    assert counts(made)["PP"] == 146
    assert "EXTALL" not in counts(made)
    # Hot stars get their public spectra and velocities from the full sequence.
    assert counts(made)["CCF"] == 19
    assert execute(made).tally(made) == {"DONE": len(made.tasks)}


@pytest.mark.parametrize("order", [("full_seq", "limited_seq"), ("limited_seq", "full_seq")])
def test_hot_star_as_science_target_in_one_of_two_sequences(order: tuple[str, str]) -> None:
    """The full sequence ends its hot stars with the first fit, the limited one refits its science targets."""
    base = f"MASTER_OBS_DIR = {ONE}\nSCIENCE_TARGETS = 59Peg\n"
    made = plan(f"id1 = {order[0]}\nid2 = {order[1]}", base=base)
    paths = [path for t in made.tasks for _, _, path in t.outputs()]
    assert len(set(paths)) == len(paths)
    said = texts(made, "E-OUTPUT-CONFLICT")
    if order[0] == "full_seq":
        assert said[0].startswith(
            "id00001 and id00002 would both write reduced/2018-09-25/2320029o_pp_e2dsff_tcorr"
        )
    else:
        # The last fit owns the public name already: the first fit of the full sequence is planned.
        assert said == []
        assert run(made, "FTELLU3", stem="2320029o")


def test_master_steps_close_the_way_of_their_own_and_later_ids() -> None:
    made = plan("id1 = pp_seq\nid2 = eng_seq\nid3 = master_seq\nid4 = calib_seq")
    gates = {t.step.request: t.gate for t in made.tasks if t.step.tier == "night"}
    assert gates == {1: "", 2: "", 4: "GATE-MASTER_OK"}


def test_gates_of_two_master_ids() -> None:
    text = (
        f"id1 = pp_seq\nid2 = cal_dark_master\nid3 = cal_badpix {TWO} --flatfiles 2320115f_pp.fits"
        " --darkfiles 2320101d_pp.fits\nid4 = master_seq\nid5 = calib_seq"
    )
    made = plan(text, only_show=False)
    gates = {n.key: n.members for n in made.nodes if n.kind == "gate"}
    assert list(gates) == ["GATE-MASTER_OK", "GATE-MASTER_OK-00004"]
    assert len(gates["GATE-MASTER_OK"]) == 1
    assert len(gates["GATE-MASTER_OK-00004"]) == 11
    assert run(made, "BAD", TWO, "2320115f").gate == "GATE-MASTER_OK"
    assert run(made, "FF", TWO).gate == "GATE-MASTER_OK-00004"
    check_acyclic(made)


# -- strict order ------------------------------------------------------------------------------

LINES = "".join(f"id{n} = cal_preprocessing {ONE} 23200{30 + n}o.fits\n" for n in (1, 2)) + (
    "id3 = cal_extract 2018-09-25 2320031o_pp.fits\nid4 = cal_extract 2018-09-25 2320032o_pp.fits\n"
    "id5 = cal_preprocessing 2018-09-25 2320033o.fits\n"
)


def test_strict_order_of_lines() -> None:
    made = plan(LINES, cli=CommandLine(order="strict"))
    assert [t.depends for t in made.tasks] == [(), (), ("ORDER-00003",), ("ORDER-00003",), ("ORDER-00005",)]
    nodes = {n.key: n.members for n in made.nodes if n.kind == "order"}
    assert nodes == {
        "ORDER-00003": ("00001.00.00001", "00002.00.00001"),
        "ORDER-00005": ("ORDER-00003", "00003.00.00001", "00004.00.00001"),
    }
    assert not [n for n in plan(LINES).nodes if n.kind == "order"]


def test_strict_order_of_sequences(reduced: Snapshot) -> None:
    made = plan(PARTS, cli=CommandLine(order="strict"), only_show=False)
    assert [n.key for n in made.nodes if n.kind == "order"] == [f"ORDER-0000{n}" for n in (1, 2, 3, 4)]
    done = execute(made, seed=2)
    assert done.tally(made) == {"DONE": 276}
    requests = [int(key.partition(".")[0]) for key in done.executed if "." in key]
    assert requests == sorted(requests)
    # Models wait like runs.
    place = {key: n for n, key in enumerate(done.executed)}
    assert place["PCA2-00004"] > max(place[t.key] for t in made.tasks if t.step.request == 3)


def test_order_does_not_change_what_is_up_to_date() -> None:
    made = plan(PARTS, only_show=False)
    done = execute(made)
    again = plan(SKIP_ALL + PARTS, cli=CommandLine(order="strict"), snapshot=done.snapshot, only_show=False)
    assert states(again) == {"SKIPPED_EXISTS": 276}


def test_order_opens_after_failures_too() -> None:
    made = plan(LINES, cli=CommandLine(order="strict"), only_show=False)
    done = execute(made, outcome=failing({("PP", "", "2320032o"): State.FAILED_ERROR}))
    ended = [done.states[t.key].value for t in made.tasks]
    # Without calibrations the extractions cannot start; the last line is not held back by that.
    assert ended == ["DONE", "FAILED_ERROR", "FAILED_CALIB", "BLOCKED", "DONE"]


def test_two_models_for_one_file_wait_for_each_other() -> None:
    """Nothing that the first line reads is written anew, but its model is."""
    known = plan("id1 = limited_seq", rejections={"2320228o": Rejection(telluric=True)}, only_show=False)
    reduced = execute(known).snapshot
    text = (
        f"id1 = obj_fit_tellu {ONE} 2320031o_pp_e2dsff_AB.fits\n"
        f"id2 = obj_mk_tellu {THREE} 2320228o_pp_e2dsff_lcorr_AB.fits\n"
        f"id3 = obj_fit_tellu {ONE} 2320032o_pp_e2dsff_AB.fits"
    )
    made = plan(text, snapshot=reduced, only_show=False)
    models = [n for n in made.nodes if n.kind == "model"]
    found = [(n.key, len(n.members), len(n.stored)) for n in models]
    assert found == [("PCA2-00001", 0, 4), ("PCA2-00003", 1, 4)]
    assert models[0].outputs() == models[1].outputs()
    assert [n.key for n in made.nodes if n.kind == "order"] == ["ORDER-00003"]
    place = {key: n for n, key in enumerate(execute(made, reduced, seed=4).executed)}
    assert place["00001.00.00001"] < place["PCA2-00003"] < place["00003.00.00001"]
