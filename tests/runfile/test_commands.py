"""Explicit recipe lines: splitting, all recipes and options, everything that can be wrong with a line."""

import shlex

import pytest
from hypothesis import assume, given
from hypothesis import settings as drawn
from hypothesis import strategies as st

from apero_dask.planner.explicit import effective_options
from apero_dask.runfile.commands import declared_recipes
from tests.runfile.reading import one, only, read

CCF = "cal_ccf_spirou.py 2018-08-05 2295651o_pp_e2dsff_tcorr_AB.fits"


def command(text):
    """The command of a line that must be faultless."""
    runfile, findings = read(f"id1 = {text}")
    assert findings.errors(strict=True) == [], list(map(str, findings))
    return runfile.requests[0].command


def idle(text):
    """The command of a line with an option that changes nothing, which is reported and no error."""
    runfile, findings = read(f"id1 = {text}")
    assert one(findings, "W-NOTIMPL").text.startswith("id00001: --")
    return runfile.requests[0].command


def fault(text):
    """Detail of the one E-ARG that a line raises."""
    runfile, findings = read(f"id1 = {text}")
    found = only(findings, "E-ARG")
    assert found.line == 1 and found.text.startswith("id00001: ") and runfile.requests == ()
    assert not found.text.endswith("..")
    return found.text


def test_line_of_the_run_file_document():
    found = command(f"{CCF} --mask masque_Oct19_Vrp9_Berv33.mas --rv 11.9 --width 20 --step 0.05")
    assert found.recipe == "cal_ccf"
    assert found.obs_dir == "2018-08-05"
    assert found.files == (("files", ("2295651o_pp_e2dsff_tcorr_AB.fits",)),)
    assert found.options == (
        ("mask", "masque_Oct19_Vrp9_Berv33.mas"),
        ("rv", 11.9),
        ("step", 0.05),
        ("width", 20.0),
    )
    assert not found.is_master


FILES = "2018-08-05 2295000f_pp.fits 2295001f_pp.fits"
SPECTRUM = "2018-08-05 2295651o_pp_e2dsff_AB.fits"
LAMPS = "2018-08-05 --hcfiles 2295010c_pp.fits --fpfiles 2295020a_pp.fits 2295021a_pp.fits"
# canonical name, names of the three vocabularies, a complete argument list
RECIPES = [
    (
        "cal_preprocessing",
        "cal_preprocess_spirou apero_preprocess_spirou",
        "2018-08-05 2295000f.fits --skip True",
    ),
    ("cal_dark_master", "cal_dark_master_spirou apero_dark_ref_spirou", "--filetype DARK_DARK_TEL"),
    (
        "cal_badpix",
        "cal_badpix_spirou apero_badpix_spirou",
        "2018-08-05 --flatfiles a.fits b.fits --darkfiles c.fits",
    ),
    ("cal_loc", "cal_loc_spirou apero_loc_spirou", FILES),
    ("cal_shape_master", "cal_shape_master_spirou apero_shape_ref_spirou", LAMPS),
    ("cal_shape", "cal_shape_spirou apero_shape_spirou", FILES),
    ("cal_ff", "cal_flat_spirou apero_flat_spirou", FILES),
    ("cal_thermal", "cal_thermal_spirou apero_thermal_spirou", FILES),
    ("cal_leak_master", "cal_leak_master_spirou apero_leak_ref_spirou", "2018-08-05 --filetype DARK_FP"),
    ("cal_leak", "cal_leak_spirou", SPECTRUM),
    ("cal_wave_master", "cal_wave_master_spirou apero_wave_ref_spirou", LAMPS),
    ("cal_wave_night", "cal_wave_night_spirou apero_wave_night_spirou", LAMPS),
    ("cal_extract", "cal_extract_spirou apero_extract_spirou", FILES),
    ("obj_mk_tellu", "obj_mk_tellu_spirou apero_mk_tellu_spirou", SPECTRUM),
    ("obj_fit_tellu", "obj_fit_tellu_spirou apero_fit_tellu_spirou", SPECTRUM),
    ("obj_mk_template", "obj_mk_template_spirou apero_mk_template_spirou", "'Gl 699' --fiber AB"),
    ("obj_mk_tellu_db", "obj_mk_tellu_db_spirou", "--cores 4"),
    ("obj_fit_tellu_db", "obj_fit_tellu_db_spirou", "--objname Gl699"),
    ("cal_ccf", "cal_ccf_spirou apero_ccf_spirou", SPECTRUM),
]


