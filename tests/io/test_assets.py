"""Object table, reject list and masks; every malformed row is named and costs only itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apero_dask.io.assets import list_masks, read_objects, read_reject


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "objects.csv"


@pytest.fixture
def reject(tmp_path: Path) -> Path:
    return tmp_path / "reject.csv"


def test_absent_files_are_empty_without_a_message(tmp_path: Path) -> None:
    objects, rejected = read_objects(tmp_path / "no.csv"), read_reject(tmp_path / "no.csv")
    assert objects.names.resolve("Gl 699") == "GL_699" and not objects.rows and not objects.findings
    assert not rejected.entries and not rejected.findings
    assert list_masks(tmp_path) == ({}, ())


def test_names_and_aliases(table: Path) -> None:
    text = "# stars\nOBJNAME, ALIASES\nGL699, Gl 699 | Barnard's star|HIP 87937\n\nTOI-442,\n"
    found = read_objects(written(table, text))
    assert not found.findings
    for name in ("Gl699", "gl 699", "Barnard's Star", "HIP 87937"):
        assert found.names.resolve(name) == "GL699"
    assert found.names.resolve("TOI-442") == "TOIM442"
    assert list(found.rows) == ["GL699", "TOIM442"]


def test_further_columns_are_kept_as_text_and_original_name_is_an_alias(table: Path) -> None:
    text = 'OBJNAME,ORIGINAL_NAME,RA_DEG,NOTES\nGL699,"Barnard, the star",269.452083,"nearest, ""fast"""\n'
    found = read_objects(written(table, text))
    assert not found.findings
    assert found.rows["GL699"]["RA_DEG"] == "269.452083"
    assert found.rows["GL699"]["NOTES"] == 'nearest, "fast"'
    assert found.names.resolve("Barnard the star") == "GL699"


def test_windows_line_ends_and_byte_order_mark(table: Path) -> None:
    found = read_objects(written(table, b"\xef\xbb\xbfobjname,aliases\r\nGL699,Gl 699\r\n"))
    assert not found.findings and found.names.resolve("Gl 699") == "GL699"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (",nobody", "OBJNAME is empty"),
        ("null,nobody", "OBJNAME is empty"),
        ("Gl-15,a,b", "3 values for 2 columns"),
        ("Gl-15", "1 values for 2 columns"),
        ("gl699,again", "GL699 is already in line 2"),
        ("GL15,HIP 87937", "alias HIP_87937 of GL15 already belongs to GL699"),
        ("GL15,gl876", "alias GL876 of GL15 already belongs to GL876"),
        ('GL15,"no end', "not a CSV row (unexpected end of data)"),
    ],
)
def test_malformed_object_row_is_named_and_ignored(table: Path, row: str, problem: str) -> None:
    found = read_objects(written(table, f"OBJNAME,ALIASES\nGL699,HIP 87937\n{row}\nGL876,HIP 113020\n"))
    assert [str(f) for f in found.findings] == [
        f"W-ASSET: Assets file {table} line 3: {problem}; row ignored."
    ]
    assert list(found.rows) == ["GL699", "GL876"]
    assert found.names.resolve("HIP 113020") == "GL876" and found.names.resolve("HIP 87937") == "GL699"


def test_rows_not_in_use_are_left_out(table: Path) -> None:
    found = read_objects(written(table, "OBJNAME,USED\nGL699,1\nGL15,False\nGL876,\nGL1,perhaps\n"))
    assert list(found.rows) == ["GL699", "GL876"]
    assert [f.text for f in found.findings] == [
        f'Assets file {table} line 5: USED = "perhaps" is not a boolean (True or False); row ignored.'
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("NAME,ALIASES\nGL699,x\n", "has no column OBJNAME; the whole file is ignored; the first line must"),
        ("OBJNAME,ALIASES,aliases\nGL699,x,y\n", "names a column twice; the whole file is ignored"),
        ("# nothing\n", "has only comments; the whole file is ignored"),
        (b"OBJNAME\nGL699\nJos\xe9\n", "is not UTF-8 text (line 3); the whole file is ignored; save it as"),
    ],
)
def test_unusable_object_table_is_reported_as_a_whole(table: Path, content: str | bytes, text: str) -> None:
    found = read_objects(written(table, content))
    assert not found.rows and not found.names.main
    assert [f.code for f in found.findings] == ["W-ASSET-FILE"]
    assert f"Assets file {table} {text}" in found.findings[0].text


