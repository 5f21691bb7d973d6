"""RUN_ and SKIP_ switches: short names of the three vocabularies, halves of steps, the MKTELLU2 clash."""

from fnmatch import fnmatchcase

import pytest

from apero_dask.runfile.switches import NO_COUNTERPART, SHORTS
from tests.runfile.reading import one, only, settings

# Restated from the description of run files.
MASTER = ["DARKM", "BADM", "LOCM", "SHAPEM", "SHAPELM", "FLATM", "LEAKM", "THIM", "THTM", "WAVEM"]
SEED = [
    *("PP", "PP_CAL", "PP_SCI", "PP_TEL", *MASTER, "BAD", "LOC", "SHAPE", "FF", "THERMAL", "WAVE"),
    *("EXTALL", "EXTTELL", "EXTOBJ", "LEAKALL", "LEAKTELL", "LEAKOBJ", "MKTELLDB", "FTELLDB"),
    *("MKTELLU1", "MKTELLU2", "MKTELLU3", "MKTELLU4", "FTELLU1", "FTELLU2", "FTELLU3", "CCF"),
    *("EXTHC1", "EXTFPFP", "EXTDFP", "EXT", "LEAK", "MKTELL", "FTELLU", "MKTEMP", "SCIPOST"),
]
EXACT = {
    "DARKREF": "DARKM",
    "BADREF": "BADM",
    "SHAPEREF": "SHAPEM",
    "SHAPELREF": "SHAPELM",
    "FLATREF": "FLATM",
    "FFM": "FLATM",
    "LEAKREF": "LEAKM",
    "THI_M": "THIM",
    "THERM_REFI": "THIM",
    "THT_M": "THTM",
    "THERM_REFT": "THTM",
    "WAVEREF": "WAVEM",
    "THERM": "THERMAL",
    "MKTFIT1": "MKTELLU2",
    "MKTEMP1": "MKTELLU3",
    "FTFIT1": "FTELLU1",
    "FTTEMP1": "FTELLU2",
    "FTFIT2": "FTELLU3",
    "EXT_HC1HC1": "EXTHC1",
    "EXT_FPFP": "EXTFPFP",
    "EXT_DFP": "EXTDFP",
}
PARTS = {
    "LOCREFCAL": ("LOCM", "DARK_FLAT", "FLAT_DARK"),
    "LOCMC": ("LOCM", "DARK_FLAT", "FLAT_DARK"),
    "LOCREFSCI": ("LOCM", "FLAT_DARK", "DARK_FLAT"),
    "LOCMAB": ("LOCM", "FLAT_DARK", "DARK_FLAT"),
    "LOCCAL": ("LOC", "DARK_FLAT", "FLAT_DARK"),
    "LOCC": ("LOC", "DARK_FLAT", "FLAT_DARK"),
    "LOCSCI": ("LOC", "FLAT_DARK", "DARK_FLAT"),
    "LOCAB": ("LOC", "FLAT_DARK", "DARK_FLAT"),
    "THERM_I": ("THERMAL", "DARK_DARK_INT", "DARK_DARK_TEL"),
    "THERMI": ("THERMAL", "DARK_DARK_INT", "DARK_DARK_TEL"),
    "THERM_T": ("THERMAL", "DARK_DARK_TEL", "DARK_DARK_INT"),
    "THERMT": ("THERMAL", "DARK_DARK_TEL", "DARK_DARK_INT"),
}
ELSEWHERE = [
    *("MKTMOD1", "MKTMOD2", "MKTFIT2", "MKTEMP2", "FTTEMP2", "POLAR", "OBJPOST", "POSTALL"),
    *("LBL", "LBLREF", "LBLMASK", "EXT_EVERY", "EXT_SKY", "EXT_LFC", "EXT_LFCFP", "EXT_FPLFC", "EXT_FP_LFC"),
    *("EXT_FPD", "EXT_FF", "EXTQUICK", "PP_EVERY", "PP_HC1HC1", "PP_FPFP", "PP_FF", "PP_DFP", "PP_SKY"),
    *("PP_LFC", "PP_LFCFP", "PP_FPLFC"),
]