@pytest.mark.parametrize(("name", "scripts", "arguments"), RECIPES, ids=[row[0] for row in RECIPES])
def test_all_recipes_by_all_their_names(name, scripts, arguments):
    for script in [name, f"{name}_spirou", *scripts.split()]:
        for spelling in (script, f"{script}.py", script.upper()):
            assert command(f"{spelling} {arguments}").recipe == name


def test_nineteen_recipes_are_covered():
    documented = {name for name, recipe in declared_recipes().items() if not recipe.extension}
    assert documented == {row[0] for row in RECIPES} and len(documented) == 19


GENERAL = "--database --plot --no_in_qc"
SHAPES = "--shapex --shapey --shapel"
CALIBRATION = (
    "--badpixfile --badcorr --backfile --backsub --combine --darkfile --darkcorr --flipimage --fluxunits "
    "--resize"
)
EXTRACTION = f"--blazefile --locofile --orderpfile {SHAPES} --wavefile --fiber"
OPTIONS = {
    "cal_preprocessing": "--skip",
    "cal_dark_master": f"--filetype {GENERAL}",
    "cal_badpix": f"{GENERAL} --combine --flipimage --fluxunits --resize",
    "cal_loc": f"{GENERAL} {CALIBRATION}",
    "cal_shape_master": f"{GENERAL} {CALIBRATION} --locofile --fpmaster --fpref",
    "cal_shape": f"{GENERAL} {CALIBRATION} --fpmaster --fpref --shapex --shapey",
    "cal_ff": f"{GENERAL} {CALIBRATION} --fiber --locofile --orderpfile {SHAPES}",
    "cal_thermal": f"{GENERAL} {CALIBRATION} --fiber --locofile --orderpfile {SHAPES} --wavefile --forceext",
    "cal_leak_master": f"{GENERAL} --filetype",
    "cal_leak": f"{GENERAL} --leakfile",
    "cal_wave_master": f"{GENERAL} {CALIBRATION} {EXTRACTION} --forceext --hcmode --fpmode --cavityfile",
    "cal_wave_night": f"{GENERAL} {CALIBRATION} {EXTRACTION} --forceext",
    "cal_extract": f"{CALIBRATION} {EXTRACTION} --flatfile --thermalfile --thermal --leakcorr --objname "
    "--dprtype --quicklook --combine_method",
    "obj_mk_tellu": f"{GENERAL} --blazefile --wavefile --use_template --template --finiteres",
    "obj_fit_tellu": f"{GENERAL} --blazefile --wavefile --use_template --template --finiteres --onlypreclean",
    "obj_mk_template": f"{GENERAL} --filetype --fiber --blazefile --wavefile",
    "obj_mk_tellu_db": f"{GENERAL} --cores --filetype --fiber",
    "obj_fit_tellu_db": f"{GENERAL} --cores --filetype --fiber --objname --dprtype",
    "cal_ccf": f"{GENERAL} --mask --rv --width --step --masknormmode --blazefile",
}
CALLS = {name: f"{name}.py {arguments.partition(' --filetype')[0]}" for name, _, arguments in RECIPES} | {
    "cal_preprocessing": "cal_preprocess_spirou.py 2018-08-05 2295000f.fits",
    "cal_dark_master": "cal_dark_master_spirou.py",
    "obj_mk_template": "obj_mk_template_spirou.py Gl699",
    "obj_mk_tellu_db": "obj_mk_tellu_db_spirou.py",
    "obj_fit_tellu_db": "obj_fit_tellu_db_spirou.py",
}


