"""Barycentric velocity and date against other programs, and where the astrometry of a target comes from."""

from __future__ import annotations

import csv
import math
import socket
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import erfa
import numpy as np
import pytest

from apero_dask.io.assets import read_objects
from apero_dask.recipes.astrometry import HEADER, NONE, TABLE, find_target
from apero_dask.recipes.barycentre import C_KMS, Star, barycentric, largest, separation_arcsec
from apero_dask.simulator import ephemeris
from apero_dask.simulator.targets import GAMSCT, GL699, PEG59, TOI442, ZETVIR
from tests.recipes.runs import MINI

J2000 = 2_451_545.0
CM_S = 1e-5  # km/s
GOAL = 2.0  # cm/s: agreement with an independent program that the project asks for


@lru_cache
def reference() -> dict[str, tuple[Star, np.ndarray]]:
    """Star and rows (MJD, c z_B in m/s, BJD) of the table made with barycorrpy and DE421."""
    path = Path(__file__).with_name("berv_reference.csv")
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    found: dict[str, tuple[Star, list[list[float]]]] = {}
    for row in csv.DictReader(lines):
        v = {k: float(x) for k, x in row.items() if k != "name"}
        star = Star(
            v["ra_deg"], v["dec_deg"], J2000, v["pmra_mas"], v["pmdec_mas"], v["plx_mas"], v["rv_kms"]
        )
        found.setdefault(row["name"], (star, []))[1].append([v["mjd_utc"], v["cz_ms"], v["bjd_tdb"]])
    return {name: (star, np.array(rows)) for name, (star, rows) in found.items()}


def factor(berv_kms: np.ndarray) -> np.ndarray:
    beta = np.asarray(berv_kms) / C_KMS
    return np.sqrt((1 + beta) / (1 - beta))


@pytest.mark.parametrize("name", sorted(reference()))
def test_another_program_with_another_ephemeris(name: str) -> None:
    """Five stars, twenty dates over five years, parallaxes and motions up to those of Barnard's star."""
    star, rows = reference()[name]
    mjd, cz, bjd = rows.T
    found = barycentric(star, mjd, MINI)
    complete = factor(found.berv) / (1 + found.secular / 1e3 / C_KMS)
    difference = (1e3 * C_KMS * (complete - 1) - cz) * 100
    print(f"{name}: {np.abs(difference).max():.2f} cm/s, {86400e3 * np.abs(found.bjd - bjd).max():.2f} ms")
    assert len(mjd) == 20
    assert np.abs(difference).max() < GOAL
    # JD as a double knows 0.04 ms; the rest is what light of the star takes differently on a curved front.
    assert 86400 * np.abs(found.bjd - bjd).max() < 1e-3


def test_what_is_left_out_shows() -> None:
    """Without motion of the star, its parallax or its secular part the table is missed by far."""
    star, rows = reference()["GL699"]
    mjd, cz, _ = rows.T

    def worst(changed: Star, secular: bool = True) -> float:
        found = barycentric(changed, mjd, MINI)
        total = factor(found.berv) / (1 + secular * barycentric(star, mjd, MINI).secular / 1e3 / C_KMS)
        return float(100 * np.ptp(1e3 * C_KMS * (total - 1) - cz))

    assert worst(star) < GOAL
    assert worst(replace(star, pm_ra_mas=0.0, pm_dec_mas=0.0)) > 100
    assert worst(replace(star, parallax_mas=0.0)) > 10
    assert worst(star, secular=False) > 1000


def test_naive_vectors_of_erfa() -> None:
    """Earth by epv00, site by pvtob turned with c2i06a, UT1 = UTC, no parallax: written out once more."""
    star = Star(127.3, -8.1, J2000)
    mjd = 58_386.1 + 36.5 * np.arange(20)
    found = barycentric(star, mjd, MINI).berv
    for when, berv in zip(mjd, found, strict=True):
        tai1, tai2 = erfa.utctai(2_400_000.5, when)
        tt1, tt2 = erfa.taitt(tai1, tai2)
        _, earth = erfa.epv00(tt1, tt2)
        velocity = np.array(earth["v"]) * 149_597_870.7 / 86_400
        place = erfa.pvtob(
            math.radians(MINI.longitude), math.radians(MINI.latitude), MINI.height_m, 0.0, 0.0, 0.0,
            erfa.era00(2_400_000.5, when),
        )  # fmt: skip
        velocity += erfa.c2i06a(tt1, tt2).T @ np.array(place["v"]) / 1e3
        ra, dec = math.radians(star.ra_deg), math.radians(star.dec_deg)
        to_star = np.array([math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)])
        beta = velocity / C_KMS
        # Light that falls into the gravity of Sun and Earth (GM / c^2 r) arrives bluer.
        sun = 1.327_124_400_18e11 / np.linalg.norm(np.array(erfa.epv00(tt1, tt2)[0]["p"]) * 149_597_870.7)
        gravity = (sun + 398_600.44 / 6_379.0) / C_KMS**2
        one = (1 + beta @ to_star) / math.sqrt(1 - beta @ beta) * (1 + gravity)
        assert abs(C_KMS * (one**2 - 1) / (one**2 + 1) - berv) < GOAL * CM_S


