"""Explicit recipe lines: one run each, checked completely."""

from __future__ import annotations

import pytest

from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan
from apero_dask.core.snapshot import Snapshot
from tests.planner.markers import execute, failing
from tests.planner.planning import codes, counts, plan, run, runs, selection, sources, states, texts

ONE, TWO = "2018-09-25", "2018-09-26"
MASK = "masque_Oct19_Vrp9_Berv33.mas"
FOUR = "".join(
    f"id{n} = cal_ccf_spirou.py 2018-08-05 229565{k}o_pp_e2dsff_tcorr_AB.fits"
    f" --mask {MASK} --rv 11.9 --width 20 --step 0.05\n"
    for n, k in (("00001", 1), ("00002", 2), ("00004", 3), ("00005", 4))
)


@pytest.fixture(scope="module")
def reduced() -> Snapshot:
    """The three nights, completely reduced."""
    return execute(plan("id1 = limited_seq", only_show=False)).snapshot


# -- the four velocity lines of the run-file document ------------------------------------------


def test_four_lines_with_files_on_disk() -> None:
    names = [f"229565{k}o_pp_e2dsff_tcorr_AB.fits" for k in (1, 2, 3, 4)]
    snapshot = Snapshot.of(masks=[MASK], listing={"reduced/2018-08-05": names})
    made = plan(FOUR, snapshot=snapshot)
    assert [t.key for t in made.tasks] == [
        "00001.00.00001",
        "00002.00.00001",
        "00004.00.00001",
        "00005.00.00001",
    ]
    assert not {c for c in codes(made) if c.startswith("E-") and c != "E-MASTER-PRODUCT"}
    task = made.tasks[0]
    assert dict(task.options) == {"mask": MASK, "rv": 11.9, "width": 20.0, "step": 0.05}
    assert task.path("CCF", "AB") == (
        "reduced/2018-08-05/2295651o_pp_e2dsff_tcorr_AB_ccf_masque_oct19_vrp9_berv33_AB.fits"
    )


def test_four_lines_without_files() -> None:
    made = plan(FOUR, snapshot=Snapshot.of(masks=[MASK]))
    said = texts(made, "E-NO-FILES")
    assert len(said) == 4
    assert said[0] == (
        "id00001: cal_ccf: 2295651o_pp_e2dsff_tcorr_AB.fits is not in reduced/2018-08-05 "
        "and no earlier id makes it."
    )
    assert not made.tasks


def test_missing_mask() -> None:
    names = ["2295651o_pp_e2dsff_tcorr_AB.fits"]
    made = plan(FOUR.splitlines()[0], snapshot=Snapshot.of(listing={"reduced/2018-08-05": names}))
    assert "E-NO-MASK" in codes(made)
    assert not made.tasks


def test_default_mask_is_used_when_the_user_has_it(reduced: Snapshot) -> None:
    line = f"id1 = cal_ccf {ONE} 2320031o_pp_e2dsff_tcorr_AB.fits"
    assert plan(line, snapshot=reduced).tasks[0].mask == "apero_dask_mdwarf"
    name = "masque_sept18_andres_trans50.mas"
    with_mask = Snapshot.of(reduced.markers.values(), masks=[name])
    assert plan(line, snapshot=with_mask).tasks[0].mask == "masque_sept18_andres_trans50"


# -- files -------------------------------------------------------------------------------------


