"""The sequences as data."""

from __future__ import annotations

from dataclasses import dataclass, replace

DARK_TYPES = ("DARK_DARK_TEL", "DARK_DARK_INT")
STAR_DARK = ("OBJ_DARK", "POLAR_DARK")
STAR_FP = ("OBJ_FP", "POLAR_FP")
STARS = STAR_DARK + STAR_FP
"""Polarimetric frames belong to every step that names their spectroscopic counterpart."""
TRANSMISSIONS = ("TRANS1", "TRANS2")
"""Kinds that the telluric models are made from."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a sequence."""

    short: str
    recipe: str
    scope: str
    """frames, archive, master, night or object."""
    types: tuple[str, ...] = ()
    """Frame types of a row limited to some; empty = those of the recipe's arguments."""
    targets: str = ""
    """telluric, science, all, calib: which frames a file row takes; empty = every frame."""
    variant: str = ""
    part: str = ""
    """Frame type named by a switch where one short name covers two rows."""
    source: str = ""
    """Product kind of the inputs; empty = first kind of the declaration."""
    macro: str = ""
    """Short name of the macro this row is expanded from; its switch rules."""
    only: str = ""
    """The one object a recipe line names."""
    text: str = ""


PP = Row("PP", "cal_preprocessing", "frames", text="cal_preprocessing")

MASTER_ROWS = (
    Row("DARKM", "cal_dark_master", "archive", text="cal_dark_master"),
    Row("BADM", "cal_badpix", "master", text="cal_badpix [master obs dir]"),
    Row("LOCM", "cal_loc", "master", ("DARK_FLAT",), "", "DARK_FLAT", "DARK_FLAT"),
    Row("LOCM", "cal_loc", "master", ("FLAT_DARK",), "", "FLAT_DARK", "FLAT_DARK"),
    Row("SHAPEM", "cal_shape_master", "archive", text="cal_shape_master"),
    Row("SHAPELM", "cal_shape", "master"),
    Row("FLATM", "cal_ff", "master"),
    Row("LEAKM", "cal_leak_master", "master"),
    Row("THIM", "cal_thermal", "master", ("DARK_DARK_INT",), "", "DARK_DARK_INT"),
    Row("THTM", "cal_thermal", "master", ("DARK_DARK_TEL",), "", "DARK_DARK_TEL"),
    Row("WAVEM", "cal_wave_master", "master", text="cal_wave_master"),
)

CALIB_ROWS = (
    Row("BAD", "cal_badpix", "night"),
    Row("LOC", "cal_loc", "night", ("DARK_FLAT",), "", "DARK_FLAT", "DARK_FLAT"),
    Row("LOC", "cal_loc", "night", ("FLAT_DARK",), "", "FLAT_DARK", "FLAT_DARK"),
    Row("SHAPE", "cal_shape", "night"),
    Row("FF", "cal_ff", "night"),
    Row("THERMAL", "cal_thermal", "night", ("DARK_DARK_INT",), "", "DARK_DARK_INT", "DARK_DARK_INT"),
    Row("THERMAL", "cal_thermal", "night", ("DARK_DARK_TEL",), "", "DARK_DARK_TEL", "DARK_DARK_TEL"),
    Row("WAVE", "cal_wave_night", "night"),
)


def _extract(short: str, targets: str) -> Row:
    return Row(short, "cal_extract", "file", STARS, targets)


def _leak(short: str, targets: str) -> Row:
    return Row(short, "cal_leak", "file", STAR_FP, targets, source="E2DSFF")


MK1 = Row("MKTELLU1", "obj_mk_tellu", "file", STARS, "telluric", "p1", source="CORRECTED")
MK2 = Row("MKTELLU2", "obj_fit_tellu", "file", STARS, "telluric", "p1", source="CORRECTED")
MK3 = Row("MKTELLU3", "obj_mk_template", "object", STARS, "telluric", source="FIRST_FIT")
MK4 = Row("MKTELLU4", "obj_mk_tellu", "file", STARS, "telluric", "final", source="CORRECTED")
FT1 = Row("FTELLU1", "obj_fit_tellu", "file", STARS, "science", "p1", source="CORRECTED")
FT2 = Row("FTELLU2", "obj_mk_template", "object", STARS, "science", source="FIRST_FIT")
FT3 = Row("FTELLU3", "obj_fit_tellu", "file", STARS, "science", "final", source="CORRECTED")
CCF = Row("CCF", "cal_ccf", "file", STARS, "science", source="TCORR")
PACK = Row("SCIPOST", "cal_postprocess", "file", STARS, "science", source="E2DSFF")

TELLU_ROWS = (_extract("EXTTELL", "telluric"), _leak("LEAKTELL", "telluric"), MK1, MK2, MK3, MK4)
SCIENCE_ROWS = (_extract("EXTOBJ", "science"), _leak("LEAKOBJ", "science"), FT1, FT2, FT3, CCF, PACK)


def _macro(name: str, *rows: Row) -> tuple[Row, ...]:
    return tuple(replace(row, macro=name) for row in rows)


