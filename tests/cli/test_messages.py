"""Every message of the reader, the index and the planner, provoked through the real command line."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from apero_dask.cli.processing import main
from apero_dask.core.messages import MESSAGES, RUN_TIME
from apero_dask.simulator.cli import main as simulate

BASE = "MASTER_OBS_DIR = 2018-09-25\nSCIENCE_TARGETS = Gl699, TOI-442\n"
NIGHT = "2018-09-25"
Change = Callable[[Path], None]


def nothing(root: Path) -> None:
    """Leave the archive as it is."""


@dataclass(frozen=True)
class Case:
    """One command and the message it must give."""

    code: str
    run: str = BASE + "id1 = limited_seq\n"
    args: tuple[str, ...] = ()
    change: Change = nothing
    says: tuple[str, ...] = ()
    """Texts that the message must contain."""
    status: int = 0
    execute: bool = False
    """Without --test."""
    instrument: str = "SPIROU"
    drop: tuple[str, ...] = field(default=())
    name: str = ""

    def __str__(self) -> str:
        return self.code + (f" {self.name}" if self.name else "")


def write(name: str, data: bytes) -> Change:
    def change(root: Path) -> None:
        path = root / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return change


def card(root: Path, name: str, key: str, value: str) -> None:
    """Replace the value field of one header card."""
    path = root / "raw" / name
    data = path.read_bytes()
    start = next(i for i in range(0, 2880 * 40, 80) if data[i : i + 8] == key.ljust(8).encode())
    path.write_bytes(data[:start] + f"{key:<8}= {value:>20}".ljust(80).encode() + data[start + 80 :])


def recard(name: str, key: str, value: str) -> Change:
    return lambda root: card(root, name, key, value)


def copy_frame(source: str, target: str) -> Change:
    def change(root: Path) -> None:
        place = root / "raw" / target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "raw" / source, place)

    return change


def remove(*patterns: str) -> Change:
    def change(root: Path) -> None:
        for pattern in patterns:
            for path in (root / "raw").glob(pattern):
                path.unlink()

    return change


def reject(text: str) -> Change:
    return lambda root: (root / "assets" / "reject.csv").write_text(text, encoding="utf-8") and None


def truncate(name: str, size: int) -> Change:
    def change(root: Path) -> None:
        path = root / "raw" / name
        path.write_bytes(path.read_bytes()[:size])

    return change


CCF = "cal_ccf_spirou.py 2018-09-25 2320031o_pp_e2dsff_tcorr_AB.fits"
SEQ = BASE + "id1 = limited_seq\n"
CASES = [
    Case("E-INSTRUMENT", instrument="NIRPS", says=("NIRPS", "SPIROU_MINI"), status=2),
    Case("E-SYNTAX", SEQ + "what is this\n", says=("what is this", ":4:"), status=2),
    Case("E-TYPE", SEQ + "CORES = many\n", says=("CORES", "many"), status=2),
    Case("W-UNKNOWN-KEY", SEQ + "CORE = 3\n", says=("CORE", "CORES")),
    Case("W-UNKNOWN-SWITCH", SEQ + "RUN_LOOC = True\n", says=("LOOC", "LOC")),
    Case("W-DUPKEY", SEQ + "CORES = 2\nCORES = 1\n", says=("lines 4 and 5",)),
    Case("E-ALIAS-CONFLICT", SEQ + "MASTER_NIGHT = 2018-09-26\n", says=("MASTER_NIGHT",), status=2),
    Case(
        "E-AMBIGUOUS-SWITCH", SEQ + "RUN_MKTELLU2 = True\nRUN_MKTEMP1 = True\nRUN_FTELLU1 = True\n", status=2
    ),
    Case("E-ID-DUP", SEQ + "id00001 = pp_seq\n", says=("lines 3 and 4",), status=2),
    Case("E-ID-EMPTY", SEQ + "id2 =\n", says=("id00002",), status=2),
    Case("E-NO-ID", BASE, status=2),
    Case("E-SEQ-UNKNOWN", SEQ + "id2 = limitd_seq\n", says=("limited_seq",), status=2),
    Case("E-SEQ-UNSUPPORTED", SEQ + "id2 = lbl_seq\n", says=("lbl_seq",), status=2),
    Case(
        "E-RECIPE-UNKNOWN", SEQ + "id2 = cal_cff_spirou.py 2018-09-25 a.fits\n", says=("cal_ccf",), status=2
    ),
    Case("E-ARG", SEQ + f"id2 = {CCF} --width 1 --step 0.5\n", says=("width",), status=2),
    Case(
        "E-ARG",
        SEQ + "id2 = cal_loc_spirou.py 2018-09-25 2320020a_pp.fits\n",
        says=("FP_FP",),
        status=2,
        name="type",
    ),
    Case("E-NO-MASK", SEQ + f"id2 = {CCF} --mask other.mas --rv 1\n", says=("other.mas",), status=2),
    Case("E-MASTER-UNSET", "id1 = master_seq\n", says=("DARKM",), status=2),
    Case(
        "E-MASTER-MISSING",
        "MASTER_OBS_DIR = 2018-09-24\nid1 = master_seq\n",
        says=("2018-09-24", "(3)"),
        status=2,
    ),
    Case("E-MASTER-INCOMPLETE", change=remove("2018-09-25/*c.fits"), says=("HCONE_HCONE",), status=2),
    Case("E-MASTER-EXCLUDED", SEQ + "EXCLUDE_OBS_DIRS = 2018-09-25\n", says=(NIGHT,), status=2),
    Case(
        "E-FILTER-CONFLICT",
        SEQ + "EXCLUDE_OBS_DIRS = 2018-09-26\nINCLUDE_OBS_DIRS = 2018-09-26, 2018-09-27\n",
        says=("2018-09-26",),
        status=2,
    ),
    Case("E-NIGHT-CONFLICT", SEQ + "NIGHT_NAME = 2018-09-26\nEXCLUDE_OBS_DIRS = 2018-09-26\n", status=2),
    Case("E-NO-NIGHT", BASE + "INCLUDE_OBS_DIRS = 2017-01-01\nid1 = calib_seq\n", status=3),
    Case(
        "W-NIGHT-UNKNOWN", SEQ + "EXCLUDE_OBS_DIRS = 2018-09-28\n", says=("2018-09-28", "Closest: 2018-09-27")
    ),
    Case(
        "E-NO-FILES",
        BASE + "id1 = calib_seq\n",
        ("--filename", "9999999o"),
        says=("9999999o", "146"),
        status=3,
    ),
    Case(
        "E-NO-FILES",
        BASE + f"id1 = {CCF}\n",
        says=("2320031o_pp_e2dsff_tcorr_AB.fits",),
        status=3,
        name="line",
    ),
    Case("W-NO-RUNS", change=nothing, says=("THERMAL", "DARK_DARK_TEL", "2018-09-27")),
    Case("E-NO-OBJ", "SCIENCE_TARGETS = Proxima\nid1 = science_seq\n", says=("Proxima",), status=3),
    Case("W-OBJ-UNKNOWN", "SCIENCE_TARGETS = Gl699, Proxima\nid1 = science_seq\n", says=("Proxima",)),
    Case("W-NOT-HOT", "TELLURIC_TARGETS = 59Peg, Gl699\nid1 = tellu_seq\n", says=("GL699",)),
    Case("E-TRIGGER-NIGHT", BASE + "id1 = calib_seq\nTRIGGER_RUN = True\n", status=2),
    Case(
        "E-TRIGGER-MASTER",
        BASE + "id1 = calib_seq\n",
        ("--trigger", "--obs_dir", "2018-09-27"),
        says=("DARKM",),
        status=2,
    ),
    Case("E-MASTER-PRODUCT", BASE + "id1 = calib_seq\n", says=("DARKM", NIGHT)),
    Case(
        "E-MASTER-PRODUCT",
        BASE + "id1 = calib_seq\n",
        says=("DARKM",),
        status=2,
        execute=True,
        name="executing",
    ),
    Case("W-NOT-MADE", BASE + "id1 = tellu_seq\n", says=("EXTTELL", "5 of 5", "pp_seq")),
    Case("W-NO-CALIB", BASE + "id1 = tellu_seq\n", says=("BADPIX", "calib_seq")),
    Case(
        "E-OUTPUT-CONFLICT",
        SEQ + f"id2 = {CCF} --rv 1 --width 20 --step 0.5\nid3 = {CCF} --rv 1 --width 30 --step 0.5\n",
        says=("_ccf_",),
        status=2,
    ),
    Case("E-DATA-ROOT", change=lambda root: shutil.rmtree(root / "raw"), says=("raw", "--data"), status=2),
    Case(
        "W-DUP-FRAME",
        change=copy_frame("2018-09-26/2320130o.fits", "2018-09-25/2320130o.fits"),
        says=("2320130o",),
    ),
    Case(
        "W-DUP-FRAME",
        change=copy_frame("2018-09-25/2320031o.fits", "2018-09-25/2320099o.fits"),
        says=("2320031o exists in 2018-09-25/2320031o.fits and 2018-09-25/2320099o.fits", "using the one of"),
        name="other name",
    ),
    Case(
        "W-FRAME",
        change=copy_frame("2018-09-25/2320031o.fits", "2018-09-25/2320099o.fits"),
        says=('2320031o: FILENAME is "2320031o', "in a file named 2320099o", "FILENAME is used"),
        name="other name",
    ),
    Case(
        "W-BAD-FILE", change=write("2018-09-25/2399999o.fits", b""), says=("empty", "2399999o"), name="empty"
    ),
    Case(
        "W-BAD-FILE",
        change=write("2018-09-25/2399999o.fits", b"x" * 5000),
        says=("2399999o",),
        name="not FITS",
    ),
    Case(
        "W-BAD-FILE", change=truncate("2018-09-25/2320031o.fits", 1000), says=("2320031o",), name="truncated"
    ),
    Case("W-BAD-FILE", change=write("2018-09-25/flat.fits", b"SIMPLE"), says=("flat.fits",), name="name"),
    Case(
        "W-BAD-FILE",
        change=recard("2018-09-25/2320031o.fits", "INSTRUME", "'NIRPS   '"),
        says=("2320031o",),
        name="foreign",
    ),
    Case(
        "W-BAD-FILE",
        change=recard("2018-09-25/2320031o.fits", "MJDEND", "99999.5"),
        says=("2320031o",),
        name="future",
    ),
    Case(
        "W-BAD-FILE",
        change=recard("2018-09-25/2320031o.fits", "MJDEND", "'soon    '"),
        says=("2320031o",),
        name="time",
    ),
    Case(
        "W-FRAME", change=recard("2018-09-25/2320031o.fits", "EXPTIME", "100.0"), says=("2320031o", "NREADS")
    ),
    Case(
        "W-UNIDENTIFIED",
        change=recard("2018-09-25/2320001d.fits", "SBCALI_P", "'P1      '"),
        says=("2320001d",),
    ),
    Case("W-SECTION", "[general]\n" + SEQ, says=("[general]",)),
    Case("W-LISTDUP", SEQ + "EXCLUDE_OBS_DIRS = 2018-09-26, 2018-09-26\n", says=("2018-09-26",)),
    Case("W-SEQ-REPEAT", SEQ + "id2 = limited_seq\n", says=("id00002", "id00001")),
    Case("W-NOTIMPL", SEQ + "SEND_EMAIL = True\n", says=("SEND_EMAIL",)),
    Case("W-RESET-IGNORED", SEQ + "RESET_ALLOWED = True\n"),
    Case("W-CORES-CLAMP", "CORES = -500\nid1 = blank_seq\n", says=("-500",), execute=True),
    Case("W-CORES-OVER", "CORES = 500\nid1 = blank_seq\n", says=("500",), execute=True),
    Case("W-CORES-CLAMP", "CORES = -500\nid1 = blank_seq\n", says=("-500",), name="listing"),
    Case("W-CORES-OVER", "CORES = 500\nid1 = blank_seq\n", says=("500",), name="listing"),
    Case("W-GROUP-LIMIT", SEQ + "GROUP_FILE_LIMIT = 4\n", says=("FLAT_FLAT", "10", "4")),
    Case("I-TARGETS-IGNORED", BASE + "id1 = full_seq\n", says=("SCIENCE_TARGETS",)),
    Case("I-NO-COUNTERPART", SEQ + "RUN_POLAR = True\n", says=("POLAR",)),
    Case("I-EXCLUDE-ALL", SEQ + "EXCLUDE_OBS_DIRS = All\n", says=("All",)),
    Case("I-ALIAS", "MASTER_NIGHT = 2018-09-25\nid1 = master_seq\n", says=("MASTER_NIGHT", "MASTER_OBS_DIR")),
    Case("I-ALIAS", SEQ, ("--inculde_obs_dirs", "2018-09-26"), says=("inculde",), name="misspelt option"),
    Case("W-ASSET-FILE", change=reject("NAME;VALUE\nx;1\n"), says=("reject.csv",)),
    Case(
        "E-DATA-ROOT",
        change=lambda root: (root / "log").write_text("x", encoding="utf-8") and None,
        says=("log", "not a folder"),
        status=2,
        execute=True,
        name="log is a file",
    ),
    Case(
        "W-ASSET", change=reject("IDENTIFIER,PP,TEL,RV,COMMENT\nnonsense,1,0,0,x\n"), says=("reject.csv", "2")
    ),
]

ELSEWHERE = {
    "E-NO-RUNFILE": "test_a_missing_run_file_is_named",
    "E-RUNFILE": "test_a_folder_is_no_run_file",
    "I-INDEX": "test_a_damaged_cache_is_made_anew",
    "W-STALE-KEPT": "tests/planner (needs finished runs)",
    "I-ARCHIVE-GROWN": "tests/planner (needs finished runs)",
    "E-SITE": "tests/deploy/test_site.py",
}


def call(root: Path, case: Case, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Status and error stream of the command of a case."""
    (root / "runs" / "run.ini").write_text(case.run, encoding="utf-8")
    args = ["--data", str(root), case.instrument, "run.ini", *case.args]
    status = main(args if case.execute else [*args, "--test"])
    return status, capsys.readouterr().err


