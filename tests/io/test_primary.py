"""The header reader against a FITS library, and on everything that is not a header."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from apero_dask.io import primary
from apero_dask.io.primary import HeaderError, parse_cards, parse_value, read_primary
from tests.io.archive import card, header, mode_bits_count, unit

GOOD = unit(header("2320031o"))


def astropy_values(content: fits.Header) -> dict[str, object]:
    """What the library finds; the first of repeated keywords, no commentary, nothing undefined."""
    found: dict[str, object] = {}
    for one in content.cards:
        commentary = one.keyword in ("", "COMMENT", "HISTORY", "CONTINUE")
        if not commentary and not isinstance(one.value, fits.card.Undefined):
            found.setdefault(one.keyword, one.value)
    return found


def reason(path: Path) -> tuple[str, str]:
    with pytest.raises(HeaderError) as caught:
        read_primary(path)
    return caught.value.reason, caught.value.note


@pytest.fixture
def library_file(tmp_path: Path) -> Path:
    """A multi-extension file of the library with every kind of card."""
    content = fits.Header()
    content["OBJECT"] = ("Barnard's star", "a quote inside")
    content["SLASH"] = ("a / b", "a slash inside")
    content["EMPTY"] = ""
    content["LEADING"] = "   three blanks"
    content["NEGATIVE"] = -12
    content["MJDEND"] = (58386.2785634, "[d] end")
    content["TINY"] = 1.46e-06
    content["BIG"] = 4472832130942575872
    content["YES"] = True
    content["NO"] = False
    content["NOTHING"] = fits.card.Undefined()
    content["COMMENT"] = "words = 'not a value'"
    content["HISTORY"] = "END of a story"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)  # the library announces HIERARCH cards
        content["HIERARCH ESO DET READ SPEED"] = 3.5
        content["HIERARCH ESO OBS NAME"] = "long name of an observing block"
    content["LONG"] = "x'y " * 60
    for number in range(150):
        content[f"KEY{number:03d}"] = (number * 0.1, "filling several blocks")
    content["AFTER"] = "last"
    path = tmp_path / "2320031o.fits"
    planes = [fits.ImageHDU(np.ones((4, 4), np.float32)) for _ in range(3)]
    fits.HDUList([fits.PrimaryHDU(header=content), *planes]).writeto(path)
    return path


def test_values_are_those_of_the_library(library_file: Path) -> None:
    expected = astropy_values(fits.getheader(library_file))
    assert len(expected) > 160
    found = read_primary(library_file).values
    assert found == expected
    assert {key: type(value) for key, value in found.items()} == {k: type(v) for k, v in expected.items()}


def test_digest_is_that_of_the_header_unit_and_size_that_of_the_file(library_file: Path) -> None:
    with fits.open(library_file) as planes:
        length = planes[1].fileinfo()["hdrLoc"]  # the first extension begins where the primary unit ends
    found = read_primary(library_file)
    content = library_file.read_bytes()
    assert found.digest == hashlib.sha256(content[:length]).hexdigest()
    assert found.size == len(content)
    assert found.mtime_ns == library_file.stat().st_mtime_ns


def test_selected_keywords_are_those_of_the_whole_header(library_file: Path) -> None:
    everything = read_primary(library_file).values
    wanted = {"OBJECT", "MJDEND", "LONG", "ESO OBS NAME", "KEY149", "AFTER", "ABSENT"}
    expected = {key: value for key, value in everything.items() if key in wanted}
    assert len(expected) == 6
    assert read_primary(library_file, wanted).values == expected


def test_gzip_gives_the_same_values_and_digest(library_file: Path) -> None:
    plain = read_primary(library_file)
    packed = library_file.with_suffix(".fits.gz")
    packed.write_bytes(gzip.compress(library_file.read_bytes()))
    found = read_primary(packed)
    assert (found.values, found.digest) == (plain.values, plain.digest)
    assert found.size == packed.stat().st_size


def test_gzip_is_recognised_by_contents_not_by_name(tmp_path: Path) -> None:
    packed, plain = tmp_path / "1.fits", tmp_path / "2.fits.gz"
    packed.write_bytes(gzip.compress(GOOD))
    plain.write_bytes(GOOD)
    assert read_primary(packed).values == read_primary(plain).values


def test_gzip_of_several_members_and_of_an_extremely_repetitive_header(tmp_path: Path) -> None:
    path = tmp_path / "1.fits.gz"
    path.write_bytes(gzip.compress(GOOD[:1000]) + gzip.compress(GOOD[1000:]))
    assert read_primary(path).values["OBJECT"] == "Gl699"
    # Members longer than one read, of text that hardly shrinks.
    cards = (f"COMMENT {os.urandom(36).hex()}".encode() for _ in range(2000))
    long = GOOD.replace(b"END".ljust(80), b"".join(cards) + card("LAST", 1).encode() + b"END".ljust(80))
    long = long.ljust(-(-len(long) // 2880) * 2880)
    half = len(long) // 2
    path.write_bytes(gzip.compress(long[:half]) + gzip.compress(long[half:]) + bytes(512))
    assert path.stat().st_size > 2 * primary.FIRST_READ
    assert read_primary(path).values["LAST"] == 1
    # 300 blocks shrink below one read: output is waiting inside the decompressor when the input is used up.
    blank = "COMMENT".ljust(80) * 10800
    long = GOOD.replace(b"END".ljust(80), blank.encode() + b"END".ljust(80))
    path.write_bytes(gzip.compress(long.ljust(-(-len(long) // 2880) * 2880)))
    assert path.stat().st_size < primary.FIRST_READ
    assert read_primary(path).values["OBJECT"] == "Gl699"


def test_gzip_whose_own_header_is_longer_than_one_read(tmp_path: Path) -> None:
    path = tmp_path / "1.fits.gz"
    with path.open("wb") as out, gzip.GzipFile("n" * (primary.FIRST_READ + 9), "wb", fileobj=out) as packed:
        packed.write(GOOD)
    assert read_primary(path).values["OBJECT"] == "Gl699"


def test_the_word_end_inside_a_card_is_not_the_end(tmp_path: Path) -> None:
    path = tmp_path / "1.fits"
    early = "COMMENT seen to the END".ljust(160) + card("PI_NAME", "PI One")
    path.write_bytes(unit(header("2320031o")).replace(card("PI_NAME", "PI One").encode(), early.encode()))
    content = path.read_bytes()
    path.write_bytes(content.ljust(-(-len(content) // 2880) * 2880))
    assert read_primary(path).values["PI_NAME"] == "PI One"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("'it''s'", "it's"),
        ("'a'' b'", "a' b"),
        ("'Barnard's star' / quote not doubled", "Barnard's star"),
        ("'no end", "no end"),
        ("'a' / 'b'", "a"),
        ("''", ""),
        ("1.5D3", 1500.0),
        ("-.5", -0.5),
        ("+7", 7),
        ("5.", 5.0),
        ("F", False),
        ("(1.0, 2.0)", "(1.0, 2.0)"),
        ("NaN", "NaN"),
        ("1_000", "1_000"),
        ("  / only a comment", None),
        ("", None),
    ],
)
def test_value_of_a_card(field: str, value: object) -> None:
    found = parse_value(field.ljust(70))
    assert found == value and type(found) is type(value)


# Text that begins or ends with an ampersand would be a CONTINUE string to either reader.
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="&"), max_size=60)


@given(st.one_of(texts, st.integers(-(10**18), 10**18), st.booleans(), st.floats(-1e30, 1e30)))
def test_any_value_the_library_writes_is_read_back(value: str | int | float | bool) -> None:
    image = fits.Card("KEYWORD", value).image
    # Text is its own truth (the library itself stops at a quote before a slash), blanks at its end do not
    # count; numbers are rounded by the library when it writes them.
    expected = value.rstrip() if isinstance(value, str) else fits.Card.fromstring(image).value
    found = parse_cards(image)["KEYWORD"]
    assert found == expected and type(found) is type(expected)


def test_first_of_repeated_keywords_counts() -> None:
    text = card("OBJECT", "first") + card("OBJECT", "second")
    assert parse_cards(text) == {"OBJECT": "first"} == parse_cards(text, {"OBJECT"})


def test_continue_belongs_to_the_card_before_only() -> None:
    text = card("LONG", "abc&") + "CONTINUE  'def&'".ljust(80) + "CONTINUE  'ghi'".ljust(80)
    text += card("OTHER", 1) + "CONTINUE  'astray'".ljust(80)
    assert parse_cards(text) == {"LONG": "abcdefghi", "OTHER": 1}
    assert parse_cards(text, {"OTHER"}) == {"OTHER": 1}


def test_empty(tmp_path: Path) -> None:
    path = tmp_path / "1.fits"
    path.write_bytes(b"")
    assert reason(path) == (primary.EMPTY, "")
    path.write_bytes(gzip.compress(b""))
    assert reason(path) == (primary.EMPTY, "")


@pytest.mark.parametrize("length", [1, 9, 79, 80, 400, 2879, 2880, 5759])
def test_truncated(tmp_path: Path, length: int) -> None:
    # Two blocks of cards and END in a third: no cut before the last byte leaves a header.
    values = header("2320031o") | {f"K{n}": n for n in range(60)}
    whole = unit(values)
    assert len(whole) == 3 * 2880
    path = tmp_path / "1.fits"
    path.write_bytes(whole[:length])
    assert reason(path) == (primary.TRUNCATED, f"{length} bytes")
    path.write_bytes(whole)
    assert read_primary(path).values["K59"] == 59


def test_cut_inside_the_padding_behind_end_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "1.fits"
    path.write_bytes(GOOD[:-1])
    assert reason(path)[0] == primary.TRUNCATED


def test_damaged_and_truncated_gzip(tmp_path: Path) -> None:
    path = tmp_path / "1.fits.gz"
    packed = bytearray(gzip.compress(GOOD))
    path.write_bytes(packed[: len(packed) // 2])
    assert reason(path) == (primary.TRUNCATED, "the gzip data end early")
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed)
    assert reason(path)[0] == primary.BAD_GZIP
    path.write_bytes(b"\x1f\x8b" + bytes(100))
    assert reason(path)[0] == primary.BAD_GZIP


@pytest.mark.parametrize("content", [b"\x89PNG\r\n" + bytes(5000), b"SIMPLY not", b"\xff" * 2880, b"\n"])
def test_not_fits(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "1.fits"
    path.write_bytes(content)
    assert reason(path) == (primary.NOT_FITS, "")


def test_no_end_card(tmp_path: Path) -> None:
    path = tmp_path / "1.fits"
    path.write_bytes(card("SIMPLE", True).encode().ljust(primary.LONGEST_HEADER + 2880))
    assert reason(path) == (primary.NO_END, "none in the first 14400 cards")


@pytest.mark.parametrize("observer", ["Jos\xe9".encode("latin-1"), "José".encode()])
def test_header_that_is_not_ascii(tmp_path: Path, observer: bytes) -> None:
    path = tmp_path / "1.fits"
    line = b"OBSERVER= '" + observer + b"'"
    path.write_bytes(GOOD.replace(card("PI_NAME", "PI One").encode(), line.ljust(80)))
    assert reason(path) == (primary.NOT_ASCII, f"byte 0x{observer[3]:02X} in card OBSERVER")


def test_bytes_behind_the_header_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "1.fits"
    path.write_bytes(GOOD + b"\xff" * 1000)
    assert read_primary(path).values["OBJECT"] == "Gl699"


def test_folder_pipe_socket_and_dead_link(tmp_path: Path) -> None:
    assert reason(tmp_path) == (primary.NOT_A_FILE, "a folder")
    pipe = tmp_path / "pipe.fits"
    os.mkfifo(pipe)
    assert reason(pipe) == (primary.NOT_A_FILE, "")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket may not be longer than 107 bytes
        try:
            server.bind("s.fits")
        finally:
            os.chdir(here)
        assert reason(tmp_path / "s.fits") == (primary.NOT_A_FILE, "")
    link = tmp_path / "link.fits"
    link.symlink_to(tmp_path / "absent.fits")
    assert reason(link)[0] == primary.DEAD_LINK
    link.unlink()
    link.symlink_to(link)
    assert reason(link) == (primary.DEAD_LINK, "links in a circle")
    assert reason(tmp_path / "absent.fits")[0] == primary.VANISHED


@mode_bits_count
def test_file_without_read_permission(tmp_path: Path) -> None:
    path = tmp_path / "1.fits"
    path.write_bytes(GOOD)
    path.chmod(0)
    assert reason(path)[0] == primary.NO_PERMISSION


def test_denied_and_failing_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "1.fits"
    path.write_bytes(GOOD)

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", denied)
        assert reason(path) == (primary.NO_PERMISSION, "")
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", broken)
        assert reason(path) == (primary.READ_ERROR, "Input/output error")


def test_lasting_errors_say_which_file_they_hold_for(tmp_path: Path) -> None:
    path = tmp_path / "1.fits"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(HeaderError) as caught:
        read_primary(path)
    assert caught.value.lasting
    assert (caught.value.size, caught.value.mtime_ns) == (19, path.stat().st_mtime_ns)


@given(st.binary(max_size=200), st.integers(0, 2879), st.binary(max_size=40))
def test_no_damage_raises_anything_else(start: bytes, place: int, patch: bytes) -> None:
    damaged = GOOD[:place] + patch + GOOD[place + len(patch) :]
    path = Path("/proc/self/fd")
    for content in (start, b"SIMPLE  = " + start, b"\x1f\x8b\x08" + start, damaged):
        handle = os.memfd_create("header")
        try:
            os.write(handle, content)
            try:
                read_primary(path / str(handle))
            except HeaderError as error:
                assert error.lasting
        finally:
            os.close(handle)


def test_equal_values_of_different_kind_keep_their_text() -> None:
    """Cards are kept by their contents: numbers that are equal must not share a text."""
    from apero_dask.io.cards import card_text

    values = (True, 1, 1.0, False, 0, 0.0, -0.0)
    texts = [card_text("KEY", value)[10:30].strip() for value in values * 2]
    assert texts == ["T", "1", "1.0", "F", "0", "0.0", "-0.0"] * 2