def error(line: str, snapshot: Snapshot | None = None) -> list[str]:
    made = plan(f"id1 = {line}", snapshot=snapshot)
    assert not made.tasks
    found = [f for f in made.findings if f.code in ("E-ARG", "E-NO-FILES", "E-NO-MASK")]
    assert all(f.line == 3 for f in found)
    return [f"{f.code} {f.text}" for f in found]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"cal_extract {ONE} 2320031o.fits", "is not of the kind PP"),
        (
            f"cal_extract {ONE} 2320031o_pp.fits",
            "E-NO-FILES id00001: cal_extract: 2320031o_pp.fits is not in tmp",
        ),
        (f"cal_extract {ONE} 9999999o_pp.fits", "9999999o has no identified raw frame in night 2018-09-25"),
        (
            "cal_extract 2018-09-24 2320031o_pp.fits",
            "2320031o has no identified raw frame in night 2018-09-24",
        ),
        (f"cal_preprocessing {ONE} 9999999o.fits", "E-NO-FILES id00001: cal_preprocessing: 9999999o.fits"),
        (f"cal_preprocessing {ONE} 2320130o.fits", "E-NO-FILES"),
        (f"cal_preprocessing {ONE} notes.txt", "is not of the kind RAW"),
        (f"cal_loc {ONE} 2320031o_pp.fits", "2320031o is OBJ_FP, expected DARK_FLAT or FLAT_DARK"),
        (
            f"cal_loc {ONE} 2320005f_pp.fits 2320010f_pp.fits",
            "must be of one type, found DARK_FLAT, FLAT_DARK",
        ),
        (f"cal_leak {ONE} 2320029o_pp_e2dsff_AB.fits", "2320029o is OBJ_DARK, expected OBJ_FP or POLAR_FP"),
        (f"obj_fit_tellu {ONE} 2320031o_pp_e2dsff_C.fits", "of fibre AB or A or B"),
        (f"cal_extract {ONE} *_nothing.fits", "E-NO-FILES"),
        ("cal_leak_master 2018-09-24", "night 2018-09-24 has no DARK_FP frame"),
        (
            f"cal_ccf {ONE} 2320031o_pp_s1d_w_AB.fits",
            "is not of the kind TCORR or TCORR1 or LCORR or E2DSFF or E2DS",
        ),
        ("obj_mk_template Gl698", 'object "Gl698" was not observed; the closest observed object is GL699'),
    ],
)
def test_wrong_lines(line: str, says: str) -> None:
    assert any(says in text for text in error(line)), error(line)


def test_files_of_several_kinds(reduced: Snapshot) -> None:
    line = f"cal_ccf {ONE} 2320031o_pp_e2dsff_tcorr_AB.fits 2320032o_pp_e2dsff_AB.fits"
    assert "files of one kind expected, found E2DSFF, TCORR" in error(line, reduced)[0]


def test_all_errors_of_a_file_are_found() -> None:
    made = plan(
        f"id1 = cal_extract {ONE} 2320031o.fits 2320032x_pp.fits\nid2 = cal_loc {ONE} 2320031o_pp.fits"
    )
    assert len(texts(made, "E-ARG")) == 3
    assert len(texts(made, "E-NO-FILES")) == 1


def test_wildcards(reduced: Snapshot) -> None:
    raw = plan(f"id1 = cal_preprocessing {ONE} *o.fits")
    assert [task.stem for task in raw.tasks] == [f"23200{n}o" for n in range(29, 36)]
    stored = plan(f"id1 = cal_extract {TWO} 232013[45]o_pp.fits", snapshot=reduced)
    assert [f.identifier for f in stored.tasks[0].inputs[0].frames] == ["2320134o", "2320135o"]
    planned = plan(f"id1 = pp_seq\nid2 = cal_extract {TWO} 23201??o_pp.fits")
    assert len(planned.tasks[-1].inputs[0].frames) == 7
    # Only files that the recipe can read are meant.
    some = plan(f"id1 = cal_ccf {ONE} 2320031o*_tcorr_AB*", snapshot=reduced)
    assert [i.kind for i in some.tasks[0].inputs] == ["TCORR", "E2DSFF"]


def test_line_takes_what_an_earlier_id_makes() -> None:
    made = plan(f"id1 = pp_seq\nid2 = cal_extract {ONE} 2320031o_pp.fits", only_show=False)
    assert made.tasks[-1].inputs[0].producers == (run(made, "PP", stem="2320031o").key,)
    late = plan(f"id1 = cal_extract {ONE} 2320031o_pp.fits\nid2 = pp_seq")
    assert len(texts(late, "E-NO-FILES")) == 1


def test_line_selects_what_an_earlier_id_makes() -> None:
    text = (
        "id1 = pp_seq\nid2 = master_seq\n"
        f"id3 = cal_badpix {ONE} --flatfiles 2320015f_pp.fits --darkfiles 2320001d_pp.fits\n"
        f"id4 = cal_loc {ONE} 2320005f_pp.fits 2320006f_pp.fits"
    )
    made = plan(text, only_show=False)
    loc = runs(made, "LOC")[0]
    assert loc.step.variant == "DARK_FLAT"
    assert sources(made, selection(loc, "BADPIX")) == [("BAD", ONE), ("BADM", ONE)]
    assert loc.path("LOC", "C") == "reduced/2018-09-25/2320005f_pp_loco_C.fits"
    assert execute(made).tally(made) == {"DONE": len(made.tasks)}