@pytest.mark.parametrize("case", CASES, ids=str)
def test_message(case: Case, archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case.change(archive)
    status, errors = call(archive, case, capsys)
    lines = [line for line in errors.splitlines() if line.startswith(case.code)]
    assert lines, f"no {case.code} in:\n{errors}"
    assert any(all(text in line for text in case.says) for line in lines), lines
    assert status == case.status, errors


@pytest.mark.parametrize("case", [c for c in CASES if c.code[0] == "W" and not c.execute], ids=str)
def test_strict_turns_warnings_into_errors(
    case: Case, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case.change(archive)
    strict = Case(case.code, case.run, (*case.args, "--strict"))
    assert call(archive, strict, capsys)[0] == 2


def test_every_message_is_provoked_somewhere() -> None:
    codes = {code.partition("/")[0] for code in MESSAGES} - RUN_TIME
    assert codes == {case.code for case in CASES} | set(ELSEWHERE)


def test_a_missing_run_file_is_named(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(archive), "SPIROU", "nowhere.ini"]) == 2
    assert "E-NO-RUNFILE" in (text := capsys.readouterr().err) and "nowhere.ini" in text and "runs" in text


def test_a_folder_is_no_run_file(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(archive), "SPIROU", str(archive / "raw")]) == 2
    assert "E-RUNFILE" in capsys.readouterr().err