def test_unknown_columns_are_named_and_ignored(table: Path) -> None:
    found = read_objects(written(table, "OBJNAME,COLOUR,\nGL699,red,\n"))
    assert found.rows == {"GL699": {"OBJNAME": "GL699"}}
    assert "has unknown column(s) COLOUR, (no name); they are ignored." in found.findings[0].text


def test_table_that_cannot_be_read(tmp_path: Path) -> None:
    found = read_objects(tmp_path)
    assert "cannot be read (Is a directory); the whole file is ignored; check" in found.findings[0].text


def test_reject_list(reject: Path) -> None:
    text = (
        "IDENTIFIER,PP,TEL,RV,COMMENT\n2400416c,True,False,False,saturated\n2320031O,0,1,no,cloud\n"
        "2320032o,f,,YES,\n2320032o,,t,,twice\n2400416c,0,0,0,again\n"
    )
    found = read_reject(written(reject, text))
    assert not found.findings
    assert found.identifiers("pp") == {"2400416c"}
    assert found.identifiers("tel") == {"2400416c", "2320031o", "2320032o"}
    assert found.identifiers("rv") == {"2400416c", "2320032o"}
    assert found.entries["2400416c"].comment == "saturated"
    with pytest.raises(KeyError):
        found.identifiers("comment")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("240041,1,1,1,x", 'IDENTIFIER = "240041" is not odometer + letter, like 2400416c'),
        ("2400416,1,1,1,x", 'IDENTIFIER = "2400416" is not odometer + letter, like 2400416c'),
        (",1,1,1,x", 'IDENTIFIER = "" is not odometer + letter, like 2400416c'),
        ("2400416c,1,2,1,x", 'TEL = "2" is not a boolean (True or False)'),
        ("2400416c,1,1,1", "4 values for 5 columns"),
    ],
)
def test_malformed_reject_row_is_named_and_ignored(reject: Path, row: str, problem: str) -> None:
    found = read_reject(written(reject, f"IDENTIFIER,PP,TEL,RV,COMMENT\n{row}\n2320031o,1,0,0,\n"))
    assert [f.text for f in found.findings] == [f"Assets file {reject} line 2: {problem}; row ignored."]
    assert list(found.entries) == ["2320031o"]


def test_reject_list_without_a_needed_column(reject: Path) -> None:
    found = read_reject(written(reject, "IDENTIFIER,PP\n2400416c,1\n"))
    assert not found.entries
    assert "has no column TEL, RV; the whole file is ignored" in found.findings[0].text


def test_reject_rows_not_in_use_are_left_out(reject: Path) -> None:
    text = "IDENTIFIER,PP,TEL,RV,USED,DATE_ADDED,COMMENT\n2400416c,1,1,1,0,2020-01-01,\n2400417c,1,1,1,1,,\n"
    assert list(read_reject(written(reject, text)).entries) == ["2400417c"]


def test_masks_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    for name in ("b.mas", "A.MAS", "readme.txt"):
        (folder / name).write_text("x")
    (folder / "folder.mas").mkdir()
    masks, findings = list_masks(tmp_path)
    assert masks == {"A.MAS": folder / "A.MAS", "b.mas": folder / "b.mas"} and not findings


def test_mask_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "masks").write_text("a file")
    masks, findings = list_masks(tmp_path)
    assert not masks
    assert "masks cannot be read (Not a directory); its masks are not available." in findings[0].text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from([b"", b"OBJNAME,ALIASES\n", b"IDENTIFIER,PP,TEL,RV\n"]))
def test_no_content_raises(tmp_path: Path, content: bytes, start: bytes) -> None:
    path = written(tmp_path / f"any{os.getpid()}.csv", start + content)
    read_objects(path)
    read_reject(path)