def test_calibration_named_on_the_line(reduced: Snapshot) -> None:
    line = f"id1 = cal_extract {ONE} 2320031o_pp.fits --badpixfile my_badpixel.fits"
    (task,) = plan(line + " --locofile old_pp_loco_AB.fits", snapshot=reduced).tasks
    given = selection(task, "BADPIX")
    assert [c.identity for c in given.candidates] == ["file:my_badpixel.fits"]
    assert given.candidates[0].rank == 0
    # What the line does not name is searched as ever, and the file of fibre AB says nothing about C.
    assert selection(task, "BKGRDMAP").candidates[0].obs_dir == ONE
    assert [c.identity for c in selection(task, "LOC", "AB").candidates] == ["file:old_pp_loco_AB.fits"]
    assert selection(task, "ORDER_PROFILE", "AB").kinds == ("ORDER_PROFILE",)
    assert selection(task, "LOC", "C").kinds == ("LOC", "ORDER_PROFILE")
    wave = plan(f"id1 = cal_extract {ONE} 2320031o_pp.fits --wavefile w.fits", snapshot=reduced).tasks[0]
    assert [c.identity for c in selection(wave, "WAVE").candidates] == ["file:w.fits"]
    own = plan(f"id1 = obj_fit_tellu {ONE} 2320031o_pp_e2dsff_AB.fits --template t.fits", snapshot=reduced)
    assert selection(own.tasks[0], "TEMPLATE").candidates[0].identity == "file:t.fits"
    assert "template" not in {i.argument for i in own.tasks[0].inputs}


def test_stored_failure_is_used_on_request() -> None:
    made = plan("id1 = pp_seq\nid2 = master_seq\nid3 = calib_seq", only_show=False)
    done = execute(made, outcome=failing({("PP", "", "2320031o"): State.QC_FAILED}))
    line = f"id1 = cal_extract {ONE} 2320031o_pp.fits"
    refused = plan(line, snapshot=done.snapshot, only_show=False)
    assert refused.tasks[0].inputs[0].refused == ("2320031o",)
    assert execute(refused, done.snapshot).tally(refused) == {"FAILED_INPUT": 1}
    used = plan(line + " --no_in_qc", snapshot=done.snapshot, only_show=False)
    played = execute(used, done.snapshot)
    assert played.tally(used) == {"DONE": 1}
    again = plan("SKIP_EXT = True\n" + line + " --no_in_qc", snapshot=played.snapshot, only_show=False)
    assert states(again) == {"SKIPPED_EXISTS": 1}


def test_telluric_lines_take_model_and_template(reduced: Snapshot) -> None:
    made = plan(f"id1 = obj_fit_tellu {ONE} 2320031o_pp_e2dsff_lcorr_AB.fits", snapshot=reduced)
    inputs = {i.argument: i for i in made.tasks[0].inputs}
    assert inputs["files"].kind == "LCORR"
    assert inputs["files"].fibres == ("AB", "A", "B")
    assert inputs["template"].producers == ("stored",)
    assert inputs["model"].producers == ("PCA2-00001",)
    assert len(made.nodes[0].stored) == 5
    assert execute(made, reduced).tally(made) == {"DONE": 1}
    without = plan(
        f"id1 = obj_fit_tellu {ONE} 2320031o_pp_e2dsff_lcorr_AB.fits --use_template False", snapshot=reduced
    )
    assert "template" not in {i.argument for i in without.tasks[0].inputs}


def test_absorption_model_alone_waits_for_no_transmissions(reduced: Snapshot) -> None:
    """--onlypreclean uses no residual model: none is made for it, and the run goes on without hot stars."""
    line = f"id1 = obj_fit_tellu {ONE} 2320031o_pp_e2dsff_lcorr_AB.fits --onlypreclean"
    made = plan(line, snapshot=reduced)
    assert "model" not in {i.argument for i in made.tasks[0].inputs}
    assert not made.nodes
    assert execute(made, reduced).tally(made) == {"DONE": 1}
    hot = plan("id1 = pp_seq\nid2 = master_seq\nid3 = calib_seq", only_show=False)
    calibrated = execute(hot).snapshot
    text = f"id1 = cal_extract {ONE} 2320031o_pp.fits\nid2 = {line[6:].replace('_lcorr', '')}"
    without = plan(text, snapshot=calibrated, only_show=False)
    assert execute(without, calibrated).tally(without) == {"DONE": 2}
    full = plan(text.replace(" --onlypreclean", ""), snapshot=calibrated, only_show=False)
    assert execute(full, calibrated).tally(full) != {"DONE": 2}