def test_a_damaged_cache_is_made_anew(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from apero_dask.io.cache import CACHE_FILE

    (archive / "log").mkdir(exist_ok=True)
    (archive / "log" / CACHE_FILE).write_bytes(b"damaged")
    status, errors = call(archive, Case("I-INDEX"), capsys)
    assert status == 0 and "I-INDEX" in errors


def test_all_findings_come_together(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = Case("", BASE + "CORES = many\nTEST_RUN = perhaps\nnonsense\nid1 = limited_seq\nid1 = pp_seq\n")
    status, errors = call(archive, case, capsys)
    assert status == 2
    assert [line.split()[0] for line in errors.splitlines()].count("E-TYPE") == 2
    assert "E-SYNTAX" in errors and "E-ID-DUP" in errors


def test_damaged_frames_leave_the_rest_planned(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("2018-09-25/2399999o.fits", b"")(archive)
    truncate("2018-09-26/2320130o.fits", 500)(archive)
    zipped = archive / "raw" / "2018-09-27" / "2320229o.fits"
    (zipped.with_suffix(".fits.gz")).write_bytes(gzip.compress(zipped.read_bytes()))
    zipped.unlink()
    (archive / "runs" / "run.ini").write_text("id1 = pp_seq\n", encoding="utf-8")
    assert main(["--data", str(archive), "SPIROU", "run.ini", "--test"]) == 0
    listed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("T ")]
    assert len(listed) == 145


def test_frames_of_the_other_instrument_are_foreign(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "mini"
    assert (
        simulate(
            ["--campaign", "worked", "--instrument", "SPIROU_MINI", "--headers-only", "--out", str(root)]
        )
        == 0
    )
    (root / "runs").mkdir(exist_ok=True)
    status, errors = call(root, Case("", "id1 = pp_seq\n"), capsys)
    assert status == 3 and "other instrument" in errors
    assert call(root, Case("", "id1 = pp_seq\n", instrument="spirou_mini"), capsys)[0] == 0