def test_seed_names_are_complete():
    assert set(SHORTS) == set(SEED)


@pytest.mark.parametrize("short", SEED)
def test_seed_switch(short):
    result, findings = settings(f"RUN_{short} = 0\nskip_{short.lower()} = on")
    assert not result.runs(short) and result.skips(short)
    assert findings.codes() == []


@pytest.mark.parametrize("alias", EXACT)
def test_exact_alias(alias):
    result, findings = settings(f"RUN_{alias} = False\nSKIP_{alias} = True")
    assert not result.runs(EXACT[alias]) and result.skips(EXACT[alias])
    assert findings.codes() == ["I-ALIAS", "I-ALIAS"]
    assert findings.items[0].text == f"RUN_{alias} is read as RUN_{EXACT[alias]}."


@pytest.mark.parametrize("alias", PARTS)
def test_part_alias_addresses_one_frame_type(alias):
    short, dprtype, other = PARTS[alias]
    result, findings = settings(f"RUN_{alias} = False\nSKIP_{alias} = True")
    assert not result.runs(short, dprtype) and result.skips(short, dprtype)
    assert result.runs(short, other) and not result.skips(short, other)
    assert result.runs(short)
    assert set(findings.codes()) == {"I-ALIAS"}
    assert dprtype in findings.items[0].text


def test_specific_switch_wins_over_the_general_one():
    result, findings = settings("RUN_LOC = False\nRUN_LOCC = True")
    assert result.runs("LOC", "DARK_FLAT") and not result.runs("LOC", "FLAT_DARK")
    assert findings.errors() == []


def test_missing_switch_runs_and_does_not_skip():
    result, _ = settings("")
    assert result.runs("CCF") and not result.skips("CCF")
    result, _ = settings("RUN_DEFAULT = False\nRUN_PP = True")
    assert result.runs("PP") and not result.runs("CCF")


def test_packaging_needs_to_be_asked_for():
    assert not settings("")[0].runs("SCIPOST")
    assert settings("RUN_SCIPOST = True")[0].runs("SCIPOST")


@pytest.mark.parametrize("short", ELSEWHERE)
def test_name_without_counterpart_is_ignored(short):
    result, findings = settings(f"RUN_{short} = True")
    assert only(findings, "I-NO-COUNTERPART").text == f"RUN_{short} has no counterpart here; ignored."
    assert result.run_switches == ()


def test_every_pattern_without_counterpart_is_exercised():
    assert all(any(fnmatchcase(short, pattern) for short in ELSEWHERE) for pattern in NO_COUNTERPART)


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("RUN_DARKMM", "RUN_DARKM"),
        ("SKIP_THERMALL", "SKIP_THERMAL"),
        ("RUN_OBS_DIRS", "RUN_OBS_DIR"),
        ("RUN_NAM", "RUN_NAME"),
        ("RUN_QQ", None),
        ("SKIP_", None),
        ("SKIP_NAME", "SKIP_WAVE"),
    ],
)
def test_unknown_switch_is_reported(key, suggestion):
    _, findings = settings(f"{key} = True")
    text = only(findings, "W-UNKNOWN-SWITCH").text
    short = key.partition("_")[2]
    assert text.startswith(f"{key}: no recipe has the short name {short}.")
    assert text.endswith(f"Did you mean {suggestion}?") if suggestion else "Did you mean" not in text


def test_keys_that_look_like_switches_are_none():
    result, findings = settings("RUN_NAME = x\nRUN_OBS_DIR = n\nRUN_DEFAULT = False")
    assert (result.run_name, result.night_name, result.run_default) == ("x", "n", False)
    assert result.run_switches == ()
    assert findings.errors(strict=True) == []


