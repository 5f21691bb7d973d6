"""Times and velocities of an exposure: barycentric correction, barycentric date, airmass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apero_dask.simulator.spec import Target

if TYPE_CHECKING:
    import numpy as np

SPEED_OF_LIGHT_KMS = 299792.458


@dataclass(frozen=True, slots=True)
class Site:
    """Where the telescope stands."""

    latitude_deg: float
    longitude_deg: float
    """East positive."""
    height_m: float


def barycentric(target: Target, mjd: np.ndarray, site: Site) -> tuple[np.ndarray, np.ndarray]:
    """Return BERV (km/s) and BJD (TDB) of one target at times `mjd` (UTC), both ``float64[frame]``.

    Notes
    -----
    The barycentric correction factor 1 + z_B (Wright & Eastman 2014, PASP 126, 838, eq. 10) comes from
    astropy with the built-in ephemeris; the star is moved to the date by its proper motion first.  BERV is
    the velocity whose relativistic Doppler factor sqrt((1+v/c)/(1-v/c)) equals 1 + z_B.  It differs from
    c z_B by -v^2/2c, up to 1.5 m/s, and is the quantity for which
    ``observed = rest * doppler(RV) / doppler(BERV)`` is exact.
    No file is fetched from a network: Earth orientation is what astropy brings along, and outside its
    range UT1 = UTC, which is worth less than 1e-6 km/s per 10 ms.
    """
    import numpy as np
    from astropy import units as u
    from astropy.coordinates import EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    mjd = np.atleast_1d(np.asarray(mjd, dtype=np.float64))
    quiet = (
        iers.conf.set_temp("auto_download", False),
        iers.conf.set_temp("auto_max_age", None),
        iers.conf.set_temp("iers_degraded_accuracy", "ignore"),
    )
    with quiet[0], quiet[1], quiet[2]:
        location = EarthLocation.from_geodetic(
            lon=site.longitude_deg * u.deg, lat=site.latitude_deg * u.deg, height=site.height_m * u.m
        )
        time = Time(mjd, format="mjd", scale="utc", location=location)
        years = (mjd - 51544.5) / 365.25
        # Linear motion on the tangent plane: for Barnard's star over 25 years the neglected second-order
        # terms stay below 1 mas, 1e-7 km/s in BERV.
        ra = target.ra_deg + years * target.pm_ra_arcsec_yr / 3600.0 / math.cos(math.radians(target.dec_deg))
        dec = target.dec_deg + years * target.pm_dec_arcsec_yr / 3600.0
        star = SkyCoord(ra=ra * u.deg, dec=dec * u.deg, frame="icrs")
        z_b = star.radial_velocity_correction("barycentric", obstime=time)
        factor = 1.0 + z_b.to_value(u.km / u.s) / SPEED_OF_LIGHT_KMS
        light_time = time.light_travel_time(star, kind="barycentric")
        bjd = (time.tdb + light_time).jd
    berv = SPEED_OF_LIGHT_KMS * (factor**2 - 1.0) / (factor**2 + 1.0)
    return np.asarray(berv), np.asarray(bjd)


def sidereal_deg(mjd: float, site: Site) -> float:
    """Local mean sidereal time in degrees, UT1 taken as UTC (Meeus 1998, eq. 12.4)."""
    days = mjd - 51544.5
    return (280.46061837 + 360.98564736629 * days + site.longitude_deg) % 360.0


def altitude_azimuth(target: Target, mjd: float, site: Site) -> tuple[float, float]:
    """Altitude and azimuth (north over east) in degrees; no refraction, no precession from J2000."""
    hour = math.radians(sidereal_deg(mjd, site) - target.ra_deg)
    dec, lat = math.radians(target.dec_deg), math.radians(site.latitude_deg)
    sine = math.sin(lat) * math.sin(dec) + math.cos(lat) * math.cos(dec) * math.cos(hour)
    azimuth = math.atan2(
        -math.cos(dec) * math.sin(hour),
        math.sin(dec) * math.cos(lat) - math.cos(dec) * math.cos(hour) * math.sin(lat),
    )
    return math.degrees(math.asin(max(-1.0, min(1.0, sine)))), math.degrees(azimuth) % 360.0


def airmass(target: Target, mjd: float, site: Site, limit: float) -> float:
    """Airmass of `target`, never above `limit` (Kasten & Young 1989, Appl. Opt. 28, 4735).

    The limit is for campaigns whose list of targets is fixed by hand and places a star lower than any
    observer would.
    """
    altitude, _ = altitude_azimuth(target, mjd, site)
    if altitude < 5.0:
        return limit
    value = 1.0 / (math.sin(math.radians(altitude)) + 0.50572 * (altitude + 6.07995) ** -1.6364)
    return min(max(value, 1.0), limit)


def hour_angle_h(target: Target, mjd: float, site: Site) -> float:
    """Hour angle in hours, between -12 and 12."""
    hours = (sidereal_deg(mjd, site) - target.ra_deg) / 15.0
    return (hours + 12.0) % 24.0 - 12.0


def keplerian(
    bjd: float,
    gamma_kms: float,
    k_ms: float,
    period_d: float,
    eccentricity: float,
    omega_deg: float,
    t0: float,
) -> float:
    """Radial velocity in km/s of a star with one companion.

    Parameters
    ----------
    bjd : barycentric Julian date
    gamma_kms : systemic velocity
    k_ms : semi-amplitude, m/s
    period_d, eccentricity, omega_deg : orbit; omega is that of the star
    t0 : time of periastron, BJD

    Notes
    -----
    v = gamma + K (cos(nu + omega) + e cos omega); Kepler's equation by Newton's method to 1e-14 rad.
    """
    mean = 2.0 * math.pi * (((bjd - t0) / period_d) % 1.0)
    anomaly = mean if eccentricity < 0.8 else math.pi
    for _ in range(50):
        step = (anomaly - eccentricity * math.sin(anomaly) - mean) / (1.0 - eccentricity * math.cos(anomaly))
        anomaly -= step
        if abs(step) < 1e-14:
            break
    nu = 2.0 * math.atan2(
        math.sqrt(1.0 + eccentricity) * math.sin(anomaly / 2.0),
        math.sqrt(1.0 - eccentricity) * math.cos(anomaly / 2.0),
    )
    omega = math.radians(omega_deg)
    return gamma_kms + k_ms / 1000.0 * (math.cos(nu + omega) + eccentricity * math.cos(omega))