def test_the_painted_velocity() -> None:
    """The simulator, which knows no parallax, for its stars over two years; dates to a millisecond."""
    site = ephemeris.Site(MINI.latitude, MINI.longitude, MINI.height_m)
    mjd = 58_300.3 + 36.5 * np.arange(20)
    for painted in (GL699, TOI442, PEG59, GAMSCT, ZETVIR):
        t = painted.target
        star = Star(t.ra_deg, t.dec_deg, J2000, 1e3 * t.pm_ra_arcsec_yr, 1e3 * t.pm_dec_arcsec_yr)
        found = barycentric(star, mjd, MINI)
        berv, bjd = ephemeris.barycentric(t, mjd, site)
        np.testing.assert_allclose(found.berv, berv, atol=GOAL * CM_S)
        np.testing.assert_allclose(found.bjd, bjd, atol=1e-3 / 86400, rtol=0)


def test_the_sign() -> None:
    """A star ahead of the Earth is approached: the Earth moves towards 90 deg west of the Sun.

    At the equinox of March the Sun stands at 0 deg, the Earth moves towards ecliptic longitude 270 deg.
    """
    star = Star(270.0, -23.44, J2000)
    assert 29 < float(barycentric(star, 58_562.9, MINI).berv[0]) < 31
    assert 29 < largest(star, 58_562.9, MINI) < 31


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dates far beyond the tables of Earth orientation, and nobody is called."""

    def refuse(*arguments: object, **values: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    found = barycentric(Star(10.0, 20.0, J2000), [45_000.0, 58_386.0, 62_500.0], MINI)
    assert np.isfinite(found.berv).all()


def test_separation() -> None:
    star = Star(200.0, 60.0, J2000, 1000.0, 0.0)
    assert separation_arcsec(star, 51_544.5, 200.0, 60.0) == pytest.approx(0.0, abs=1e-6)
    assert separation_arcsec(star, 51_544.5 + 3652.5, 200.0, 60.0) == pytest.approx(10.0, abs=1e-3)
    assert separation_arcsec(star, 51_544.5, 202.0, 60.0) == pytest.approx(3600.0, rel=2e-3)


# Where the values come from

TEXT = """OBJNAME,ALIASES,RA_DEG,RA_SOURCE,DEC_DEG,DEC_SOURCE,EPOCH,PMRA,PMRA_SOURCE,PMDE,PLX,RV,TEFF
GL699,Gl 699|Barnard's star,269.452083,gaia,4.693391,gaia,2451545.0,-800,paper,10360,546.98,-110.5,3224
HALF,,10.5,,20.5,,2016.0,,,,,,
BROKEN,,ten,,20.5,,2451545.0,1,,1,1,1,
"""
HEAD = {
    "OBJECT": "Gl699", "OBJRA": "17:57:48.50", "OBJDEC": "4:41:36.2", "OBJEQUIN": 2000.0, "OBJRAPM": -0.8,
    "OBJDECPM": 10.36, "OBJPLX": 546.98, "OBJRV": 1000.0, "OBJTEMP": 3224.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("assets") / "objects.csv"
    path.write_text(TEXT)
    return read_objects(path)


def test_table_comes_first(table) -> None:  # type: ignore[no-untyped-def]
    for name in ("GL699", "Barnard's star", "gl 699"):
        found = find_target(table, name, HEAD)
        assert (found.name, found.source) == ("GL699", TABLE)
        assert found.star == Star(269.452083, 4.693391, J2000, -800.0, 10360.0, 546.98, -110.5)
        assert found.sources["ra_deg"] == "gaia" and found.sources["pm_ra_mas"] == "paper"
        assert found.sources["pm_dec_mas"] == TABLE and found.temperature_k == 3224


def test_header_is_the_fallback(table) -> None:  # type: ignore[no-untyped-def]
    found = find_target(table, "TOI9", HEAD)
    assert (found.name, found.source) == ("TOI9", HEADER)
    assert found.star is not None and found.star.rv_kms == 0.0 and found.sources["rv_kms"] == NONE
    assert found.star.ra_deg == pytest.approx(269.452083, abs=1e-6)
    assert (found.star.pm_ra_mas, found.star.pm_dec_mas) == (-800.0, 10360.0)
    assert found.sources["pm_ra_mas"] == HEADER


def test_values_the_table_lacks(table) -> None:  # type: ignore[no-untyped-def]
    """A place of the table with the motion of the header; an epoch given as a year is one."""
    found = find_target(table, "HALF", HEAD)
    assert found.source == TABLE and found.star is not None
    assert found.star.epoch_jd == pytest.approx(J2000 + 16 * 365.25)
    assert found.star.pm_dec_mas == 10360.0 and found.sources["pm_dec_mas"] == HEADER


def test_broken_row_and_no_place(table) -> None:  # type: ignore[no-untyped-def]
    found = find_target(table, "BROKEN", HEAD)
    assert found.source == HEADER and "RA_DEG = 'ten' is not a number" in found.problems
    lost = find_target(table, "NOWHERE", {"OBJECT": "Nowhere", "OBJRA": "", "OBJDEC": "north"})
    assert (lost.star, lost.source) == (None, NONE) and "'north'" in lost.problems[0]
    outside = find_target(table, "NOWHERE", {"OBJRA": "30:00:00", "OBJDEC": "95:00:00"})
    assert outside.star is None and "no place on the sky" in outside.problems[0]
