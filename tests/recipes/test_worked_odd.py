"""Odd frames from raw pixels to velocities: each ends in a named outcome and the others go on.

All of them are reduced in one command, beside a sound frame of the same star.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
from astropy.io import fits

from apero_dask.simulator.spec import FrameSpec
from apero_dask.simulator.targets import GAMSCT
from tests.recipes.test_worked_rows import HOT, STAR, errors, header, sequence, states
from tests.recipes.worked import NIGHTS, Answer, Archive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

OTHER, SATURATED, NO_COMB, LOW = "2320031o", "2320032o", "2320033o", "2320034o"
NO_RV, EMPTY, FAINT, SOUND = "2320130o", "2320131o", "2320132o", "2320133o"
ODD = (OTHER, SATURATED, NO_COMB, LOW, NO_RV, EMPTY, FAINT)
LOST_ORDER = 6
NAME = "GJ 7"


@dataclass(frozen=True)
class Odd:
    """What the command did to the odd frames."""

    archive: Archive
    answer: Answer
    ended: Mapping[tuple[str, str], str]
    """State by step and frame or object."""
    messages: Mapping[str, set[str]]
    """Codes by frame."""

    def head(self, identifier: str, end: str) -> fits.Header:
        night = NIGHTS[0] if identifier < "23201" else NIGHTS[1]
        return header(self.archive, night, f"{identifier}_pp_{end}.fits")

    def velocity(self, identifier: str) -> tuple[float, float]:
        """Velocity and its error, km/s."""
        head = self.head(identifier, "e2dsff_tcorr_AB_ccf_apero_dask_mdwarf_AB")
        return float(head["RV_OBJ"]), float(head["DVRMS_CC"]) / 1e3


def order_rows(archive: Archive, order: int) -> tuple[int, int]:
    """Rows of the calibrated frame between which the science fibres light an order."""
    centres = fits.getdata(archive.path / "reduced" / NIGHTS[1] / "2320110f_pp_loco_AB.fits", "CENTRES")
    rows = centres[centres["ORDER"] == order]
    series = np.array([[row[name] for name in centres.names if name.startswith("COEFFS_")] for row in rows])
    # A Chebyshev series stays within the sum of its other terms about the first one.
    reach = np.abs(series[:, 1:]).sum(axis=1)
    return int((series[:, 0] - reach).min()) - 8, int((series[:, 0] + reach).max()) + 9


@pytest.fixture(scope="module")
def odd(reduced: Archive, tmp_path_factory: pytest.TempPathFactory) -> Odd:
    archive = reduced.copy(tmp_path_factory.mktemp("odd") / "copy")
    spec = {name: archive.spec(name) for name in ODD}

    def target(identifier: str, **changes: object) -> FrameSpec:
        found = spec[identifier]
        assert found.target is not None
        return replace(found, target=replace(found.target, **changes))

    archive.expose(replace(spec[OTHER], target=replace(GAMSCT.target, name="Gl699", pi_name="PI One")))
    archive.expose(replace(spec[SATURATED], faults=("saturated",)))
    # The comb is dark, the header says otherwise.
    planes = archive.bench.record(replace(spec[NO_COMB], dprtype="OBJ_DARK")).planes
    archive.raw(spec[NO_COMB]).unlink()
    archive.bench.write(spec[NO_COMB], planes)
    archive.edit(spec[NO_COMB], OBSERVER="Second")
    archive.expose(replace(spec[LOW], airmass=3.0))
    archive.edit(spec[LOW], AIRMASS=3.0)
    archive.edit(spec[NO_RV], OBJECT=NAME, OBJNAME=NAME, OBJRV=1000.0)
    archive.damage(spec[EMPTY], *order_rows(archive, LOST_ORDER))
    archive.expose(target(FAINT, snr=0.5))
    answer = sequence(
        archive, "limited_seq", "--filename", ",".join((*ODD, SOUND)), SCIENCE_TARGETS=f"Gl699, {NAME}"
    )
    ended = {key: state for state, keys in states(archive).items() for key in keys}
    messages: dict[str, set[str]] = {}
    for (_, stem), event in archive.ended().items():
        messages.setdefault(stem, set()).update(code for code, *_ in event["messages"])  # type: ignore[union-attr]
    return Odd(archive, answer, ended, messages)


def test_what_does_not_fail(odd: Odd) -> None:
    """One frame of eight has no velocity; exit status 1 tells of it."""
    assert odd.answer.status == 1, odd.answer.output
    bad = {key: state for key, state in odd.ended.items() if state != "DONE"}
    assert bad == {
        ("FTELLU1", FAINT): "QC_FAILED",
        ("FTELLU3", FAINT): "QC_FAILED",
        ("CCF", FAINT): "FAILED_INPUT",
    }
    assert "no exponents" in errors(odd.archive)["FTELLU1", FAINT]
    # Nothing of the sound frame is made anew before its template is.
    assert sorted(short for short, stem in odd.ended if stem == SOUND) == ["CCF", "FTELLU3"]
    assert set(odd.messages[SOUND]) == set()


def test_sound_frame_keeps_its_velocity(odd: Odd, reduced: Archive) -> None:
    """Two frames that share nothing but the template, which seven odd ones of twelve have changed."""
    name = f"{SOUND}_pp_e2dsff_tcorr_AB_ccf_apero_dask_mdwarf_AB.fits"
    before = header(reduced, NIGHTS[1], name)["RV_OBJ"]
    after, error = odd.velocity(SOUND)
    assert abs(after - before) < error


def test_frame_of_another_star(odd: Odd) -> None:
    """The telescope stood elsewhere: told, and the lines of an M dwarf are not found."""
    assert odd.messages[OTHER] == {"W-POINTING"}
    head = odd.head(OTHER, "e2dsff_tcorr_AB_ccf_apero_dask_mdwarf_AB")
    assert head["RV_OBJ"] == "NaN" and head["QCC001N"] == "CCF_RV" and head["QCC001P"] == 0


def test_saturated_frame(odd: Odd) -> None:
    assert odd.messages[SATURATED] == {"W-SATURATED"}
    assert float(odd.head(SATURATED, "e2dsff_C")["EXTSMAX"]) > 50_000


def test_comb_that_did_not_shine(odd: Odd) -> None:
    """No drift is known and none is taken off."""
    assert odd.messages[NO_COMB] == {"W-NO-COMB"}
    head = odd.head(NO_COMB, "e2dsff_tcorr_AB_ccf_apero_dask_mdwarf_AB")
    assert head["RVDRIFTK"] is False and head["RV_SIMFP"] == "NaN"
    assert head["RV_CORR"] == head["RV_OBJ"]
    tests = {head[f"QCC{k:03d}N"]: head[f"QCC{k:03d}P"] for k in range(1, 5)}
    assert tests == {"CCF_RV": 1, "CCF_CONT": 1, "CCF_FWHM": 1, "FP_DRIFT": 0}


@pytest.mark.parametrize("identifier", [SATURATED, NO_COMB, LOW, NO_RV, EMPTY])
def test_velocities_of_odd_frames(odd: Odd, identifier: str) -> None:
    """Within four of their errors: a long path through the air or a lost order costs precision, no more."""
    found, error = odd.velocity(identifier)
    assert abs(found - odd.archive.spec(identifier).rv_kms) < 4 * error


def test_star_of_unknown_velocity(odd: Odd) -> None:
    """Place and motion from the header, no velocity: a wide scan finds it."""
    assert odd.messages[NO_RV] == {"W-STAR-HEADER"}
    head = odd.head(NO_RV, "e2dsff_tcorr_AB_ccf_apero_dask_mdwarf_AB")
    assert head["DRSOBJN"] == "GJ_7"
    assert odd.ended["FTELLU2", "GJ_7"] == odd.ended["CCF", NO_RV] == "DONE"


def test_order_without_light(odd: Odd) -> None:
    """Lost in the science fibres, known in all others."""
    share = np.isfinite(
        fits.getdata(odd.archive.path / "reduced" / NIGHTS[1] / f"{EMPTY}_pp_e2dsff_AB.fits")
    ).mean(axis=1)
    assert share[LOST_ORDER] == 0.0
    whole = np.isfinite(
        fits.getdata(odd.archive.path / "reduced" / NIGHTS[1] / f"{SOUND}_pp_e2dsff_AB.fits")
    ).mean(axis=1)
    others = np.arange(share.size) != LOST_ORDER
    assert (share[others] > 0.9 * whole[others]).all()
    assert odd.messages[EMPTY] == set()


def test_summary_tells_what_is_old(odd: Odd) -> None:
    (line,) = [row for row in odd.answer.output.splitlines() if row.startswith(f"  {FAINT} ")]
    assert line.endswith("of an earlier run (FAILED_INPUT now)")


def test_few_hot_stars_and_none(copied: Archive) -> None:
    """One transmission is a model of one; without any the fits are refused, and what is behind them."""
    for identifier in HOT[:4]:
        copied.raw(copied.spec(identifier)).unlink()
    one = sequence(copied, "limited_seq", "--filename", f"{HOT[4]},{STAR}")
    assert one.status == 0, one.output
    assert one.counts("DONE") == {
        "MKTELLU2": 1, "MKTELLU3": 1, "MKTELLU4": 1, "FTELLU1": 1, "FTELLU2": 1, "FTELLU3": 1, "CCF": 1,
    }  # fmt: skip
    assert "W-FEW-TRANS: Only 1 telluric transmissions passed; using 1 component(s)" in one.output
    copied.raw(copied.spec(HOT[4])).unlink()
    none = sequence(copied, "limited_seq", "--filename", STAR)
    assert none.status == 1, none.output
    assert "W-NO-CALIB: FTELLU1: no TELLU_TRANS within reach" in none.output
    ended = states(copied)
    assert ended["FAILED_CALIB"] == [("FTELLU1", STAR), ("FTELLU3", STAR)]
    assert ended["BLOCKED"] == [("CCF", STAR)]
    assert ended["DONE"] == [("FTELLU2", "GL699"), ("GATE", "")]
    assert errors(copied)["PCA2", ""] == "no telluric transmission passed quality control"
