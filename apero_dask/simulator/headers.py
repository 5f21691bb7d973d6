"""Primary header of a raw frame: what the acquisition of the instrument records."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from functools import lru_cache

from apero_dask.simulator.cards import Card
from apero_dask.simulator.ephemeris import (
    Site,
    airmass,
    altitude_azimuth,
    hour_angle_h,
    sidereal_deg,
)
from apero_dask.simulator.frametypes import frame_type
from apero_dask.simulator.spec import FrameSpec, Target

POLAR_RHOMBS = {1: ("P14", "P16"), 2: ("P2", "P16"), 3: ("P2", "P4"), 4: ("P14", "P4")}
"""Rhomb positions of the four exposures of a polarimetric sequence."""
OBSERVATORY = "QSO Team"
CALIBRATION_RUN = "18BQ59"
_DENSITY = {"fp": 1.96, "hc1": 1.20, "flat": 0.50}
"""Density filter in front of the reference fibre, by what the fibre sees; closed otherwise."""


@dataclass(frozen=True, slots=True)
class Camera:
    """Constants that the header of every frame repeats."""

    instrument: str
    """Name in SIMINST."""
    instrume: str
    gain: float
    read_noise_e: float
    saturation_adu: float
    frame_time_s: float
    amplifiers: int
    site: Site
    airmass_max: float


def header_cards(spec: FrameSpec, camera: Camera, extensions: int = 4) -> list[Card]:
    """Return the cards of the primary header, without SIMPLE to EXTEND.

    Parameters
    ----------
    spec : the exposure
    camera : constants of detector and observatory
    extensions : number of image extensions that follow

    Notes
    -----
    Nothing here is read from a clock: DATE, the creation time of the file, is the end of the exposure plus
    the time an acquisition system takes to write it, so that equal exposures give equal bytes.
    """
    kind = frame_type(spec.dprtype)
    number = int(spec.identifier[:7])
    target = spec.target if kind.is_object else None
    start, end = _clock(spec.mjd_start), _clock(spec.mjd_end)
    lst_start = _sexagesimal(sidereal_deg(spec.mjd_start, camera.site) / 15.0, 2)
    written = _MJD0 + datetime.timedelta(days=spec.mjd_end, seconds=3.0)
    requested = spec.exptime_s
    if "short" in spec.faults:
        requested = round((kind.nreads - 1) * camera.frame_time_s, 3)
    cards: list[Card] = [
        ("NEXTEND", extensions, "Number of extensions"),
        ("FILENAME", spec.identifier, "Base filename at acquisition"),
        ("EXPNUM", number, "Odometer number"),
        ("OBSID", number, "Observation ID, same as odometer"),
        ("PATHNAME", start[0], "Acquisition folder"),
        ("INSTRUME", camera.instrume, "Instrument name"),
        ("TELESCOP", "CFHT 3.6m", "Telescope name"),
        ("ORIGIN", "CFHT", "Observatory"),
        ("DETECTOR", "H4RG", "Science detector"),
        ("SIMULATE", True, "Simulated frame"),
        ("SIMINST", camera.instrument, "Instrument geometry of the simulation"),
        ("OBSTYPE", kind.obstype, "Exposure type"),
        ("EXPTYPE", kind.obstype, "Same as OBSTYPE"),
        ("SBCCAS_P", kind.sbccas, "Science fibre selector"),
        ("SBCREF_P", kind.sbcref, "Reference fibre selector"),
        ("SBCALI_P", kind.sbcali if kind.sbcali != "*" else ("P5" if target else "P4"), "Calibration wheel"),
    ]
    cards += _rhombs(spec, kind.drsmode)
    cards += _object_cards(spec, target)
    cards += _sequence_cards(spec, kind.drsmode)
    cards += [
        ("DATE", written.isoformat(timespec="seconds"), "UTC date of file creation"),
        ("DATE-OBS", start[0], "UTC date at start of exposure"),
        ("UTC-OBS", start[1], "UTC time at start of exposure"),
        ("UTIME", start[1], "Same as UTC-OBS"),
        ("MJDATE", spec.mjd_start, "[d] MJD at start of exposure"),
        ("MJD-OBS", spec.mjd_start, "[d] Same as MJDATE"),
        ("MJDEND", spec.mjd_end, "[d] MJD at end of exposure"),
        ("DATEEND", end[0], "UTC date at end of exposure"),
        ("UTCEND", end[1], "UTC time at end of exposure"),
        ("TIMESYS", "UTC", "Time system"),
        ("SIDTIME", lst_start, "Sidereal time at start"),
        ("LST-OBS", lst_start, "Same as SIDTIME"),
        ("EXPTIME", spec.exptime_s, "[s] Integration time"),
        ("EXPREQ", requested, "[s] Requested integration time"),
        ("INTTIME", spec.exptime_s, "[s] Same as EXPTIME"),
        ("DARKTIME", round(spec.nreads * camera.frame_time_s, 3), "[s] Time since reset"),
        ("FRMTIME", camera.frame_time_s, "[s] Time of one read"),
        ("NREADS", spec.nreads, "Reads in the ramp"),
        ("NRESETS", 1, "Resets before integration"),
        ("GAIN", camera.gain, "[e-/ADU] Gain"),
        ("RDNOISE", camera.read_noise_e, "[e-] Read noise"),
        ("SATURATE", camera.saturation_adu, "[ADU] Saturation"),
        ("NOUTPUTS", camera.amplifiers, "Detector amplifiers"),
        ("REFPIXEL", 0, "Interleaved reference pixels"),
        ("EXPMODE", 0, "0 = ramp"),
        ("LATITUDE", camera.site.latitude_deg, "[deg] North"),
        ("LONGITUD", camera.site.longitude_deg, "[deg] East positive"),
    ]
    cards += _pointing_cards(spec, target, camera)
    cards += [
        ("TEMPERAT", spec.outside_c, "[deg C] Outside air temperature"),
        ("RELHUMID", spec.humidity_pct, "[%] Outside humidity"),
        ("PRESSURE", spec.pressure_mbar, "[mbar] Air pressure"),
        # The polarimeter sits at the telescope, a few degrees colder than the fibre train.
        ("SB_POL_T", round(spec.thermal_k - 277.15, 3), "[deg C] Polarimeter temperature at start"),
        ("SBCDEN_P", _DENSITY.get(kind.reference, 3.30), "Density in front of the reference fibre"),
        ("SBCLHC1S", "ON" if "hc1" in (kind.science, kind.reference) else "OFF", "Uranium lamp"),
        ("SBCLHC2S", "ON" if "hc2" in (kind.science, kind.reference) else "OFF", "Thorium lamp"),
        ("SBCLWL_S", "ON" if "flat" in (kind.science, kind.reference) else "OFF", "White lamp"),
        ("SBCFPI_T", 23.994, "[deg C] Fabry-Perot body temperature"),
        ("SBCFPB_P", 0.196, "[mbar] Fabry-Perot pressure"),
        ("SB_ADC_S", "ON" if target else "OFF", "Dispersion corrector tracking"),
        ("DOMESHUT", "OPEN" if target else "CLOSED", "Dome shutter"),
        ("MIRRCOV", "OPEN" if target else "CLOSED", "Mirror cover"),
    ]
    return cards


_MJD0 = datetime.datetime(1858, 11, 17)


def _clock(mjd: float) -> tuple[str, str]:
    """UTC date and time ``h:mm:ss.ss`` of an MJD."""
    day = math.floor(mjd)
    hundredths = round((mjd - day) * 8_640_000)
    if hundredths == 8_640_000:
        day, hundredths = day + 1, 0
    seconds, hundredths = divmod(hundredths, 100)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return _date(day), f"{hours}:{minutes:02d}:{seconds:02d}.{hundredths:02d}"


@lru_cache(maxsize=4096)
def _date(day: int) -> str:
    return (_MJD0 + datetime.timedelta(days=day)).date().isoformat()


def _sexagesimal(value: float, digits: int) -> str:
    """``h:mm:ss.s`` of hours or degrees, with sign where negative."""
    scale = 10**digits
    total = round(abs(value) * 3600 * scale)
    seconds, fraction = divmod(total, scale)
    minutes, seconds = divmod(seconds, 60)
    whole, minutes = divmod(minutes, 60)
    return f"{'-' if value < 0 and total else ''}{whole}:{minutes:02d}:{seconds:02d}.{fraction:0{digits}d}"


def _rhombs(spec: FrameSpec, drsmode: str) -> list[Card]:
    if drsmode == "POLAR":
        first, second = POLAR_RHOMBS[spec.polar_position]
    elif spec.target is not None:
        first, second = "P16", "P16"
    else:
        # Calibrations keep whatever position the rhombs were left in.
        first, second = "P16", "P2"
    return [
        ("SBRHB1_P", first, "First rhomb position"),
        ("SBRHB2_P", second, "Second rhomb position"),
    ]


def _object_cards(spec: FrameSpec, target: Target | None) -> list[Card]:
    if target is None:
        return [
            ("TRG_TYPE", "", "Target type"),
            ("OBJECT", "Calibration", "Target name"),
            ("OBJNAME", spec.last_object, "Target name, not updated for calibrations"),
            ("PI_NAME", OBSERVATORY, "Programme PI"),
            ("RUNID", CALIBRATION_RUN, "Queue run identifier"),
            ("OBSERVER", OBSERVATORY, "Observer"),
        ]
    return [
        ("TRG_TYPE", "SKY" if target.kind == "sky" else "TARGET", "Target type"),
        ("OBJECT", target.name, "Target name"),
        ("OBJNAME", target.name, "Target name"),
        ("PI_NAME", target.pi_name, "Programme PI"),
        ("RUNID", target.run_id, "Queue run identifier"),
        ("OBSERVER", OBSERVATORY, "Observer"),
    ]


def _sequence_cards(spec: FrameSpec, drsmode: str) -> list[Card]:
    number, length = spec.sequence_number, spec.sequence_length
    if drsmode == "POLAR":
        text = f"V exposure {number}, sequence 1 of 1"
    else:
        text = f"I exposure {number} of {length}"
    return [
        ("CMPLTEXP", number, "Number of this exposure in its sequence"),
        ("NEXP", length, "Exposures in the sequence"),
        ("CMMTSEQ", text, "Sequence"),
    ]


def _pointing_cards(spec: FrameSpec, target: Target | None, camera: Camera) -> list[Card]:
    site = camera.site
    if target is None:
        # The telescope points at the zenith; what the object keywords hold is of no meaning.
        ra, dec = sidereal_deg(spec.mjd_start, site), site.latitude_deg
        target = Target(name="", kind="sky", ra_deg=ra, dec_deg=dec)
        mass = 1.0
        temperature, velocity = 0.0, 1000.0
    else:
        mass = airmass(target, spec.mjd_start, site, camera.airmass_max)
        temperature, velocity = target.teff_k, target.catalogue_rv_kms
        if target.kind == "sky":
            temperature, velocity = 0.0, 1000.0
    altitude, azimuth = altitude_azimuth(target, spec.mjd_start, site)
    ra, dec = _sexagesimal(target.ra_deg / 15.0, 2), _sexagesimal(target.dec_deg, 1)
    cards: list[Card] = [
        ("RA_DEG", round(target.ra_deg, 6), "[deg] Telescope right ascension"),
        ("DEC_DEG", round(target.dec_deg, 6), "[deg] Telescope declination"),
        ("RA", ra, "Telescope right ascension"),
        ("DEC", dec, "Telescope declination"),
        ("EQUINOX", 2000.0, "[yr] Equinox of coordinates"),
        ("RADECSYS", "FK5", "Coordinate system"),
        ("OBJRA", ra, "Target right ascension"),
        ("OBJDEC", dec, "Target declination"),
        ("OBJEQUIN", 2000.0, "[yr] Equinox of target coordinates"),
        ("OBJRADEC", "FK5", "Coordinate system of the target"),
        ("OBJRAPM", target.pm_ra_arcsec_yr, "[arcsec/yr] Proper motion in right ascension"),
        ("OBJDECPM", target.pm_dec_arcsec_yr, "[arcsec/yr] Proper motion in declination"),
        ("OBJTEMP", temperature, "[K] Effective temperature of the target"),
        ("OBJRV", velocity, "[km/s] Radial velocity, 1000 = unknown"),
        ("OBJPLX", target.parallax_mas, "[mas] Parallax"),
        ("AIRMASS", round(mass, 3), "Airmass at start"),
        ("HA", _sexagesimal(hour_angle_h(target, spec.mjd_start, site), 2), "Hour angle at start"),
        ("TELALT", round(altitude, 4), "[deg] Altitude at start"),
        ("TELAZ", round(azimuth, 4), "[deg] Azimuth at start"),
    ]
    return cards
