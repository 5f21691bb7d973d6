"""Lists of exposures: the worked archive to the letter, times, drifts, velocities, faults."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import fields, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest

from apero_dask.simulator import runner
from apero_dask.simulator.campaign import CampaignConfig, date_of, mjd_of
from apero_dask.simulator.config import SimulatorConfig, make_config
from apero_dask.simulator.ephemeris import Site, airmass, altitude_azimuth, barycentric, keplerian
from apero_dask.simulator.epochs import EpochConfig, night_states
from apero_dask.simulator.faults import FILE_FAULTS, PIXEL_FAULTS
from apero_dask.simulator.programmes import PROGRAMMES
from apero_dask.simulator.runner import campaign_of
from apero_dask.simulator.settings import ConfigError
from apero_dask.simulator.spec import FrameSpec, Target
from apero_dask.simulator.targets import GL699

worked_campaign = lru_cache(runner.worked_campaign)
SITE = Site(19.825252, -155.468876, 4204.0)


@lru_cache
def campaign(name: str, **changes) -> list[FrameSpec]:
    return list(campaign_of(SimulatorConfig(campaign=CampaignConfig(name=name, **changes))).frames)


def block(first: int, last: int, letter: str, kind: str, target: str = "") -> list[tuple[str, str, str]]:
    return [(f"{number:07d}{letter}", kind, target) for number in range(first, last + 1)]


# The three nights as tabulated for the worked example of a reduction plan.
WORKED = {
    "2018-09-25": [
        *block(2320001, 2320002, "d", "DARK_DARK_INT"),
        *block(2320003, 2320004, "d", "DARK_DARK_TEL"),
        *block(2320005, 2320009, "f", "DARK_FLAT"),
        *block(2320010, 2320014, "f", "FLAT_DARK"),
        *block(2320015, 2320019, "f", "FLAT_FLAT"),
        *block(2320020, 2320024, "a", "FP_FP"),
        *block(2320025, 2320026, "a", "DARK_FP"),
        *block(2320027, 2320028, "c", "HCONE_HCONE"),
        ("2320029o", "OBJ_DARK", "59Peg"),
        ("2320030o", "OBJ_FP", "gamSct"),
        *block(2320031, 2320034, "o", "OBJ_FP", "Gl699"),
        ("2320035o", "DARK_FP_SKY", "Sky"),
        *block(2320036, 2320040, "f", "DARK_FLAT"),
        *block(2320041, 2320045, "f", "FLAT_DARK"),
        *block(2320046, 2320050, "f", "FLAT_FLAT"),
        *block(2320051, 2320055, "a", "FP_FP"),
        *block(2320056, 2320057, "c", "HCONE_HCONE"),
    ],
    "2018-09-26": [
        *block(2320101, 2320102, "d", "DARK_DARK_INT"),
        *block(2320103, 2320104, "d", "DARK_DARK_TEL"),
        *block(2320105, 2320109, "f", "DARK_FLAT"),
        *block(2320110, 2320114, "f", "FLAT_DARK"),
        *block(2320115, 2320119, "f", "FLAT_FLAT"),
        *block(2320120, 2320124, "a", "FP_FP"),
        *block(2320125, 2320126, "a", "DARK_FP"),
        *block(2320127, 2320128, "c", "HCONE_HCONE"),
        ("2320129o", "OBJ_DARK", "59Peg"),
        *block(2320130, 2320133, "o", "POLAR_FP", "Gl699"),
        *block(2320134, 2320135, "o", "OBJ_DARK", "TOI-442"),
    ],
    "2018-09-27": [
        *block(2320201, 2320202, "d", "DARK_DARK_INT"),
        *block(2320203, 2320207, "f", "DARK_FLAT"),
        *block(2320208, 2320212, "f", "FLAT_DARK"),
        *block(2320213, 2320217, "f", "FLAT_FLAT"),
        *block(2320218, 2320222, "a", "FP_FP"),
        *block(2320223, 2320224, "a", "DARK_FP"),
        *block(2320225, 2320226, "c", "HCONE_HCONE"),
        ("2320227o", "OBJ_FP", "gamSct"),
        ("2320228o", "OBJ_FP", "zetVir"),
        *block(2320229, 2320232, "o", "OBJ_FP", "Gl699"),
        *block(2320233, 2320237, "f", "DARK_FLAT"),
        *block(2320238, 2320242, "f", "FLAT_DARK"),
        *block(2320243, 2320247, "f", "FLAT_FLAT"),
        *block(2320248, 2320252, "a", "FP_FP"),
        *block(2320253, 2320254, "c", "HCONE_HCONE"),
    ],
}


def test_worked_campaign_is_the_tabulated_archive():
    found: dict[str, list[tuple[str, str, str]]] = {}
    for spec in worked_campaign():
        row = (spec.identifier, spec.dprtype, spec.target.name if spec.target else "")
        found.setdefault(spec.obs_dir, []).append(row)
    assert found == WORKED
    assert sum(map(len, WORKED.values())) == 146


def test_extra_night_appends_28_calibrations_and_4_exposures_and_changes_nothing_else():
    plain, grown = worked_campaign(), worked_campaign(extra_night=True)
    assert grown[:146] == plain
    assert {spec.obs_dir for spec in grown[146:]} == {"2018-10-08"}
    assert Counter(spec.dprtype for spec in grown[146:]) == {
        "DARK_DARK_INT": 2,
        "DARK_DARK_TEL": 2,
        "DARK_FLAT": 5,
        "FLAT_DARK": 5,
        "FLAT_FLAT": 5,
        "FP_FP": 5,
        "DARK_FP": 2,
        "HCONE_HCONE": 2,
        "OBJ_FP": 4,
    }
    assert {spec.target.name for spec in grown[146:] if spec.target} == {"Gl699"}
    assert len({spec.identifier for spec in grown}) == 178


@pytest.mark.parametrize(
    ("night", "types", "mean", "tolerance"),
    [
        ("2018-09-25", ("DARK_FLAT", "FLAT_DARK", "FLAT_FLAT"), 58386.41, 0.005),
        ("2018-09-26", ("DARK_FLAT", "FLAT_DARK", "FLAT_FLAT"), 58387.14, 0.005),
        ("2018-09-27", ("DARK_FLAT", "FLAT_DARK", "FLAT_FLAT"), 58388.41, 0.005),
        ("2018-09-25", ("FLAT_FLAT",), 58386.41, 0.005),
        ("2018-09-26", ("DARK_DARK_TEL",), 58387.13, 0.005),
        # Lamps follow the flats by 20 to 30 minutes.
        ("2018-09-25", ("HCONE_HCONE",), 58386.41, 0.025),
        ("2018-09-27", ("HCONE_HCONE",), 58388.41, 0.025),
    ],
)
def test_mean_times_of_the_worked_calibrations(night, types, mean, tolerance):
    times = [s.mjd_mid for s in worked_campaign() if s.obs_dir == night and s.dprtype in types]
    assert np.mean(times) == pytest.approx(mean, abs=tolerance)


def test_neighbouring_nights_rank_as_in_the_worked_example():
    """From the local midnight of night 2, night 3 is nearer than night 1, for flats and for lamps."""
    midnight = 58387.431858
    for kind in ("DARK_FLAT", "FLAT_DARK", "FLAT_FLAT", "HCONE_HCONE"):
        mean = {
            night: np.mean([s.mjd_mid for s in worked_campaign() if s.obs_dir == night and s.dprtype == kind])
            for night in WORKED
        }
        assert mean["2018-09-27"] - midnight < midnight - mean["2018-09-25"]
        assert abs(mean["2018-09-26"] - midnight) < 0.35


@pytest.mark.parametrize("name", sorted(PROGRAMMES))
def test_exposures_follow_one_another_without_overlap(name):
    specs = campaign(name, nights=4)
    if name == "faults":
        specs = [s for s in specs if not {"future", "duplicate"} & set(s.faults)]
    for a, b in pairwise(specs):
        assert b.mjd_start > a.mjd_end
        assert b.identifier[:7] > a.identifier[:7]
    for spec in specs:
        assert date_of(math.floor(spec.mjd_start)) == spec.obs_dir
        assert date_of(math.floor(spec.mjd_end)) == spec.obs_dir
        overhead = (spec.mjd_end - spec.mjd_start) * 86400.0 - spec.exptime_s
        # Times are rounded to 1e-7 d, 9 ms.
        assert 29.0 - 0.02 <= overhead <= 37.0 + 0.02
        assert spec.exptime_s == pytest.approx((spec.nreads - 1) * 5.57192, abs=6e-4)
        assert spec.mjd_mid == pytest.approx(spec.mjd_end - spec.exptime_s / 172800.0, abs=1e-10)


@pytest.mark.parametrize("name", sorted(PROGRAMMES))
def test_exposure_sequences_count_up(name):
    run = 0
    for spec in campaign(name, nights=2):
        if {"duplicate"} & set(spec.faults):
            continue
        if spec.sequence_number == 1:
            run = 0
        run += 1
        if name != "faults":
            assert spec.sequence_number == run
        assert 1 <= spec.sequence_number <= spec.sequence_length
        assert (spec.polar_position > 0) == spec.dprtype.startswith("POLAR")


def test_polarimetric_exposures_come_in_sets_of_four():
    specs = [s for s in campaign("demo", frames=8) if s.dprtype == "POLAR_FP"]
    assert [s.polar_position for s in specs] == [1, 2, 3, 4, 1, 2, 3, 4]


def test_demo_holds_every_type_of_the_sequences_and_stays_small():
    specs = campaign("demo")
    kinds = {s.dprtype for s in specs}
    assert kinds >= {
        "DARK_DARK_INT",
        "DARK_DARK_TEL",
        "DARK_FLAT",
        "FLAT_DARK",
        "FLAT_FLAT",
        "FP_FP",
        "DARK_FP",
        "HCONE_HCONE",
        "OBJ_DARK",
        "OBJ_FP",
        "POLAR_FP",
    }
    assert len(specs) <= 90
    assert len({s.obs_dir for s in specs}) == 3
    hot = {s.target.name for s in specs if s.target and s.target.kind == "hot"}
    science = {s.target.name for s in specs if s.target and s.target.kind == "mdwarf"}
    assert (len(hot), len(science)) == (2, 1)
    velocities = [s.rv_kms for s in specs if s.target and s.target.kind == "mdwarf"]
    assert np.ptp(velocities) > 0.1


def test_campaigns_scale():
    assert len({s.obs_dir for s in campaign("demo", nights=5)}) == 5
    assert sum(s.dprtype == "OBJ_FP" for s in campaign("worked", nights=1, frames=10)) == 11
    survey = campaign("survey", nights=6, frames=20)
    assert sum(1 for s in survey if s.target and s.target.kind == "mdwarf") == 120
    spaced = campaign("rv", nights=3, spacing_d=5)
    assert sorted({s.obs_dir for s in spaced}) == ["2019-01-25", "2019-01-30", "2019-02-04"]


def test_a_longer_campaign_begins_like_the_shorter_one():
    assert campaign("demo", nights=4)[:86] == campaign("demo", nights=3)


def test_rv_campaign_spans_the_year_of_the_earth():
    specs = [s for s in campaign("rv") if s.target and s.target.name == "Gl699"]
    berv = [s.berv_kms for s in specs]
    assert min(berv) < -20.0
    assert max(berv) > 20.0
    assert len({s.obs_dir for s in specs}) == 40
    assert max(s.mjd_mid for s in specs) - min(s.mjd_mid for s in specs) == pytest.approx(300.0, abs=1.0)
    pwv = [s.pwv_mm for s in specs]
    assert min(pwv) >= 0.4
    assert max(pwv) > 2 * min(pwv)
    # The thermal cycle: six pixels between night 20 and night 21.
    dx = {s.obs_dir: s.affine.dx for s in specs}
    steps = np.diff([dx[night] for night in sorted(dx)])
    assert np.argmax(np.abs(steps)) == 19
    assert steps[19] == pytest.approx(6.1, abs=0.15)


def test_radial_velocity_follows_the_orbit():
    specs = [s for s in campaign("rv", k_ms=30.0, eccentricity=0.3) if s.target and s.target.name == "Gl699"]
    for spec in specs:
        # Kepler's equation by bisection, an independent way.
        mean = 2 * math.pi * (((spec.bjd - GL699.orbit.t0_bjd) / 11.3) % 1.0)
        low, high = 0.0, 2 * math.pi
        for _ in range(80):
            mid = (low + high) / 2
            low, high = (mid, high) if mid - 0.3 * math.sin(mid) < mean else (low, mid)
        nu = 2 * math.atan(math.sqrt(1.3 / 0.7) * math.tan(mid / 2))
        omega = math.radians(60.0)
        expected = -110.1 + 0.030 * (math.cos(nu + omega) + 0.3 * math.cos(omega))
        assert spec.rv_kms == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("eccentricity", [0.0, 0.2, 0.9])
def test_keplerian_velocity_has_amplitude_and_period(eccentricity):
    t = np.linspace(0.0, 11.3, 20_001)
    v = np.array([keplerian(x, -10.0, 12.0, 11.3, eccentricity, 40.0, 3.0) for x in t])
    assert np.ptp(v) == pytest.approx(0.024, rel=1e-5)
    assert v[0] == pytest.approx(v[-1], abs=1e-12)
    # Mean over time is the systemic velocity.
    assert np.trapezoid(v, t) / 11.3 == pytest.approx(-10.0, abs=1e-6)


def test_berv_agrees_with_the_motion_of_the_light_travel_time():
    """BERV is minus c times the rate at which light reaches the barycentre later than the observer."""
    mjd = np.array([58386.3, 58500.1, 58620.5, 58700.4])
    step = 0.002
    target = GL699.target
    berv, _ = barycentric(target, mjd, SITE)
    later, earlier = barycentric(target, mjd + step, SITE)[1], barycentric(target, mjd - step, SITE)[1]
    # BJD(TDB) minus UTC, so the derivative holds 1 from the clock; two-part dates keep 40 us.
    rate = ((later - earlier) - 2 * step) / (2 * step)
    # 5e-10 d of rounding in 4e-3 d is 0.04 km/s.
    assert np.abs(berv - 299792.458 * rate).max() < 0.15


def test_berv_is_the_velocity_whose_doppler_factor_is_the_correction():
    from astropy import units as u
    from astropy.coordinates import EarthLocation, SkyCoord
    from astropy.time import Time

    target = replace(GL699.target, pm_ra_arcsec_yr=0.0, pm_dec_arcsec_yr=0.0)
    mjd = 58650.4
    place = EarthLocation.from_geodetic(SITE.longitude_deg * u.deg, SITE.latitude_deg * u.deg, 4204.0 * u.m)
    star = SkyCoord(target.ra_deg * u.deg, target.dec_deg * u.deg)
    z = star.radial_velocity_correction("barycentric", obstime=Time(mjd, format="mjd"), location=place)
    factor = 1 + z.to_value(u.km / u.s) / 299792.458
    berv = barycentric(target, np.array([mjd]), SITE)[0][0]
    beta = berv / 299792.458
    assert math.sqrt((1 + beta) / (1 - beta)) == pytest.approx(factor, abs=1e-14)


def test_proper_motion_moves_the_star_before_the_correction():
    moving = GL699.target
    fixed = replace(moving, pm_ra_arcsec_yr=0.0, pm_dec_arcsec_yr=0.0)
    mjd = np.array([58500.4, 58600.4])
    years = (mjd - 51544.5) / 365.25
    shifted = [
        replace(
            fixed, dec_deg=moving.dec_deg + 10.36 * y / 3600, ra_deg=moving.ra_deg - 0.80 * y / 3600 / 0.99665
        )
        for y in years
    ]
    expected = [barycentric(t, mjd[i : i + 1], SITE)[0][0] for i, t in enumerate(shifted)]
    found = barycentric(moving, mjd, SITE)[0]
    assert np.abs(found - expected).max() < 1e-6
    assert np.abs(found - barycentric(fixed, mjd, SITE)[0]).max() > 0.005


def test_airmass_and_altitude():
    from astropy import units as u
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time

    place = EarthLocation.from_geodetic(SITE.longitude_deg * u.deg, SITE.latitude_deg * u.deg, 4204.0 * u.m)
    target = GL699.target
    for mjd in (58386.25, 58386.30, 58386.35):
        star = SkyCoord(target.ra_deg * u.deg, target.dec_deg * u.deg)
        there = star.transform_to(AltAz(obstime=Time(mjd, format="mjd"), location=place))
        altitude, azimuth = altitude_azimuth(target, mjd, SITE)
        # Precession from J2000 is left out: 19 years of 50 arcsec.
        assert altitude == pytest.approx(there.alt.deg, abs=0.3)
        assert azimuth == pytest.approx(there.az.deg, abs=0.6)
        assert airmass(target, mjd, SITE, 9.0) == pytest.approx(float(there.secz), rel=0.02)
    below = Target(name="x", kind="hot", ra_deg=0.0, dec_deg=-80.0)
    assert airmass(below, 58386.25, SITE, 2.5) == 2.5


def test_drifts_have_the_configured_size():
    config = EpochConfig()
    states = night_states(config, 1, list(range(400)), 0)
    assert states[0].affine.dx == 0.0
    dx = np.diff([s.affine.dx for s in states])
    a = np.diff([s.affine.a for s in states])
    cavity = np.diff([s.cavity_ms for s in states])
    # 399 steps: 5 / sqrt(2 N).
    assert dx.std() == pytest.approx(0.02, rel=0.18)
    assert a.std() == pytest.approx(2e-6, rel=0.18)
    assert cavity.std() == pytest.approx(0.5, rel=0.18)
    assert cavity.mean() == pytest.approx(2.0 / 365.25, abs=5 * 0.5 / np.sqrt(399))
    thermal = np.array([s.thermal_k for s in states])
    assert thermal.min() >= 278.0
    assert thermal.max() <= 286.0
    assert np.ptp(thermal) > 7.0
    assert np.std([s.wind_ms for s in states]) == pytest.approx(30.0, rel=0.18)
    assert [s.lamp_factor for s in states[:3]] == pytest.approx([1.0, 0.999, 0.998])
    night = states[5]
    moved = night.at(0.9)["affine"].dx - night.at(0.9 - 10 / 24)["affine"].dx
    assert abs(moved) == pytest.approx(0.005, abs=1e-9)


def test_drifts_can_be_switched_off():
    config = make_config(
        {"campaign": {"name": "demo"}, "epochs": {"geometry_drift": False, "cavity_drift": False}}
    )
    for spec in campaign_of(config).frames:
        assert (spec.affine.dx, spec.affine.b, spec.affine.a, spec.cavity_ms) == (0.0, 0.0, 1.0, 0.0)


def test_thermal_cycle_can_be_placed():
    config = make_config({"campaign": {"name": "demo"}, "epochs": {"thermal_cycle_night": 2}})
    nights = {s.obs_dir: s.affine for s in campaign_of(config).frames}
    jump = nights["2018-09-26"].dx - nights["2018-09-25"].dx
    assert jump == pytest.approx(6.1, abs=0.15)
    assert nights["2018-09-26"].c == pytest.approx(-5.7e-4, abs=2e-5)


def test_faults_campaign_has_every_fault_once_and_enough_sound_frames():
    specs = campaign("faults")
    faults = Counter(name for s in specs for name in s.faults)
    assert faults == dict.fromkeys([*PIXEL_FAULTS, *FILE_FAULTS], 1)
    by_night = Counter((s.obs_dir, s.dprtype) for s in specs if not s.faults)
    assert by_night["2018-09-26", "DARK_DARK_TEL"] == 0
    assert by_night["2018-09-25", "DARK_DARK_TEL"] == 2
    for night in ("2018-09-25", "2018-09-26", "2018-09-27"):
        for kind in ("DARK_DARK_INT", "DARK_FLAT", "FLAT_DARK", "FLAT_FLAT", "FP_FP", "HCONE_HCONE"):
            assert by_night[night, kind] >= 2
    copy = next(s for s in specs if "duplicate" in s.faults)
    original = next(s for s in specs if s.identifier == copy.identifier and not s.faults)
    assert copy.obs_dir != original.obs_dir
    assert copy.index == original.index
    assert next(s for s in specs if "short" in s.faults).nreads == 2


def test_values_of_exposures_are_plain_python_numbers():
    """Numbers of other libraries print differently, and the digest of a frame is made of what is printed."""
    for spec in worked_campaign(extra_night=True):
        for owner in (spec, spec.affine):
            for f in fields(owner):
                assert type(getattr(owner, f.name)).__module__ in ("builtins", "apero_dask.simulator.spec"), (
                    f.name
                )


def test_calibrations_carry_the_object_before_them():
    specs = worked_campaign()
    assert specs[0].last_object == "zenith"
    assert next(s for s in specs if s.identifier == "2320036f").last_object == "Sky"
    assert next(s for s in specs if s.identifier == "2320101d").last_object == "Sky"
    assert next(s for s in specs if s.identifier == "2320201d").last_object == "TOI-442"


def test_more_exposures_than_the_night_is_long_are_refused():
    with pytest.raises(ConfigError, match=r"night 2018-09-25: .* ask for fewer frames per night"):
        campaign("worked", frames=150)


def test_identifiers_have_seven_digits_or_the_campaign_is_refused(monkeypatch):
    monkeypatch.setattr("apero_dask.simulator.campaign.FIRST_ODOMETER", 9_999_000)
    with pytest.raises(ConfigError, match="seven digits of an identifier; ask for at most 9 nights"):
        campaign("demo", nights=12)


def test_dates_and_mjd():
    assert mjd_of("2018-09-25") == 58386
    assert date_of(58399) == "2018-10-08"