# -- whole-archive and object lines ------------------------------------------------------------


def test_master_lines() -> None:
    hollow = "2320027c_pp.fits 2320028c_pp.fits"
    combs = " ".join(f"23200{n}a_pp.fits" for n in range(20, 25))
    text = (
        "id1 = pp_seq\nid2 = cal_dark_master\n"
        f"id3 = cal_badpix {ONE} --flatfiles 2320015f_pp.fits --darkfiles 2320001d_pp.fits --master=True\n"
        f"id4 = cal_loc {ONE} 2320010f_pp.fits --master=True\n"
        f"id5 = cal_shape_master {ONE} --hcfiles {hollow} --fpfiles {combs}\n"
    )
    made = plan(text, only_show=False)
    assert {t.step.short: t.step.tier for t in made.tasks if t.step.short != "PP"} == {
        "DARKM": "master",
        "BAD": "master",
        "LOC": "master",
        "SHAPEM": "master",
    }
    assert len(run(made, "DARKM").inputs[0].frames) == 10
    assert len(run(made, "SHAPEM").inputs[1].frames) == 5
    assert sources(made, selection(run(made, "SHAPEM"), "LOC", "AB")) == [("LOC", ONE)]
    assert execute(made).tally(made) == {"DONE": 150}


def test_master_night_of_explicit_lines() -> None:
    text = f"id1 = pp_seq\nid2 = cal_leak_master {ONE}"
    assert "E-MASTER-UNSET" not in codes(plan(text, base=""))
    assert "E-MASTER-UNSET" in codes(plan("id1 = cal_dark_master", base=""))


def test_kind_of_dark() -> None:
    made = plan("id1 = cal_dark_master --filetype DARK_DARK_INT")
    assert {f.dprtype for f in run(made, "DARKM").inputs[0].frames} == {"DARK_DARK_INT"}


def test_template_line(reduced: Snapshot) -> None:
    made = plan("id1 = obj_mk_template Gl699", snapshot=reduced)
    (task,) = made.tasks
    assert (task.object, task.obs_dir, task.key) == ("GL699", "", "00001.00.00001")
    assert (task.inputs[0].kind, len(task.inputs[0].frames)) == ("TCORR1", 12)
    public = plan("id1 = obj_mk_template Gl699 --filetype TCORR", snapshot=reduced)
    assert public.tasks[0].inputs[0].kind == "TCORR"


def test_database_lines() -> None:
    made = plan(
        "id1 = pp_seq\nid2 = master_seq\nid3 = calib_seq\nid4 = tellu_seq\n"
        "id5 = obj_fit_tellu_db --objname Gl699"
    )
    mine = [t for t in made.tasks if t.step.request == 5]
    assert {t.step.label for t in mine} == {"00a", "00b", "00c"}
    assert {t.object for t in mine if t.object} == {"GL699"}
    assert counts(made)["FTELLU1"] == 12


def test_database_line_switched_off() -> None:
    made = plan("RUN_FTELLDB = False\nid1 = obj_fit_tellu_db")
    assert not made.tasks
    assert all("RUN_FTELLDB = False" in c.reasons[0] for c in made.counts)


def test_master_line_in_trigger_mode() -> None:
    made = plan(f"TRIGGER_RUN = True\nNIGHT_NAME = {ONE}\nid1 = cal_dark_master")
    assert not made.tasks
    assert texts(made, "W-NO-RUNS")[0].startswith("DARKM: no run planned: not in trigger mode")


# -- several lines -----------------------------------------------------------------------------

CCF = f"cal_ccf {ONE} 2320031o_pp_e2dsff_tcorr_AB.fits"


def test_equal_lines_are_planned_once(reduced: Snapshot) -> None:
    made = plan(f"id1 = {CCF} --width 20\nid7 = {CCF} --width=20", snapshot=reduced)
    assert [t.key for t in made.tasks] == ["00001.00.00001"]
    assert "E-OUTPUT-CONFLICT" not in codes(made)
    # Options at their default change nothing.
    same = plan(f"id1 = {CCF}\nid2 = {CCF} --width 300 --database True", snapshot=reduced)
    assert len(same.tasks) == 1


