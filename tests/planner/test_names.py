"""Keys of runs and nodes, names of products, records of the plan."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from apero_dask.core.ids import digest
from apero_dask.core.outcome import State
from apero_dask.core.plan import MISSING, STORED, Plan
from apero_dask.core.snapshot import Snapshot
from tests.planner.planning import plan, run, runs

KEY = re.compile(r"\d{5}\.\d{2}[a-z]?\.\d{5}")


@pytest.fixture(scope="module")
def full() -> Plan:
    return plan("RUN_SCIPOST = True\nid3 = full_seq")


@pytest.fixture(scope="module")
def limited() -> Plan:
    return plan("id1 = limited_seq")


def test_keys(full: Plan) -> None:
    assert all(KEY.fullmatch(task.key) for task in full.tasks)
    assert len({task.key for task in full.tasks}) == len(full.tasks)
    assert run(full, "DARKM").key == "00003.02.00001"
    assert [t.key for t in runs(full, "THERMAL")] == [
        "00003.18.00001",
        "00003.18.00002",
        "00003.18.00003",
        "00003.19.00001",
        "00003.19.00002",
    ]
    assert {t.step.short: t.step.label for t in full.tasks if t.step.label > "22"} == {
        "MKTELLU1": "23a",
        "MKTELLU2": "23b",
        "MKTELLU3": "23c",
        "MKTELLU4": "23d",
        "FTELLU1": "24a",
        "FTELLU2": "24b",
        "FTELLU3": "24c",
        "CCF": "25",
        "SCIPOST": "26",
    }
    assert runs(full, "CCF")[0].dask_key == "CCF-00003.25.00001"
    assert [node.key for node in full.nodes] == ["GATE-MASTER_OK", "PCA1-00003", "PCA2-00003"]


def test_step_numbers_of_the_limited_sequence(limited: Plan) -> None:
    labels: dict[str, str] = {}
    for task in limited.tasks:
        labels.setdefault(task.step.short, task.step.label)
    assert labels == {
        "PP": "01", "DARKM": "02", "BADM": "03", "LOCM": "04", "SHAPEM": "06", "SHAPELM": "07", "FLATM": "08",
        "LEAKM": "09", "THIM": "10", "THTM": "11", "WAVEM": "12", "BAD": "13", "LOC": "14", "SHAPE": "16",
        "FF": "17", "THERMAL": "18", "WAVE": "20", "EXTTELL": "21", "EXTOBJ": "22", "LEAKTELL": "23",
        "LEAKOBJ": "24", "MKTELLU1": "25", "MKTELLU2": "26", "MKTELLU3": "27", "MKTELLU4": "28",
        "FTELLU1": "29", "FTELLU2": "30", "FTELLU3": "31", "CCF": "32",
    }  # fmt: skip


def test_runs_are_numbered_in_canonical_order(limited: Plan) -> None:
    stems = [task.stem for task in runs(limited, "PP")]
    assert stems == sorted(stems)
    assert [task.obs_dir for task in runs(limited, "FF")] == ["2018-09-25", "2018-09-26", "2018-09-27"]
    assert [task.object for task in runs(limited, "MKTELLU3")] == ["59PEG", "GAMSCT", "ZETVIR"]


NAMES = {
    ("PP", "2320031o"): {"PP": "tmp/2018-09-25/2320031o_pp.fits"},
    ("DARKM", ""): {"DARKM": "reduced/master/2018-09-25/2320001d_pp_dark_master.fits"},
    ("BADM", ""): {"BADPIX": "reduced/master/2018-09-25/2320015f_pp_badpixel.fits"},
    ("SHAPEM", ""): {
        "SHAPEX": "reduced/master/2018-09-25/2320020a_pp_shapex.fits",
        "SHAPEY": "reduced/master/2018-09-25/2320020a_pp_shapey.fits",
        "FPMASTER": "reduced/master/2018-09-25/2320020a_pp_fpmaster.fits",
    },
    ("SHAPELM", ""): {"SHAPEL": "reduced/master/2018-09-25/2320020a_pp_shapel.fits"},
    ("FLATM", ""): {
        "FLAT AB": "reduced/master/2018-09-25/2320015f_pp_flat_AB.fits",
        "BLAZE C": "reduced/master/2018-09-25/2320015f_pp_blaze_C.fits",
    },
    ("THIM", ""): {"THERMALI B": "reduced/master/2018-09-25/2320001d_pp_thermal_e2ds_int_B.fits"},
    ("THTM", ""): {"THERMALT A": "reduced/master/2018-09-25/2320003d_pp_thermal_e2ds_tel_A.fits"},
    ("LEAKM", ""): {"LEAKM AB": "reduced/master/2018-09-25/2320025a_pp_leak_master_AB.fits"},
    ("WAVEM", ""): {
        "WAVEM C": "reduced/master/2018-09-25/2320027c_pp_e2dsff_AB_wavem_fp_C.fits",
        "WAVECAV": "reduced/master/2018-09-25/2320027c_pp_wavem_cav.fits",
        "WAVEHCL A": "reduced/master/2018-09-25/2320027c_pp_wavem_hclines_A.fits",
        "WAVEFPL C": "reduced/master/2018-09-25/2320027c_pp_wavem_fplines_C.fits",
        "WAVR_E2DS AB": "reduced/master/2018-09-25/2320027c_pp_wavem_res_e2ds_AB.fits",
    },
    ("BAD", "2320015f"): {
        "BADPIX": "reduced/2018-09-25/2320015f_pp_badpixel.fits",
        "BKGRDMAP": "reduced/2018-09-25/2320015f_pp_bmap.fits",
    },
    ("LOC", "2320105f"): {
        "LOC C": "reduced/2018-09-26/2320105f_pp_loco_C.fits",
        "ORDER_PROFILE C": "reduced/2018-09-26/2320105f_pp_order_profile_C.fits",
    },
    ("LOC", "2320110f"): {"LOC AB": "reduced/2018-09-26/2320110f_pp_loco_AB.fits"},
    ("WAVE", "2320127c"): {"WAVE AB": "reduced/2018-09-26/2320127c_pp_e2dsff_AB_wave_night_AB.fits"},
    ("EXTOBJ", "2320031o"): {
        "E2DS AB": "reduced/2018-09-25/2320031o_pp_e2ds_AB.fits",
        "E2DSFF C": "reduced/2018-09-25/2320031o_pp_e2dsff_C.fits",
        "S1D_W B": "reduced/2018-09-25/2320031o_pp_s1d_w_B.fits",
        "S1D_V AB": "reduced/2018-09-25/2320031o_pp_s1d_v_AB.fits",
    },
    ("LEAKOBJ", "2320031o"): {
        "LCORR AB": "reduced/2018-09-25/2320031o_pp_e2dsff_lcorr_AB.fits",
        "LCORR_S1D_W A": "reduced/2018-09-25/2320031o_pp_s1d_w_lcorr_A.fits",
    },
    ("MKTELLU1", "2320029o"): {"TRANS1 AB": "reduced/2018-09-25/2320029o_pp_tellu_trans_p1_AB.fits"},
    ("MKTELLU4", "2320029o"): {"TRANS2 AB": "reduced/2018-09-25/2320029o_pp_tellu_trans_AB.fits"},
    ("MKTELLU2", "2320029o"): {
        "TCORR AB": "reduced/2018-09-25/2320029o_pp_e2dsff_tcorr_AB.fits",
        "RECON AB": "reduced/2018-09-25/2320029o_pp_e2dsff_recon_AB.fits",
    },
    ("FTELLU1", "2320031o"): {
        "TCORR1 AB": "reduced/2018-09-25/2320031o_pp_e2dsff_tcorr_p1_AB.fits",
        "RECON1 AB": "reduced/2018-09-25/2320031o_pp_e2dsff_recon_p1_AB.fits",
    },
    ("MKTELLU3", "GAMSCT"): {
        "TEMPLATE AB": "reduced/other/Template_GAMSCT_tellu_obj_AB.fits",
        "BIGCUBE0 AB": "reduced/other/BigCube0_GAMSCT_tellu_obj_AB.fits",
    },
    ("FTELLU3", "2320031o"): {
        "TCORR A": "reduced/2018-09-25/2320031o_pp_e2dsff_tcorr_A.fits",
        "TCORR_S1D_V AB": "reduced/2018-09-25/2320031o_pp_s1d_v_tcorr_AB.fits",
        "RECON AB": "reduced/2018-09-25/2320031o_pp_e2dsff_recon_AB.fits",
    },
    ("CCF", "2320031o"): {
        "CCF AB": "reduced/2018-09-25/2320031o_pp_e2dsff_tcorr_AB_ccf_apero_dask_mdwarf_AB.fits",
    },
}


@pytest.mark.parametrize(("short", "stem"), NAMES)
def test_product_names(limited: Plan, short: str, stem: str) -> None:
    found = {}
    for task in runs(limited, short, stem=stem):
        found = {f"{kind} {fibre}".strip(): path for kind, fibre, path in task.outputs()}
        assert all(task.path(kind, fibre) == path for kind, fibre, path in task.outputs())
    expected = NAMES[short, stem]
    assert {key: found[key] for key in expected} == expected


def test_localisation_makes_its_own_fibres_only(limited: Plan) -> None:
    for task in runs(limited, "LOC"):
        wanted = "C" if task.step.variant == "DARK_FLAT" else "AB"
        assert {fibre for _, fibre, _ in task.outputs()} == {wanted}
    with pytest.raises(KeyError, match="does not make"):
        runs(limited, "LOC")[0].path("FLAT")


def test_comb_velocity_comes_with_the_comb_only(limited: Plan) -> None:
    kinds = {t.stem: {k for k, _, _ in t.outputs()} for t in runs(limited, "CCF")}
    assert kinds["2320031o"] == {"CCF", "CCF_FP"}
    assert kinds["2320134o"] == {"CCF"}
    arguments = {t.stem: [i.argument for i in t.inputs] for t in runs(limited, "CCF")}
    assert arguments["2320031o"] == ["files", "fpfiles"]
    assert arguments["2320134o"] == ["files"]


@pytest.mark.parametrize("name", ["limited", "full"])
def test_no_two_runs_share_a_file(name: str, request: pytest.FixtureRequest) -> None:
    made: Plan = request.getfixturevalue(name)
    paths = [path for task in made.tasks for _, _, path in task.outputs()]
    paths += [path for node in made.nodes for _, _, path in node.outputs()]
    assert len(set(paths)) == len(paths)


def test_hot_stars_get_their_public_name_from_the_only_fit(full: Plan, limited: Plan) -> None:
    """In every sequence: a fit under another name would be another run, and so all that follows it."""
    fit = run(full, "MKTELLU2", stem="2320029o")
    assert fit.step.variant == "p1_public"
    assert run(limited, "MKTELLU2", stem="2320029o").identity() == fit.identity()
    assert fit.path("TCORR", "AB") == "reduced/2018-09-25/2320029o_pp_e2dsff_tcorr_AB.fits"
    assert run(full, "CCF", stem="2320029o").inputs[0].producers == (fit.key,)
    template = run(full, "MKTELLU3", "59PEG")
    assert template.inputs[0].kind == "TCORR"
    assert template.inputs[0].producers[0] == fit.key


def test_hot_star_that_is_a_science_target_gets_its_public_name_from_the_last_fit() -> None:
    made = plan("SCIENCE_TARGETS = Gl699, 59Peg\nid1 = limited_seq", base="MASTER_OBS_DIR = 2018-09-25\n")
    fits = {t.stem: t.step.variant for t in runs(made, "MKTELLU2")}
    assert fits.pop("2320029o") == fits.pop("2320129o") == "p1"
    assert set(fits.values()) == {"p1_public"}
    last = run(made, "FTELLU3", stem="2320029o")
    assert run(made, "CCF", stem="2320029o").inputs[0].producers == (last.key,)


def test_sequences_share_their_fits() -> None:
    """One after the other in one run file: only the velocities of hot stars are new."""
    made = plan("id1 = limited_seq\nid2 = full_seq")
    assert {t.step.short for t in made.tasks if t.step.request == 2} == {"CCF"}
    assert len(made.tasks) == 276 + 5
    last = plan("RUN_FTELLU3 = False\nid1 = limited_seq\nid2 = science_seq")
    assert len(last.tasks) == 276 - 14


def test_first_fit_owns_the_public_name_without_a_third() -> None:
    made = plan("RUN_FTELLU3 = False\nid1 = limited_seq")
    assert {t.step.variant for t in runs(made, "FTELLU1")} == {"p1_public"}
    ccf = run(made, "CCF", stem="2320031o")
    assert ccf.inputs[0].producers == (run(made, "FTELLU1", stem="2320031o").key,)
    assert run(made, "FTELLU2", "GL699").inputs[0].kind == "TCORR"


def test_packaged_files() -> None:
    made = plan("RUN_SCIPOST = True\nid1 = limited_seq")
    task = run(made, "SCIPOST", stem="2320031o")
    assert [path for _, _, path in task.outputs()] == [f"out/2018-09-25/2320031{c}.fits" for c in "estv"]
    required = {i.kind for i in task.inputs if i.required}
    assert required == {"E2DSFF", "PP", "S1D_W", "S1D_V"}
    optional = {i.kind for i in task.inputs} - required
    assert optional == {
        "LCORR", "LCORR_S1D_W", "LCORR_S1D_V", "TCORR", "TCORR_S1D_W", "TCORR_S1D_V",
        "RECON", "RECON_S1D_W", "RECON_S1D_V", "PCLEAN", "CCF",
    }  # fmt: skip
    # Every member comes from the run that makes it, and that run makes the file.
    for inputs in task.inputs:
        (producer,) = inputs.producers
        made_there = {path for _, _, path in made.by_key[producer].outputs()}
        assert set(inputs.paths()) <= made_there, inputs.kind
    without = run(made, "SCIPOST", stem="2320134o")
    assert not {"LCORR", "LCORR_S1D_W", "LCORR_S1D_V"} & {i.kind for i in without.inputs}


def test_packages_without_later_steps() -> None:
    made = plan("RUN_SCIPOST = True\nRUN_FTELLU1 = False\nRUN_FTELLU3 = False\nid1 = limited_seq")
    kinds = {i.kind for i in run(made, "SCIPOST", stem="2320031o").inputs}
    assert not kinds & {"TCORR", "TCORR_S1D_W", "RECON", "PCLEAN"} and "LCORR" in kinds


@pytest.mark.parametrize("name", ["limited", "full"])
def test_lines_are_the_records(name: str, request: pytest.FixtureRequest) -> None:
    made: Plan = request.getfixturevalue(name)
    lines = list(made.json_lines())
    assert all(line.endswith("}\n") and line.count("\n") == 1 for line in lines)
    records = [json.loads(line) for line in lines]
    assert records[: len(made.tasks)] == [task.record() for task in made.tasks]
    assert records[len(made.tasks) :] == [node.record() for node in made.nodes]
    # Lines of runs are put together from texts: the same texts that encoding the records gives.
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    assert lines[: len(made.tasks)] == [encode(task.record()) + "\n" for task in made.tasks]
    wanted = [
        "key",
        "short",
        "recipe",
        "tier",
        "inputs",
        "options",
        "outputs",
        "selects",
        "depends",
        "resources",
        "state",
    ]
    for record in records[: len(made.tasks)]:
        assert [key for key in record if key in wanted] == wanted
        assert ("object" in record) != ("obs_dir" in record)
    for record in records[len(made.tasks) :]:
        assert "node" in record
        assert "short" not in record


def test_lines_of_odd_runs_are_their_records(limited: Plan) -> None:
    """Whatever a record may hold: quotes, missing and refused inputs, options, masks, markers."""
    fit = run(limited, "FTELLU3", stem="2320031o")
    main = fit.inputs[0]
    odd = [
        replace(
            fit, obs_dir='2018 "a\\b\u00e9\u2028', mask='m"\x01', marker="0" * 32, state=State.SKIPPED_STALE
        ),
        replace(fit, object='tab\t"', obs_dir="", depends=('ORDER-"1"',), gate=""),
        replace(fit, inputs=(main._replace(producers=(MISSING,), refused=("2320031o",)),)),
        replace(fit, inputs=(main._replace(producers=(MISSING,)), main._replace(argument='other"'))),
        replace(fit, inputs=(main._replace(others=("reduced/a/b.fits",), producers=(STORED, STORED)),)),
        replace(fit, options=(("width", 20.5), ("fibres", ("AB", "C")), ("quick", True)), selections=()),
        replace(run(limited, "BAD", "2018-09-26"), stem='q"\n'),
    ]
    made = Plan.of("SPIROU", odd, limited.nodes, ())
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    assert list(made.json_lines())[: len(odd)] == [encode(task.record()) + "\n" for task in odd]


def test_record_of_one_run(limited: Plan) -> None:
    record = run(limited, "FTELLU3", stem="2320031o").record()
    assert record["inputs"] == {
        "files": [f"reduced/2018-09-25/2320031o_pp_e2dsff_lcorr_{f}.fits" for f in ("AB", "A", "B")],
        "template": ["reduced/other/Template_GL699_tellu_obj_AB.fits"],
        "model": ["reduced/other/trans_model_AB.fits"],
    }
    leak, template = run(limited, "LEAKOBJ", stem="2320031o"), run(limited, "FTELLU2", "GL699")
    assert record["depends"] == [leak.key, template.key, "PCA2-00001", "GATE-MASTER_OK"]
    assert {tuple(s["kinds"]) for s in record["selects"]} >= {("WAVE",), ("FLAT", "BLAZE")}


def test_identities_tell_twins_apart(limited: Plan) -> None:
    identities = [task.identity() for task in limited.tasks]
    assert len(set(identities)) == len(identities)


def test_identity_does_not_depend_on_the_id() -> None:
    one = {task.identity() for task in plan("id1 = calib_seq").tasks}
    other = {task.identity() for task in plan("id77 = calib_seq").tasks}
    assert one == other


def test_identity_is_the_digest_of_what_makes_a_run(limited: Plan) -> None:
    name = "2320031o_pp_e2dsff_tcorr_AB.fits"
    lines = plan(
        f"id1 = cal_ccf_spirou.py 2018-09-25 {name} --mask gl699.mas --rv -110.5 --width 20",
        snapshot=Snapshot.of(masks=["gl699.mas"], listing={"reduced/2018-09-25": [name]}),
    )
    odd = replace(limited.tasks[0], obs_dir='2018 "a\\b\u00e9\u2028', object="tab\t", mask="\x01")
    tasks = [*limited.tasks, *plan("id1 = calib_seq").tasks, *lines.tasks, odd]
    assert any(task.options for task in tasks)
    for task in tasks:
        expected = [
            task.step.recipe.name,
            task.step.tier,
            task.step.variant,
            task.obs_dir,
            task.object,
            {inputs.argument: sorted(inputs.paths()) for inputs in task.inputs},
            task.mask,
            [list(option) for option in task.options],
        ]
        assert task.identity() == digest(expected)
        assert task.identity([inputs.paths() for inputs in task.inputs]) == digest(expected)