def test_switch_of_wrong_type():
    _, findings = settings("RUN_PP = maybe")
    assert only(findings, "E-TYPE").text == 'RUN_PP = "maybe": expected True or False.'


def test_contradicting_switches():
    _, findings = settings("RUN_PP = 1\nRUN_PP = 0")
    assert only(findings, "W-DUPKEY").line == 2
    _, findings = settings("RUN_DARKM = 1\nRUN_DARKREF = 0")
    assert one(findings, "E-ALIAS-CONFLICT").line == 2
    _, findings = settings("SKIP_LOCCAL = 1\nSKIP_LOCC = 0")
    assert one(findings, "E-ALIAS-CONFLICT").line == 2
    _, findings = settings("RUN_DARKM = True\nRUN_DARKREF = 1")
    assert findings.errors(strict=True) == []


MARKS_07 = [
    "RUN_OBS_DIR = n",
    "REF_OBS_DIR = n",
    "USE_REJECTLIST = True",
    "UPDATE_REJECT_DATABASE = True",
    "RUN_DARKREF = True",
    "SKIP_WAVEREF = True",
    "RUN_THERM_REFI = True",
    "RUN_THERM_REFT = True",
    "RUN_MKTMOD1 = True",
    "RUN_MKTEMP1 = True",
    "id1 = ref_seq",
]
MARKS_SEED = [
    "MASTER_OBS_DIR = n",
    "MASTER_NIGHT = n",
    "NIGHT_NAME = n",
    *(f"RUN_{s} = True" for s in MASTER),
    *(f"SKIP_{s} = True" for s in ("MKTELLU3", "MKTELLU4", "FTELLU1", "FTELLU2", "FTELLU3")),
    "id1 = master_seq",
]


def test_first_fit_in_a_file_without_marks():
    result, findings = settings("RUN_MKTELLU2 = False")
    assert not result.runs("MKTELLU2") and result.runs("MKTELLU4")
    assert findings.codes() == []


@pytest.mark.parametrize("mark", MARKS_07)
def test_second_transmission_in_a_07_file(mark):
    result, findings = settings(f"RUN_MKTELLU2 = False\n{mark}")
    assert result.runs("MKTELLU2") and not result.runs("MKTELLU4")
    assert findings.errors() == []
    assert "RUN_MKTELLU2 is read as RUN_MKTELLU4." in [f.text for f in findings]


@pytest.mark.parametrize("mark", MARKS_SEED)
def test_first_fit_in_a_seed_file(mark):
    result, findings = settings(f"RUN_MKTELLU2 = False\n{mark}")
    assert not result.runs("MKTELLU2")
    assert findings.errors() == []


@pytest.mark.parametrize("old", MARKS_SEED)
@pytest.mark.parametrize("new", [MARKS_07[0], MARKS_07[4]])
def test_mixed_file_may_not_use_the_ambiguous_name(old, new):
    result, findings = settings(f"{old}\n{new}\nSKIP_MKTELLU2 = True")
    found = one(findings, "E-AMBIGUOUS-SWITCH")
    assert found.line == 3
    assert "RUN_MKTFIT1" in found.text and "SKIP_MKTELLU4" in found.text
    assert not any(s.short in ("MKTELLU2", "MKTELLU4") and s.line == 3 for s in result.skip_switches)


def test_mixed_file_is_legal_without_the_ambiguous_name():
    _, findings = settings("MASTER_OBS_DIR = n\nUSE_REJECTLIST = True\nRUN_MKTELLU4 = True")
    assert findings.errors(strict=True) == []


def test_advice_for_the_ambiguous_name_works():
    result, findings = settings("MASTER_OBS_DIR = n\nUSE_REJECTLIST = 1\nRUN_MKTFIT1 = 0\nRUN_MKTELLU4 = 0")
    assert not result.runs("MKTELLU2") and not result.runs("MKTELLU4")
    assert findings.errors() == []