def test_lines_that_would_write_one_file(reduced: Snapshot) -> None:
    made = plan(f"id1 = {CCF} --width 20\nid2 = {CCF} --width 30", snapshot=reduced)
    (said,) = texts(made, "E-OUTPUT-CONFLICT")
    assert said.startswith(
        "id00001 and id00002 would both write reduced/2018-09-25/2320031o_pp_e2dsff_tcorr_AB_ccf"
    )


def test_other_masks_are_other_files(reduced: Snapshot) -> None:
    snapshot = Snapshot.of(reduced.markers.values(), masks=["a.mas", "b.mas"])
    text = "".join(
        f"id{n} = {CCF} --mask {m}.mas --width {w}\n"
        for n, m, w in ((1, "a", 20), (2, "b", 30), (3, "a", 40))
    )
    made = plan(text, snapshot=snapshot)
    assert len(made.tasks) == 2
    assert texts(made, "E-OUTPUT-CONFLICT")[0].startswith("id00001 and id00003")


@pytest.mark.parametrize("order", [("sequence", "line"), ("line", "sequence")])
def test_line_against_a_sequence(order: tuple[str, str], reduced: Snapshot) -> None:
    what = {"sequence": "science_seq", "line": f"{CCF} --width 20"}
    text = "".join(f"id{n + 1} = {what[name]}\n" for n, name in enumerate(order))
    made = plan(text, snapshot=reduced)
    assert len(texts(made, "E-OUTPUT-CONFLICT")) == 1


@pytest.mark.parametrize("order", [("sequence", "line"), ("line", "sequence")])
def test_line_that_repeats_a_run_of_a_sequence(order: tuple[str, str]) -> None:
    what = {"sequence": "pp_seq", "line": f"cal_preprocessing {ONE} 2320031o.fits"}
    text = "".join(f"id{n + 1} = {what[name]}\n" for n, name in enumerate(order))
    made = plan(text)
    assert "E-OUTPUT-CONFLICT" not in codes(made)
    assert len(made.tasks) == 146
    assert len({path for t in made.tasks for _, _, path in t.outputs()}) == 146


def test_template_line_after_a_sequence() -> None:
    made = plan("id1 = limited_seq\nid2 = obj_mk_template Gl699")
    assert len(made.tasks) == 276
    other = plan("id1 = limited_seq\nid2 = obj_mk_template Gl699 --filetype TCORR")
    assert len(texts(other, "E-OUTPUT-CONFLICT")) == 1


def off(text: str, snapshot: Snapshot) -> Plan:
    return plan("RUN_CCF = False\n" + text, snapshot=snapshot)


def test_switched_off_lines(reduced: Snapshot) -> None:
    made = off(
        f"id1 = {CCF} --width 20\nid2 = {CCF} --width 30\nid3 = {CCF.replace('2320031o', '9999999o')}",
        reduced,
    )
    assert states(made) == {"SKIPPED_USER": 3}
    assert not {"E-OUTPUT-CONFLICT", "E-NO-FILES"} & codes(made)
    assert all("switched off: RUN_CCF = False" in c.reasons for c in made.counts)


def test_shape_line_is_named_by_its_comb_like_the_sequence() -> None:
    made = plan(
        f"id1 = pp_seq\nid2 = cal_shape_master {ONE} --hcfiles 2320027c_pp.fits --fpfiles 2320020a_pp.fits"
    )
    task = next(t for t in made.tasks if t.step.short == "SHAPEM")
    assert task.path("SHAPEX") == f"reduced/master/{ONE}/2320020a_pp_shapex.fits"


def test_switched_off_line_with_unknown_mask(reduced: Snapshot) -> None:
    made = off(f"id1 = {CCF} --mask nobody_has_it.mas", reduced)
    assert states(made) == {"SKIPPED_USER": 1}
    assert "E-NO-MASK" not in codes(made)


def test_a_line_with_several_frames_has_a_run_for_each() -> None:
    made = plan(f"id1 = pp_seq\nid2 = cal_extract {ONE} 2320031o_pp.fits 2320032o_pp.fits --combine False")
    found = [task for task in made.tasks if task.step.short == "EXT"]
    assert [(task.key, task.stem) for task in found] == [
        ("00002.00.00001", "2320031o"),
        ("00002.00.00002", "2320032o"),
    ]
    for task in found:
        assert all(path.startswith(f"reduced/{ONE}/{task.stem}_pp_") for _, _, path in task.outputs())
        assert [frame.identifier for frame in task.inputs[0].frames] == [task.stem]