def sample(recipe, name):
    """A value that an option accepts, as text."""
    option = recipe.option(name)
    if option.refused:
        return str(option.default)
    return {
        "bool": "False",
        "int": "3",
        "float": "5.5",
        "str": "X",
        "file": "some_file.fits",
        "switch": "",
        "choice": option.choices[-1] if option.choices else "",
    }[option.kind]


@pytest.mark.parametrize("name", OPTIONS)
def test_all_documented_options_are_accepted(name):
    recipe = declared_recipes()[name]
    for flag in OPTIONS[name].split():
        option = recipe.option(flag.removeprefix("--"))
        assert option is not None, f"{name} lacks {flag}"
        found = (idle if option.no_effect else command)(f"{CALLS[name]} {flag} {sample(recipe, option.name)}")
        assert dict(found.options).keys() == {option.name}
        if option.kind != "switch":
            joined = (idle if option.no_effect else command)(
                f"{CALLS[name]} {flag}={sample(recipe, option.name)}"
            )
            assert joined.options == found.options


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--rv -110.5", ("rv", -110.5)),
        ("--rv=-110.5", ("rv", -110.5)),
        ("--rv -1e2", ("rv", -100.0)),
        ("--rv -.5", ("rv", -0.5)),
        ("--RV 3", ("rv", 3.0)),
        ("--mask '$HOME # ~'", ("mask", "$HOME # ~")),
        ('--mask "a b.mas"', ("mask", "a b.mas")),
        ("--mask a\\ b.mas", ("mask", "a b.mas")),
        ("--mask /elsewhere/a.mas", ("mask", "/elsewhere/a.mas")),
        ("--blazefile /elsewhere/b.fits", ("blazefile", "/elsewhere/b.fits")),
        ("--masknormmode none", ("masknormmode", "None")),
        ("--masknormmode ALL", ("masknormmode", "all")),
        ("--database 1", ("database", True)),
        ("--no_in_qc", ("no_in_qc", True)),
        ("--mask a --mask a", ("mask", "a")),
    ],
)
def test_option_values(given, expected):
    assert command(f"{CCF} {given}").options == (expected,)


@pytest.mark.parametrize("given", ["--mask None", "--rv=none", "--no_in_qc=False"])
def test_none_counts_as_not_given(given):
    assert command(f"{CCF} {given}").options == ()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("cal_extract N a.fits --resize False", "--resize False is not possible: localisation, shape"),
        ("cal_extract N a.fits --flipimage None", "--flipimage None is not possible"),
        ("cal_loc N a.fits --fluxunits ADU/s", "--fluxunits ADU/s is not possible"),
        ("cal_flat_spirou.py N a.fits --fiber AB", "--fiber AB is not possible: what is made here is used"),
        ("obj_mk_tellu_db_spirou.py --fiber C", "--fiber C is not possible"),
        ("cal_leak N a.fits --database False", "--database False is not possible: every product that passes"),
        ("obj_mk_template Gl699 --fiber C", "expected one of ALL, AB"),
    ],
)
def test_what_cannot_be_granted_is_refused(line, says):
    assert says in fault(line)


def test_what_changes_nothing_is_said():
    """And is no part of what makes two runs different."""
    recipe = declared_recipes()["cal_wave_master"]
    found = idle("cal_wave_master N --hcfiles a.fits --fpfiles b.fits --hcmode 2")
    assert effective_options(recipe, found) == ()
    told = read("id1 = cal_wave_master N --hcfiles a.fits --fpfiles b.fits --hcmode 2")[1]
    assert str(only(told, "W-NOTIMPL").text) == (
        "id00001: --hcmode of cal_wave_master is accepted but has no effect."
    )


