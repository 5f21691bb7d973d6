"""FITS files: what is written is what an independent reader finds, and damage is named."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from apero_dask.core.errors import DataError
from apero_dask.io.cards import CardError, card_text, carried, merged, split_cards
from apero_dask.io.fits import FitsFile
from apero_dask.io.fitswriter import Image, Table, content_digest, encoded_complement, ones_sum, write_fits

CARDS = [card_text("OBJECT", "Gl 699", "target"), card_text("DRSPDATE", "2026-01-01", "volatile")]


def planes(seed: int = 1) -> list[Image]:
    random = np.random.default_rng(seed)
    image = random.normal(size=(70, 40)).astype(np.float32)
    image[3, 4:8] = np.nan
    return [
        Image("DRS_PP", image, "ADU/s"),
        Image("WIDE", random.normal(size=(5, 7)), cards=(("NOTE", 3, "an own card"),)),
        Image("MASK", random.integers(0, 255, (7, 5)).astype(np.uint8)),
        Image("COUNT", random.integers(-300, 300, (3, 5)).astype(np.int16)),
    ]


def table() -> Table:
    return Table(
        "DARK_TABLE",
        {
            "NAME": ["a", "bcd", "", "it's", "e"],
            "N": np.arange(5),
            "TIME": np.array([0.0, 1.5, np.nan, -3e-20, 1e300]),
            "USED": np.array([True, False, True, True, False]),
            "PAIR": np.arange(10, dtype=np.float32).reshape(5, 2),
        },
        {"TIME": "d"},
    )


def write(path: Path, *extensions: Image | Table, cards: list[str] | None = None):
    return write_fits(path, CARDS if cards is None else cards, extensions, ("DRSPDATE",))


def test_astropy_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    images = planes()
    write(path, *images, table())
    with fits.open(path, checksum=True) as found:
        found.verify("exception")
        assert found[0].data is None
        assert found[0].header["OBJECT"] == "Gl 699"
        assert [unit.name for unit in found[1:]] == ["DRS_PP", "WIDE", "MASK", "COUNT", "DARK_TABLE"]
        for unit, image in zip(found[1:], images, strict=False):
            np.testing.assert_array_equal(unit.data, image.data)
            assert unit.data.dtype == image.data.dtype.newbyteorder(">")
        assert found["WIDE"].header["NOTE"] == 3
        rows = found["DARK_TABLE"].data
        assert list(rows["NAME"]) == ["a", "bcd", "", "it's", "e"]
        np.testing.assert_array_equal(rows["TIME"], table().columns["TIME"])
        np.testing.assert_array_equal(rows["USED"], table().columns["USED"])
        np.testing.assert_array_equal(rows["PAIR"], table().columns["PAIR"])
        assert found["DARK_TABLE"].columns["TIME"].unit == "d"
        for unit in found:
            assert unit.verify_checksum() == unit.verify_datasum() == 1


def test_own_reader_gives_native_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    images = planes()
    write(path, *images, table())
    file = FitsFile(path)
    for number, image in enumerate(images, start=1):
        for which in (number, image.name, image.name.lower()):
            data = file.image(which)
            assert data.dtype == image.data.dtype and data.dtype.isnative and data.flags.writeable
            np.testing.assert_array_equal(data, image.data)
    np.testing.assert_array_equal(file.rows("DRS_PP", 10, 13), images[0].data[10:13])
    assert file.rows(1, 7, 7).shape == (0, 40)
    np.testing.assert_array_equal(file.rows(1, 3, 14, step=4), images[0].data[3:14:4])
    assert file.image("COUNT", np.float32).dtype == np.float32
    columns = file.table("DARK_TABLE")
    for name, values in table().columns.items():
        np.testing.assert_array_equal(columns[name], np.asarray(values))


def test_files_of_other_programs(tmp_path: Path) -> None:
    """Scaled integers, blanks, missing padding and gzip as astropy writes them."""
    counts = np.array([[1, 2, 40000], [65535, 0, 7]], np.uint16)
    gaps = fits.ImageHDU(np.array([[1, -99], [3, 4]], np.int16), name="GAPS")
    gaps.header["BLANK"] = -99
    units = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(counts, name="U"), gaps])
    path = tmp_path / "a.fits"
    units.writeto(path)
    packed = tmp_path / "b.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for name in (path, packed):
        file = FitsFile(name)
        np.testing.assert_array_equal(file.image("U"), counts.astype(np.float32))
        np.testing.assert_array_equal(file.rows("U", 1, 2), counts[1:].astype(np.float32))
        np.testing.assert_array_equal(file.image("GAPS"), [[1, np.nan], [3, 4]])
    unpadded = tmp_path / "c.fits"
    unpadded.write_bytes(path.read_bytes()[: FitsFile(path).units[-1].start + 8])
    np.testing.assert_array_equal(FitsFile(unpadded).image("GAPS"), [[1, np.nan], [3, 4]])


def test_same_content_same_file(tmp_path: Path) -> None:
    first, second = tmp_path / "a.fits", tmp_path / "b.fits"
    one = write(first, *planes(), table())
    two = write(second, *planes(), table())
    assert one == two
    assert first.read_bytes() == second.read_bytes()
    assert one.digest == hashlib.sha256(first.read_bytes()).hexdigest()
    assert one.size == first.stat().st_size
    assert content_digest(first, ("DRSPDATE",)) == one.content


def test_nan_has_one_form(tmp_path: Path) -> None:
    """The sign of a NaN depends on the instruction that made it."""
    negative = np.array([[np.float32(-np.nan), 1.0]], np.float32)
    payload = np.array([[0x7FC12345, 0x3F800000]], np.uint32).view(np.float32)
    plain = np.array([[np.nan, 1.0]], np.float32)
    written = [
        write(tmp_path / f"{k}.fits", Image("A", data)) for k, data in enumerate((negative, payload, plain))
    ]
    assert written[0] == written[1] == written[2]


def test_content_digest_ignores_volatile_cards_only(tmp_path: Path) -> None:
    base = write(tmp_path / "a.fits", *planes())
    later = [CARDS[0], card_text("DRSPDATE", "2026-02-02", "volatile")]
    other = write(tmp_path / "b.fits", *planes(), cards=later)
    assert other.digest != base.digest and other.content == base.content
    renamed = [card_text("OBJECT", "Gl 700", "target"), CARDS[1]]
    assert write(tmp_path / "c.fits", *planes(), cards=renamed).content != base.content
    assert write(tmp_path / "d.fits", *planes(seed=2)).content != base.content
    changed = planes()
    assert write(tmp_path / "e.fits", *changed[:3]).content != base.content


def test_every_flipped_bit_changes_the_digests(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    written = write(path, *planes())
    whole = bytearray(path.read_bytes())
    for position in range(5760, len(whole), 4999):
        damaged = whole.copy()
        damaged[position] ^= 4
        assert hashlib.sha256(damaged).hexdigest() != written.digest


@pytest.mark.parametrize("cut", [1, 100, 2880, 5000, 8700, 20000])
def test_truncated_files_are_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.fits"
    write(path, *planes())
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    with pytest.raises(DataError, match=r"a\.fits") as error:
        FitsFile(path).image("COUNT")
    assert "copy or make the file again" in str(error.value)


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    write(path, *planes())
    packed = gzip.compress(path.read_bytes())
    for k, wrong in enumerate((packed[:-40], packed[:200] + b"\0\0\0\0" + packed[204:])):
        name = tmp_path / f"{k}.fits.gz"
        name.write_bytes(wrong)
        with pytest.raises(DataError, match="gzip"):
            FitsFile(name)


def test_other_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    write(path, *planes(), table())
    file = FitsFile(path)
    with pytest.raises(DataError, match="no extension FLUX; extensions found: DRS_PP, WIDE"):
        file.image("FLUX")
    with pytest.raises(DataError, match="no extension number 9"):
        file.image(9)
    with pytest.raises(DataError, match="is a table, expected an image"):
        file.image("DARK_TABLE")
    with pytest.raises(DataError, match="not a binary table"):
        file.table("MASK")
    with pytest.raises(DataError, match=r"rows 60\.\.80"):
        file.rows(1, 60, 80)
    with pytest.raises(DataError, match="no EXPTIME in the primary header"):
        file.number("EXPTIME")
    with pytest.raises(DataError, match='OBJECT = "Gl 699"'):
        file.number("OBJECT")
    empty = tmp_path / "empty.fits"
    empty.write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        FitsFile(empty)
    text = tmp_path / "text.fits"
    text.write_bytes(b"no such frame\n" * 500)
    with pytest.raises(DataError, match="not a FITS file"):
        FitsFile(text)
    with pytest.raises(FileNotFoundError):
        FitsFile(tmp_path / "none.fits")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"BITPIX  =                  -32", b"BITPIX  =                  -31", 1))
    with pytest.raises(DataError, match="does not describe its data"):
        FitsFile(path)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    with pytest.raises(TypeError, match="image A"):
        write(path, Image("A", np.zeros((2, 2), complex)))
    with pytest.raises(TypeError, match="column C"):
        write(path, Table("T", {"C": np.zeros((2, 2, 2))}))
    with pytest.raises(ValueError, match="column D: 3 rows"):
        write(path, Table("T", {"C": [1, 2], "D": [1, 2, 3]}))
    with pytest.raises(ValueError, match="outside ASCII"):
        write(path, Table("T", {"C": ["é"]}))


def test_full_disk_names_the_file() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(OSError) as error:
        write(Path("/dev/full"), *planes())
    assert error.value.filename == "/dev/full"


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_large_planes_are_written_piece_by_piece(tmp_path: Path, dtype: str) -> None:
    """Several megabytes and a remainder: bytes, sums and digests as those of the whole plane."""
    random = np.random.default_rng(4)
    plane = random.integers(0, 200, (1031, 1733)).astype(dtype)
    if plane.dtype.kind == "f":
        plane[random.random(plane.shape) < 0.01] = np.nan
    path = tmp_path / "large.fits"
    written = write_fits(path, [], [Image("LARGE", plane)])
    assert written.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert written.content == content_digest(path) and written.size == path.stat().st_size
    with fits.open(path, checksum=True) as units:
        units.verify("exception")
        np.testing.assert_array_equal(units[1].data, plane)
    np.testing.assert_array_equal(FitsFile(path).image(1, plane.dtype.type), plane)


@given(st.integers(0, 2**32 - 1))
def test_checksum_encoding_is_alphanumeric_and_adds_up(total: int) -> None:
    """Sixteen characters whose sum is the complement; zero characters count as offset 48."""
    text = encoded_complement(total)
    assert len(text) == 16 and text.isalnum() and text.isascii()
    turned = (text[1:] + text[:1]).encode()
    offset = ones_sum(b"0" * 16)
    assert (ones_sum(turned) + 0xFFFFFFFF - offset + total) % 0xFFFFFFFF == 0


@given(st.binary(max_size=50))
def test_ones_sum_is_the_slow_sum(data: bytes) -> None:
    total = 0
    for k in range(0, len(data), 4):
        total += int.from_bytes(data[k : k + 4].ljust(4, b"\0"), "big")
        total = (total & 0xFFFFFFFF) + (total >> 32)
    assert ones_sum(data) == total


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(st.one_of(TEXT, st.integers(-(10**15), 10**15), st.floats(allow_nan=False, allow_infinity=False)))
@settings(max_examples=300)
def test_cards_are_read_back_by_astropy(value: str | int | float) -> None:
    card = card_text("KEY", value, "comment")
    assert len(card) == 80
    found = fits.Card.fromstring(card)
    found.verify("exception")
    assert found.value == (value.rstrip() if isinstance(value, str) else value)
    assert list(carried([card])) == [card]


def test_bad_cards_are_refused() -> None:
    for keyword, value in (
        ("TOOLONGKEY", 1),
        ("lower", 1),
        ("KEY", float("nan")),
        ("KEY", "é"),
        ("KEY", "x" * 69),
        ("KEY", "'" * 35),
    ):
        with pytest.raises(CardError):
            card_text(keyword, value)
    with pytest.raises(CardError, match="twice"):
        merged([], [("A", 1, ""), ("A", 2, "")])


def test_carried_cards_lose_structure_and_keep_the_rest() -> None:
    header = fits.Header()
    header["SIMPLE"] = True
    header["NAXIS"] = 0
    header["OBJECT"] = ("Barnard's star", "doubled quote")
    header["EXPTIME"] = 601.767
    header["NULL"] = None
    header["HISTORY"] = "taken"
    header["LONG"] = "x" * 100
    header["CHECKSUM"] = "abc"
    lines = split_cards(header.tostring())
    broken = "BADQUOTE= 'Barnard's star' / quote not doubled".ljust(80)
    kept = list(carried([*lines, broken, "WRONG KEYWORD".ljust(80)]))
    names = [card[:8].strip() for card in kept]
    assert names == ["OBJECT", "EXPTIME", "NULL", "LONG", "CONTINUE", "HISTORY", "BADQUOTE"]
    result = fits.Header.fromstring("".join(kept))
    for card in result.cards:
        card.verify("exception")
    assert result["OBJECT"] == "Barnard's star" and result["LONG"] == "x" * 100
    assert result["BADQUOTE"] == "Barnard s star"
    replaced = merged(kept, [("LONG", "short", ""), ("OBJECT", "X", "")])
    assert [c[:8].strip() for c in replaced] == ["EXPTIME", "NULL", "HISTORY", "BADQUOTE", "LONG", "OBJECT"]


def test_temporary_names_and_publication(tmp_path: Path) -> None:
    from apero_dask.io.atomic import is_temporary, leftovers, publish, temporary_path

    target = tmp_path / "b.fits"
    names = {temporary_path(target, token) for token in ("run 1", "run 2")}
    assert len(names) == 2 and all(is_temporary(name.name) for name in names)
    assert not any(is_temporary(name) for name in ("b.fits", ".b.fits", ".b.fits.part"))
    temporary = temporary_path(target, "run 1")
    temporary.write_text("new")
    target.write_text("old")
    assert list(leftovers(tmp_path)) == [temporary]
    publish([(temporary, target)])
    assert target.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["b.fits"]
    for name in names:
        name.write_text("x")
    blocked = tmp_path / "folder"
    blocked.mkdir()
    first, second = sorted(names)
    with pytest.raises(OSError):
        publish([(first, blocked), (second, tmp_path / "c.fits")])
    assert list(leftovers(tmp_path)) == []
    assert list(leftovers(tmp_path / "none")) == []
