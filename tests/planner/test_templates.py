"""Templates of earlier invocations, and objects that keep theirs."""

from __future__ import annotations

import pytest

from apero_dask.core.frames import FrameIndex
from apero_dask.core.snapshot import Snapshot
from apero_dask.planner.filters import Rejection
from tests.planner.archive import worked_index
from tests.planner.markers import execute
from tests.planner.planning import counts, plan, run, runs, states

FOURTH = "2018-10-08"


@pytest.fixture(scope="module")
def before() -> Snapshot:
    """The three nights, completely reduced."""
    return execute(plan("id1 = limited_seq", only_show=False)).snapshot


def test_objects_with_a_template_keep_it(before: Snapshot) -> None:
    made = plan("RECAL_TEMPLATES = False\nid1 = limited_seq", snapshot=before)
    found = counts(made)
    assert not {"MKTELLU3", "MKTELLU4", "FTELLU2", "FTELLU3"} & set(found)
    assert (found["MKTELLU1"], found["FTELLU1"], found["CCF"]) == (5, 14, 14)
    assert {t.step.variant for t in runs(made, "FTELLU1")} == {"p1_public"}
    reasons = {c.step.short: c.reasons for c in made.counts}
    assert reasons["FTELLU3"] == ("RECAL_TEMPLATES = False: 14 frame(s) of objects with a template",)
    assert execute(made, before).tally(made) == {"DONE": len(made.tasks)}


def test_transmissions_of_kept_objects_stay_in_the_set(before: Snapshot) -> None:
    made = plan("RECAL_TEMPLATES = False\nid1 = limited_seq", snapshot=before)
    (model,) = [n for n in made.nodes if n.key.startswith("PCA2")]
    assert model.members == ()
    assert len(model.stored) == 5


def test_kept_and_new_stars_form_one_set() -> None:
    known = FrameIndex.of(f for f in worked_index() if f.frame_class != "ZETVIR")
    first = execute(plan("id1 = limited_seq", known, only_show=False))
    made = plan("RECAL_TEMPLATES = False\nid1 = limited_seq", snapshot=first.snapshot)
    (model,) = [n for n in made.nodes if n.key.startswith("PCA2")]
    assert model.members == (run(made, "MKTELLU4", stem="2320228o").key,)
    assert [path.rpartition("/")[2][:8] for path in model.stored] == [
        "2320029o",
        "2320030o",
        "2320129o",
        "2320227o",
    ]


def test_new_objects_get_a_template_all_the_same() -> None:
    known = FrameIndex.of(f for f in worked_index() if f.frame_class != "TOIM442")
    base = "MASTER_OBS_DIR = 2018-09-25\nSCIENCE_TARGETS = Gl699\n"
    first = execute(plan("id1 = limited_seq", known, base=base, only_show=False))
    made = plan("RECAL_TEMPLATES = False\nid1 = limited_seq", snapshot=first.snapshot)
    assert [t.object for t in runs(made, "FTELLU2")] == ["TOIM442"]
    assert counts(made)["FTELLU3"] == 2


def test_stored_template_is_of_the_past_when_it_is_made_anew(before: Snapshot) -> None:
    made = plan("id1 = limited_seq", snapshot=before)
    for short in ("MKTELLU1", "MKTELLU2", "FTELLU1"):
        assert "template" not in {i.argument for t in runs(made, short) for i in t.inputs}
    off = plan("RUN_FTELLU2 = False\nid1 = science_seq", snapshot=before)
    inputs = {i.argument: i for i in run(off, "FTELLU1", stem="2320031o").inputs}
    assert inputs["template"].producers == ("stored",)
    assert not inputs["template"].required
    required = {i.argument: i for i in run(off, "FTELLU3", stem="2320031o").inputs}
    assert required["template"].required


def test_switched_off_fit_leaves_the_stored_template_in_use(before: Snapshot) -> None:
    """RUN_FTELLU1 = False: the template can be made from stored spectra."""
    made = plan("RUN_FTELLU1 = False\nid1 = science_seq", snapshot=before)
    assert [t.object for t in runs(made, "FTELLU2")] == ["GL699", "TOIM442"]
    assert set(run(made, "FTELLU2", "GL699").inputs[0].producers) == {"stored"}
    none = plan("RUN_FTELLU1 = False\nid1 = science_seq")
    assert not runs(none, "FTELLU2")
    assert not runs(none, "FTELLU3")