@drawn(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12))
def test_quoted_token_arrives_unchanged(text):
    assume("/" not in text and text.lower() not in ("none", "null", ".", ".."))
    quoted = shlex.quote(text)
    runfile, findings = read(f"id1 = {CCF} --mask={quoted}")
    assert runfile.requests[0].command.options == (("mask", text),), list(map(str, findings))


def test_wildcards_stay_as_written():
    found = command("cal_loc_spirou.py 2018-08-05 22950*f_pp.fits 229[56]?f_pp.fits")
    assert found.files == (("files", ("22950*f_pp.fits", "229[56]?f_pp.fits")),)


def test_list_options_take_all_files_up_to_the_next_option():
    found = command("cal_badpix 2018-08-05 --darkfiles d1 d2 d3 --combine True --flatfiles=f1 f2")
    assert found.files == (("flatfiles", ("f1", "f2")), ("darkfiles", ("d1", "d2", "d3")))
    assert found.options == (("combine", True),)


def test_single_dash_and_other_names_of_options_are_noted():
    runfile, findings = read(
        "id1 = cal_badpix 2018-08-05 -flatfiles a -darkfiles b\nid2 = cal_shape n f --fpref x"
    )
    assert [f.text for f in findings] == [
        "-flatfiles is read as --flatfiles.",
        "-darkfiles is read as --darkfiles.",
        "--fpref is read as --fpmaster.",
    ]
    assert runfile.requests[1].command.options == (("fpmaster", "x"),)


BOOKKEEPING = (
    "--prog=x --program y --program_name z --recipe_kind w --shortname CCF --parallel True --crunfile a.ini "
    "--debug 0 --verbose 2 --nosave"
)


def test_bookkeeping_options_are_dropped():
    assert command(f"{CCF} {BOOKKEEPING} --rv 3").options == (("rv", 3.0),)


@pytest.mark.parametrize("mark", ["--ref=True", "--master=True", "--ref", "--master 1", "--REF true"])
def test_master_mark(mark):
    found = command(f"cal_badpix n --flatfiles a --darkfiles b {mark}")
    assert found.is_master and found.options == ()


def test_master_mark_may_be_false():
    assert not command(f"{CCF} --master False").is_master


def test_object_names_keep_their_case():
    assert command("obj_mk_template_spirou.py 'Gl 699'").objname == "Gl 699"