def test_combined_frames_have_the_products_of_the_first() -> None:
    made = plan(f"id1 = pp_seq\nid2 = cal_extract {ONE} 2320031o_pp.fits 2320032o_pp.fits")
    (task,) = [task for task in made.tasks if task.step.short == "EXT"]
    assert [frame.identifier for frame in task.inputs[0].frames] == ["2320031o", "2320032o"]
    assert all("/2320031o_pp_" in path for _, _, path in task.outputs())


def test_a_package_line_finds_its_members(reduced: Snapshot) -> None:
    made = plan(
        f"id1 = cal_postprocess {ONE} 2320031o_pp_e2dsff_AB.fits --wave-basis power", snapshot=reduced
    )
    (task,) = made.tasks
    assert dict(task.options) == {"wave-basis": "power"}
    paths = {i.kind: i.paths() for i in task.inputs}
    assert paths["E2DSFF"] == [f"reduced/{ONE}/2320031o_pp_e2dsff_{f}.fits" for f in ("AB", "A", "B", "C")]
    assert paths["PP"] == [f"tmp/{ONE}/2320031o_pp.fits"]
    assert paths["TCORR"] == [f"reduced/{ONE}/2320031o_pp_e2dsff_tcorr_{f}.fits" for f in ("AB", "A", "B")]
    (velocity,) = paths["CCF"]
    assert velocity.startswith(f"reduced/{ONE}/2320031o_pp_e2dsff_tcorr_AB_ccf_")
    refused = plan(f"id1 = cal_postprocess {ONE} 2320031o_pp_e2dsff_AB.fits", snapshot=reduced.__class__())
    assert "E-NO-FILES" in codes(refused)


def test_members_cannot_be_named_on_a_line() -> None:
    line = f"id1 = cal_postprocess {ONE} 2320031o_pp_e2dsff_AB.fits --tcorr 2320032o_pp_e2dsff_tcorr_AB.fits"
    with pytest.raises(AssertionError, match="unknown option --tcorr"):
        plan(line)


def test_options_add_products_and_calibrations() -> None:
    """The leak reference and the contributions of pixels are there only where the line asks for them."""
    line = f"id1 = pp_seq\nid2 = cal_extract {ONE} 2320031o_pp.fits"
    plain = next(t for t in plan(line).tasks if t.step.short == "EXT")
    asked = next(t for t in plan(f"{line} --leakcorr True --e2dsll True").tasks if t.step.short == "EXT")
    assert {kind for kind, _, _ in asked.outputs()} - {kind for kind, _, _ in plain.outputs()} == {"E2DSLL"}
    found = {kind for select in asked.selections for kind in select.kinds}
    assert found - {kind for select in plain.selections for kind in select.kinds} == {"LEAKM"}
    assert asked.identity() != plain.identity()


def test_one_fibre() -> None:
    """A line confined to a fibre makes and offers the products of that fibre alone."""
    line = f"id1 = pp_seq\nid2 = cal_extract {ONE} 2320031o_pp.fits --fiber AB"
    (task,) = [t for t in plan(line).tasks if t.step.short == "EXT"]
    assert {fibre for _, fibre, _ in task.outputs()} == {"AB"}
    assert [kind for kind, _, _ in task.outputs()] == ["E2DS", "E2DSFF", "S1D_W", "S1D_V"]
    comb = plan(line.replace("AB", "C")).tasks[-1]
    assert {kind for kind, _, _ in comb.outputs()} == {"E2DS", "E2DSFF", "S1D_W", "S1D_V", "EXT_FPLIST"}
    velocity = plan(f"{line}\nid3 = cal_ccf {ONE} 2320031o_pp_e2dsff_AB.fits")
    assert velocity.tasks[-1].inputs[0].producers == (task.key,)
    leak = plan(f"{line}\nid3 = cal_leak {ONE} 2320031o_pp_e2dsff_AB.fits")
    assert "E-NO-FILES" in codes(leak)


def test_a_finished_file_is_kept_on_request(reduced: Snapshot) -> None:
    """--skip of a line does what SKIP_PP does, and wins over it."""
    line = f"id1 = cal_preprocess_spirou.py {ONE} 2320031o.fits"
    assert states(plan(line, snapshot=reduced)) == {"PLANNED": 1}
    assert states(plan(f"{line} --skip True", snapshot=reduced)) == {"SKIPPED_EXISTS": 1}
    assert states(plan(f"SKIP_PP = True\n{line} --skip False", snapshot=reduced)) == {"PLANNED": 1}
