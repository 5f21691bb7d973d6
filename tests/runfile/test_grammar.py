"""Lines of a run file: what is an assignment, where a comment starts, what is reported."""

import pytest

from apero_dask.core.errors import Findings
from apero_dask.runfile.grammar import MOST_SYNTAX, scan, shown, without_comment
from tests.runfile.reading import one, only, read


def assignments(text):
    findings = Findings("test.ini")
    data = text if isinstance(text, bytes) else text.encode()
    return [(a.line, a.key, a.text) for a in scan(data, findings)], findings


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("CORES = 8", "CORES", "8"),
        ("cores=8", "CORES", "8"),
        ("\t CORES\t=\t8 \t", "CORES", "8"),
        ("A = b = c", "A", "b = c"),
        ("A = --step=0.05", "A", "--step=0.05"),
        ("A =", "A", ""),
        ("A = # nothing", "A", ""),
        ("A = b # c", "A", "b"),
        ("A = b#c", "A", "b"),
        ('A = "b # c" # d', "A", "b # c"),
        ("A = 'b # c'", "A", "b # c"),
        ('A = "b", "c # d" # e', "A", '"b", "c # d"'),
        ("A = Barnard's star # it's", "A", "Barnard's star"),
        ("A = a; b", "A", "a; b"),
        ("A = %(B)s", "A", "%(B)s"),
        ('A = ""', "A", ""),
        ("A = \u00e9toile", "A", "\u00e9toile"),
        ('id1 = x --m="a # b" # c', "ID1", 'x --m="a # b"'),
        ('id1 = x --m=a\\"b # c', "ID1", 'x --m=a\\"b'),
    ],
)
def test_assignment_is_split_at_the_first_equals_sign(line, key, value):
    found, findings = assignments(line)
    assert found == [(1, key, value)]
    assert not len(findings)


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# a\n  # b = c\n", "\ufeff", "\ufeff# c", "\r\n\t\n", "#" * 1000]
)
def test_blank_lines_and_comments_say_nothing(text):
    found, findings = assignments(text)
    assert found == [] and not len(findings)


@pytest.mark.parametrize(
    "line",
    [
        "CORES",
        "CORES 8",
        "= 8",
        "1CORES = 8",
        "MY KEY = 8",
        "A-B = 8",
        "A # = 8",
        "; comment",
        "[a] = b",
        "_A = 1",
    ],
)
def test_other_lines_are_syntax_errors(line):
    _, findings = assignments(f"# first\n{line}\n")
    found = only(findings, "E-SYNTAX")
    assert (found.file, found.line) == ("test.ini", 2)
    assert f'"{line}"' in found.text


@pytest.mark.parametrize("line", ["[run]", "  [a b]  ", "[x] # why"])
def test_section_line_is_ignored_with_a_warning(line):
    found, findings = assignments(f"{line}\nA = 1")
    assert found == [(2, "A", "1")]
    assert "[" in only(findings, "W-SECTION").text


def test_line_ends_and_byte_order_mark_make_no_difference():
    plain = b"A = 1\nB = x y\n\nid1 = calib_seq\n"
    expected = assignments(plain)[0]
    assert assignments(plain.replace(b"\n", b"\r\n"))[0] == expected
    assert assignments(b"\xef\xbb\xbf" + plain)[0] == expected
    assert assignments(plain.rstrip(b"\n"))[0] == expected


def test_undecodable_line_is_reported_with_its_number_and_the_rest_is_read():
    found, findings = assignments(b"A = 1\nB = \xe9toile\nC = 3\n")
    assert found == [(1, "A", "1"), (3, "C", "3")]
    assert only(findings, "E-SYNTAX").line == 2


def test_binary_file_gives_one_clear_message():
    _, findings = read(b"SIMPLE  =                    T\x00\x00" * 500)
    found = only(findings, "E-RUNFILE")
    assert "zero byte in line 1" in found.text


def test_utf16_file_is_told_to_become_utf8():
    _, findings = read("CORES = 8\n".encode("utf-16"))
    assert "UTF-16" in only(findings, "E-RUNFILE").text


def test_many_faulty_lines_are_cut_short():
    _, findings = read("name,value\n" * 5000)
    assert findings.codes().count("E-SYNTAX") == MOST_SYNTAX
    assert "5000 lines" in one(findings, "E-RUNFILE").text


def test_ten_megabytes_of_comments_are_read():
    runfile, findings = read(b"# nothing here\n" * 700_000 + b"id1 = pp_seq\n")
    assert runfile.requests[0].line == 700_001
    assert not len(findings)


def test_one_line_of_ten_megabytes_is_read():
    _, findings = read(b"id1 = pp_seq\nA = " + b"x, " * 3_500_000)
    assert only(findings, "W-UNKNOWN-KEY").line == 2


def test_message_shows_no_control_characters_and_no_novel():
    assert shown("a\x1b[31mb") == "a\\x1b[31mb"
    assert len(shown("x" * 10_000)) < 100


def test_comment_in_a_value_starts_outside_quotes_only():
    assert without_comment("'a' # b") == "'a' "
    assert without_comment('x"a # b"', anywhere=True) == 'x"a # b"'
    assert without_comment('x"a # b"') == 'x"a '