def test_template_gathers_nights_outside_the_plan(before: Snapshot) -> None:
    made = plan(f"NIGHT_NAME = {FOURTH}\nid1 = science_seq", worked_index(FOURTH), snapshot=before)
    template = run(made, "FTELLU2", "GL699")
    assert len(template.inputs[0].frames) == 4
    assert len(template.inputs[0].others) == 12
    assert all(path.endswith("_tcorr_p1_AB.fits") for path in template.inputs[0].others)
    rejected = plan(
        f"NIGHT_NAME = {FOURTH}\nid1 = science_seq",
        worked_index(FOURTH),
        snapshot=before,
        rejections={"2320031o": Rejection(telluric=True), "2320032o": Rejection(everywhere=True)},
    )
    assert len(run(rejected, "FTELLU2", "GL699").inputs[0].others) == 10


def test_science_alone_takes_the_transmissions_of_the_database(before: Snapshot) -> None:
    made = plan("id1 = science_seq", snapshot=before, only_show=False)
    (model,) = made.nodes
    assert model.members == ()
    assert len(model.stored) == 5
    assert all("_tellu_trans_AB" in path for path in model.stored)
    assert states(made) == {"PLANNED": 70}
    assert execute(made, before).tally(made) == {"DONE": 70}


def test_transmissions_of_other_nights_join_the_planned_ones(before: Snapshot) -> None:
    made = plan("NIGHT_NAME = 2018-09-26\nid1 = tellu_seq", snapshot=before)
    (model,) = made.nodes
    assert model.members == (run(made, "MKTELLU1").key,)
    assert [path.rpartition("/")[2][:8] for path in model.stored] == [
        "2320029o",
        "2320030o",
        "2320227o",
        "2320228o",
    ]


def test_one_frame_again_leaves_sets_and_templates_whole(before: Snapshot) -> None:
    """FILENAME narrows what is reduced, not what is known of a star or of the atmosphere."""
    star = plan("FILENAME = 2320029o\nid1 = tellu_seq", snapshot=before)
    models = {n.key: (len(n.members), len(n.stored)) for n in star.nodes}
    assert models == {"PCA1-00001": (1, 4)}
    object_ = plan("FILENAME = 2320031o\nid1 = science_seq", snapshot=before)
    template = run(object_, "FTELLU2", "GL699")
    assert (len(template.inputs[0].frames), len(template.inputs[0].others)) == (1, 11)


def test_stars_that_are_no_targets_any_more_leave_the_set(before: Snapshot) -> None:
    base = "MASTER_OBS_DIR = 2018-09-25\nTELLURIC_TARGETS = 59Peg, gamSct\n"
    made = plan("NIGHT_NAME = 2018-09-26\nid1 = tellu_seq", base=base, snapshot=before)
    (model,) = [n for n in made.nodes if n.key.startswith("PCA1")]
    assert [path.rpartition("/")[2][:8] for path in model.stored] == ["2320029o", "2320030o", "2320227o"]
    # A sequence that makes none takes the database as it is.
    science = plan("id1 = science_seq", base=base, snapshot=before)
    assert len(science.nodes[0].stored) == 5


def test_products_of_frames_that_were_taken_away_do_not_count(before: Snapshot) -> None:
    gone = FrameIndex.of(f for f in worked_index() if f.identifier not in ("2320029o", "2320031o"))
    made = plan("id1 = limited_seq", gone, snapshot=before)
    assert all(not n.stored for n in made.nodes)
    assert run(made, "FTELLU2", "GL699").inputs[0].others == ()
    # A night that left the archive as a whole keeps its share.
    archived = FrameIndex.of(f for f in worked_index() if f.obs_dir != "2018-09-26")
    other = plan("id1 = limited_seq", archived, snapshot=before)
    assert len(run(other, "FTELLU2", "GL699").inputs[0].others) == 4
    assert {len(n.stored) for n in other.nodes if n.kind == "model"} == {1}
