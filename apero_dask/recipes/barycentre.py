"""Barycentric velocity and date of an exposure: vectors of the observer, direction of the star.

Positions and velocities of Earth and site come from astropy with its built-in ephemeris (ERFA's ``epv00``,
Earth to 5 mm/s in the barycentre of the solar system) and the Earth orientation that is installed with it:
nothing is fetched from a network.  Heavy imports happen inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.instruments import Instrument

C_KMS = 299_792.458
C_AU_PER_DAY = 173.144_632_674
KMS_PER_ARCSEC = 4.740_470_464  # km/s that move a star at 1 pc by 1 arcsec in a Julian year
JULIAN_YEAR = 365.25
YEAR_STEP_D = 5.0 / 3.0  # days between the dates among which the largest BERV is sought (reference)
YEAR_D = 365.0
_MAS = 1e-3 / 3600.0  # degrees


@dataclass(frozen=True, slots=True)
class Star:
    """Catalogue astrometry of a star, ICRS."""

    ra_deg: float
    dec_deg: float
    epoch_jd: float
    """Julian date at which the star is at this place."""
    pm_ra_mas: float = 0.0
    """mas/yr, cos(dec) included."""
    pm_dec_mas: float = 0.0
    parallax_mas: float = 0.0
    rv_kms: float = 0.0


@dataclass(frozen=True, slots=True)
class Barycentric:
    """Of one exposure or several; floats or float64[time]."""

    berv: np.ndarray
    """km/s, positive when the observer approaches: lam_bary = lam_observed * doppler(berv)."""
    bjd: np.ndarray
    """Barycentric Julian date, TDB."""
    secular: np.ndarray
    """m/s: velocity gained since the epoch of the catalogue as the line of sight turns; not in `berv`."""


def barycentric(star: Star, mjd: np.ndarray, instrument: Instrument) -> Barycentric:
    """Velocity and date at times `mjd` (UTC), float64[time].

    Notes
    -----
    1 + z_B = gamma (1 + beta . rho) / (1 + z_grav) * (1 + beta_s . r) / (1 + beta_s . rho), Wright & Eastman
    (2014), PASP 126, 838, eq. 28 without the Shapiro delay (below 1 mm/s).  beta and beta_s are the
    velocities of site and star over c, r the direction from the barycentre to the star, moved to the date on
    a straight line in space, rho the same from the site (parallax).  BERV is the velocity v with
    sqrt((1 + v/c) / (1 - v/c)) = 1 + z_B, so that Doppler factors multiply exactly.

    Where eq. 28 has the direction at the epoch of the catalogue stands that of the date: the difference is
    the secular acceleration (4.5 m/s a year for Barnard's star), which belongs to the velocity of the star.
    It is given apart: the factor of eq. 28 is that of `berv` divided by 1 + secular / c.
    """
    import numpy as np

    mjd = np.atleast_1d(np.asarray(mjd, dtype=np.float64))
    position, velocity, tdb, redshift = _observer(tuple(mjd.tolist()), instrument)
    years = (mjd + 2_400_000.5 - star.epoch_jd) / JULIAN_YEAR
    start, motion = _space_motion(star)
    here = start + years[:, None] * motion
    seen = here - np.radians(star.parallax_mas * _MAS) * position
    rho = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    beta = velocity / C_KMS
    gamma = 1.0 / np.sqrt(1.0 - np.sum(beta * beta, axis=1))
    towards = here / np.linalg.norm(here, axis=1, keepdims=True)
    scale = _kms_per_radian_year(star.parallax_mas)
    own = motion * scale / C_KMS
    factor = gamma * (1.0 + np.sum(beta * rho, axis=1)) / (1.0 + redshift)
    factor *= (1.0 + towards @ own) / (1.0 + rho @ own)
    berv = C_KMS * (factor**2 - 1.0) / (factor**2 + 1.0)
    bjd = tdb + np.sum(position * towards, axis=1) / C_AU_PER_DAY
    # Radial part of the straight motion at the date minus that at the epoch.
    secular = 1e3 * scale * (towards @ motion - start @ motion)
    return Barycentric(berv, bjd, secular)


def largest(star: Star, mjd: float, instrument: Instrument) -> float:
    """Largest \\|BERV\\| in the year that begins at `mjd`, km/s, among dates 5/3 d apart."""
    import numpy as np

    dates = mjd + np.arange(0.0, YEAR_D, YEAR_STEP_D)
    return float(np.max(np.abs(barycentric(star, dates, instrument).berv)))


def separation_arcsec(star: Star, mjd: float, ra_deg: float, dec_deg: float) -> float:
    """Angle between a direction (ICRS degrees) and the star at a date."""
    import numpy as np

    start, motion = _space_motion(star)
    here = start + (mjd + 2_400_000.5 - star.epoch_jd) / JULIAN_YEAR * motion
    here /= np.linalg.norm(here)
    other = _space_motion(Star(ra_deg, dec_deg, star.epoch_jd))[0]
    # Of small angles the cosine knows half the digits.
    return float(3600.0 * np.degrees(2.0 * np.arcsin(min(0.5 * float(np.linalg.norm(here - other)), 1.0))))


def _space_motion(star: Star) -> tuple[np.ndarray, np.ndarray]:
    """Direction at the epoch and its change per Julian year in units of the distance, float64[3] each."""
    import numpy as np

    ra, dec = np.radians(star.ra_deg), np.radians(star.dec_deg)
    start = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    across = np.radians(star.pm_ra_mas * _MAS) * east + np.radians(star.pm_dec_mas * _MAS) * north
    scale = _kms_per_radian_year(star.parallax_mas)
    away = star.rv_kms / scale if scale > 0.0 else 0.0
    return start, across + away * start


def _kms_per_radian_year(parallax_mas: float) -> float:
    """km/s of a motion of one distance per year; 0 for a star without parallax."""
    import math

    if not parallax_mas > 0.0:
        return 0.0
    return KMS_PER_ARCSEC * math.degrees(1.0) * 3600.0 / (1e-3 * parallax_mas)


@lru_cache(maxsize=8)
def _observer(
    mjd: tuple[float, ...], instrument: Instrument
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Site in the barycentric frame: au [time, 3], km/s [time, 3], TDB as JD, gravitational redshift."""
    import warnings

    import numpy as np
    from astropy import units as u
    from astropy.coordinates import EarthLocation, get_body_barycentric_posvel, solar_system_ephemeris
    from astropy.time import Time
    from astropy.utils import iers
    from astropy.utils.exceptions import AstropyWarning
    from erfa import ErfaWarning

    site = EarthLocation.from_geodetic(
        lon=instrument.longitude * u.deg, lat=instrument.latitude * u.deg, height=instrument.height_m * u.m
    )
    # No network, and no complaint about dates beyond the table: UT1 = UTC there, at most 7 mm/s per 0.2 s.
    quiet = (
        iers.conf.set_temp("auto_download", False),
        iers.conf.set_temp("auto_max_age", None),
        iers.conf.set_temp("iers_degraded_accuracy", "ignore"),
        solar_system_ephemeris.set("builtin"),
    )
    with quiet[0], quiet[1], quiet[2], quiet[3], warnings.catch_warnings():
        # Years after the release of erfa a leap second may be unknown, at most 3 cm/s; polar motion beyond
        # the table is worth 0.1 cm/s.
        warnings.filterwarnings("ignore", "ERFA function .*dubious year", ErfaWarning)
        warnings.filterwarnings("ignore", "Tried to get polar motions", AstropyWarning)
        time = Time(np.array(mjd), format="mjd", scale="utc")
        earth, earth_velocity = get_body_barycentric_posvel("earth", time)
        place, place_velocity = site.get_gcrs_posvel(time)
        redshift = site.gravitational_redshift(time).to_value(u.km / u.s) / C_KMS
        tdb = time.tdb.jd
    position = (earth + place).xyz.to_value(u.au).T
    velocity = (earth_velocity + place_velocity).xyz.to_value(u.km / u.s).T
    return position, velocity, np.asarray(tdb), np.asarray(redshift)