LIMITED_ROWS = (
    PP,
    *MASTER_ROWS,
    *CALIB_ROWS,
    TELLU_ROWS[0],
    SCIENCE_ROWS[0],
    TELLU_ROWS[1],
    SCIENCE_ROWS[1],
    *TELLU_ROWS[2:],
    *SCIENCE_ROWS[2:],
)

FULL_ROWS = (
    PP,
    *MASTER_ROWS,
    *CALIB_ROWS,
    _extract("EXTALL", "all"),
    _leak("LEAKALL", "all"),
    *_macro("MKTELLDB", MK1, MK2, MK3, MK4),
    *_macro("FTELLDB", FT1, FT2, FT3),
    replace(CCF, targets="all"),
    replace(PACK, targets="all"),
)

PP_OPT_ROWS = (
    Row("PP_CAL", "cal_preprocessing", "frames", targets="calib", text="cal_preprocessing [calibrations]"),
    Row("PP_SCI", "cal_preprocessing", "frames", STARS, "science"),
    Row("PP_TEL", "cal_preprocessing", "frames", STARS, "telluric"),
)

ENG_ROWS = (
    Row("EXTHC1", "cal_extract", "file", ("HCONE_HCONE",)),
    Row("EXTFPFP", "cal_extract", "file", ("FP_FP",)),
    Row("EXTDFP", "cal_extract", "file", ("DARK_FP",)),
)

SEQUENCES: dict[str, tuple[Row, ...]] = {
    "full_seq": FULL_ROWS,
    "limited_seq": LIMITED_ROWS,
    "pp_seq": (PP,),
    "pp_seq_opt": PP_OPT_ROWS,
    "master_seq": MASTER_ROWS,
    "calib_seq": CALIB_ROWS,
    "tellu_seq": TELLU_ROWS,
    "science_seq": SCIENCE_ROWS,
    "eng_seq": ENG_ROWS,
    "blank_seq": (),
}
"""Rows of each sequence in the order of its table."""

MASTER_SHORTS = frozenset(row.short for row in MASTER_ROWS)

TRIGGER_MINIMUM: dict[str, dict[str, int]] = {
    "cal_badpix": {"flatfiles": 5, "darkfiles": 2},
    "cal_loc": {"files": 5},
    "cal_shape": {"files": 5},
    "cal_ff": {"files": 5},
    "cal_thermal": {"files": 2},
    "cal_wave_night": {"fpfiles": 5, "hcfiles": 2},
    "cal_wave_master": {"fpfiles": 5, "hcfiles": 2},
    "cal_shape_master": {"fpfiles": 5, "hcfiles": 2},
}
"""Fewest files per argument in trigger mode; one is enough otherwise."""

TELLURIC_STARS = tuple(
    [
        "74PscB",
        "31Cas",
        "gamTri",
        "HR875",
        "HR1314",
        "pi.02Ori",
        "HR1832",
        "zetLep",
        "HR2180",
        "HR2209",
        "24Lyn",
        "HR3131",
        "33Lyn",
        "etaPyx",
        "23LMi",
        "lLeo",
        "phiLeo",
        "HR4687",
        "HR4722",
        "zetVir",
        "82UMa",
        "HD130917",
        "betSer",
        "HR6025",
        "HD159170",
        "gamSct",
        "51Dra",
        "iotCyg",
        "omiCapA",
        "chiCap",
        "17Peg",
        "HR8489",
        "59Peg",
        "mu.For",
        "HR1075",
        "HR2160",
        "alfPic",
        "HD71043",
        "KCen",
        "HR4977",
        "tauCen",
        "c02Cen",
        "HD129422",
        "HR5494",
        "HD131625",
        "lamNor",
        "HD154310",
        "alfCrA",
        "HR8366",
        "mu.PsA",
    ]
)
"""Hot stars that serve as telluric standards when the run file names none."""
TELLURIC_EXCLUDED = ("HR6511", "kapUMa", "HR6955", "16Sco")


def labels(rows: tuple[Row, ...]) -> list[str]:
    """Step labels: two digits, the rows of one macro share a number and have a letter.

    >>> labels(SEQUENCES["full_seq"])[20:30]
    ['21', '22', '23a', '23b', '23c', '23d', '24a', '24b', '24c', '25']
    """
    result: list[str] = []
    number, letter, macro = 0, 0, ""
    for row in rows:
        if row.macro and row.macro == macro:
            letter += 1
        else:
            number, letter, macro = number + 1, 0, row.macro
        result.append(f"{number:02d}{chr(ord('a') + letter)}" if row.macro else f"{number:02d}")
    return result


def describe(row: Row) -> str:
    """Row as the run-file documents write it."""
    if row.text:
        return row.text
    words: list[str] = []
    if row.scope == "file" or row.scope == "object":
        words.append(" + ".join(t for t in row.types if not t.startswith("POLAR")))
        words.append("every night")
        words += {
            "telluric": ["TELLURIC_TARGETS"],
            "science": ["SCIENCE_TARGETS"],
            "all": ["ALL OBJECTS"],
        }.get(row.targets, [])
    elif row.scope == "frames":
        words.append(f"{row.targets.upper()}_TARGETS")
    else:
        words += list(row.types)
        words.append("master obs dir" if row.scope == "master" else "every night")
    return f"{row.recipe} [{'; '.join(words)}]"