def test_file_named_twice_is_used_once():
    runfile, findings = read("id1 = cal_loc n a.fits b.fits a.fits")
    assert only(findings, "W-LISTDUP").text == 'id00001 files: "a.fits" is listed twice.'
    assert runfile.requests[0].command.files == (("files", ("a.fits", "b.fits")),)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"{CCF} --mask 'a", "no closing quotation"),
        (f"{CCF} --mask a\\", "no escaped character"),
        ("'' x", "name of the recipe is empty"),
        ("cal_ccf x" + "x" * 200_000, "longer than"),
        ("cal_ccf", "needs a night (obs_dir) and one or more files"),
        ("cal_leak_master", "needs a night (obs_dir)"),
        ("cal_ccf 2018-08-05", "needs one or more files"),
        ("cal_ccf a.fits b.fits", "expected a night (obs_dir) before the files"),
        ("cal_ccf ../n a", 'night "../n"'),
        ("cal_ccf /data/raw/n a", 'night "/data/raw/n"'),
        ("cal_ccf n /data/a.fits", 'file "/data/a.fits": expected a base name'),
        ("cal_ccf n sub/a.fits", 'file "sub/a.fits": expected a base name'),
        ("cal_ccf n ..", "expected a base name"),
        ("cal_dark_master 2018-08-05", 'no further positional argument, found "2018-08-05"'),
        ("cal_badpix n --darkfiles a", "needs --flatfiles"),
        ("cal_badpix n --flatfiles --darkfiles a", "--flatfiles needs one or more files"),
        ("cal_badpix n --flatfiles a --flatfiles b --darkfiles c", "--flatfiles is given twice"),
        ("cal_badpix n a --flatfiles b --darkfiles c", 'found "a"'),
        ("obj_mk_template", "needs the name of an object"),
        ("obj_mk_template Gl699 x.fits", 'found "x.fits"'),
        (f"{CCF} --witdh 20", "unknown option --witdh; did you mean --width"),
        (f"{CCF} --foo", "known are --blazefile, --database, --mask"),
        (f"{CCF} -x", "unknown option -x"),
        (f"{CCF} --", "unknown option --"),
        (f"{CCF} --mask", "--mask needs a value"),
        (f"{CCF} --mask=", "--mask needs a value"),
        (f"{CCF} --mask a b", "--mask takes one value, found 2: a, b"),
        (f"{CCF} --mask a --mask b", "--mask is given twice, with a and b"),
        (f"{CCF} --mask sub/a.mas", "a base name or an absolute path"),
        (f"{CCF} --rv abc", '--rv = "abc": expected a number in km/s'),
        (f"{CCF} --rv nan", "expected a number"),
        (f"{CCF} --rv inf", "expected a number"),
        (f"{CCF} --rv -inf", "expected a number"),
        (f"{CCF} --rv 1000", "between -1000 and 1000 in km/s"),
        (f"{CCF} --rv -1000", "between -1000 and 1000 in km/s"),
        (f"{CCF} --width 0", "above 0"),
        (f"{CCF} --step -1", "above 0"),
        (f"{CCF} --width 1 --step 0.11", "ratio of at least 10, found 9.09"),
        (f"{CCF} --width 4", "--width = 4 and --step = 0.5"),
        (f"{CCF} --step 31", "--width = 300 and --step = 31"),
        (f"{CCF} --masknormmode some", "one of None, all, order"),
        (f"{CCF} --database maybe", "expected True or False"),
        (f"{CCF} --no_in_qc maybe", "expected True or False"),
        (f"{CCF} --ref maybe", "expected True or False"),
        ("obj_mk_tellu_db --cores two", "expected an integer"),
        ("cal_extract n f --fiber D", "one of ALL, AB, A, B, C"),
    ],
)
def test_faulty_line(line, expected):
    assert expected in fault(line)


@pytest.mark.parametrize("widths", ["--width 20 --step 2", "--width 3 --step 0.3", "--width 0.7 --step 0.07"])
def test_ratio_of_exactly_ten_is_enough(widths):
    assert command(f"{CCF} {widths}").recipe == "cal_ccf"


def test_all_faults_of_a_line_are_reported():
    _, findings = read("id1 = cal_ccf n sub/a.fits --rv x --witdh 3 --width -1")
    assert findings.codes() == ["E-ARG"] * 4


@pytest.mark.parametrize(
    ("line", "name", "suggestion"),
    [
        ("cal_ccff_spirou.py n f", "cal_ccff_spirou.py", "cal_ccf"),
        ("cal_darkmaster.py", "cal_darkmaster.py", "cal_dark_master"),
        ("apero_polar_spirou.py n f", "apero_polar_spirou.py", "apero_loc"),
        ("tools/bin/cal_ccf_spirou.py n f", "tools/bin/cal_ccf_spirou.py", "cal_ccf"),
        ("rm -rf x", "rm", None),
        ("cal_zzzzzzzz", "cal_zzzzzzzz", None),
    ],
)
def test_unknown_recipe(line, name, suggestion):
    _, findings = read(f"id1 = {line}")
    text = only(findings, "E-RECIPE-UNKNOWN").text
    assert text.startswith(f'id00001: "{name}" is not a recipe.')
    if suggestion is None:
        assert "Did you mean" not in text


def test_near_miss_of_a_recipe_is_suggested():
    _, findings = read("id1 = cal_ccff_spirou.py n f")
    assert one(findings, "E-RECIPE-UNKNOWN").text.endswith("Did you mean cal_ccf?")
