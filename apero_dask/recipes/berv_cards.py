"""Header cards of the barycentric correction and of the astrometry it was made with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from apero_dask.recipes.astrometry import NONE, TABLE, Target, find_target, object_table, sexagesimal
from apero_dask.recipes.barycentre import Star, barycentric, largest, separation_arcsec

if TYPE_CHECKING:
    from apero_dask.instruments import Instrument
    from apero_dask.io.fits import FitsFile
    from apero_dask.recipes.context import RecipeContext

SOURCE = "astropy"
FARTHEST_ARCSEC = 300.0
"""Telescope and target farther apart than this: one of the two is another star."""


def barycentric_cards(ctx: RecipeContext, file: FitsFile, mjd: float) -> dict[str, Any]:
    """Cards of a frame of a star at a time (MJD, UTC); NaN where its place is not known.

    The time is that of the middle of the integration.  A flux-weighted one would differ by the speed of the
    change, card DBERV, times the displacement of the centroid.
    """
    target = find_target(object_table(ctx), str(file.values.get("DRSOBJN", "")).strip(), file.values)
    for problem in target.problems:
        ctx.log.warning("%s: %s", target.name, problem)
    if target.source != TABLE:
        what = "W-STAR-HEADER" if target.star is not None else "W-STAR-NONE"
        ctx.message(what, object=target.name, id=ctx.work.stem)
    i = ctx.instrument
    cards = {**target_cards(target), **_velocity_cards(target.star, mjd, i), **_pointing_cards(file, mjd, i)}
    distance = _pointing_distance(file, target.star, mjd)
    cards["PP_SEPAR"] = (distance, "[arcsec] telescope to target")
    near = not distance > FARTHEST_ARCSEC
    ctx.qc(
        "POINTING", distance, f"POINTING > {FARTHEST_ARCSEC:g} arcsec", near, informative=True
    )  # fmt: skip
    if not near:
        ctx.message("W-POINTING", object=target.name, id=ctx.work.stem, distance=f"{distance:.0f}")
    return cards


def empty_cards(instrument: Instrument, mjd: float) -> dict[str, Any]:
    """Cards of a frame that shows no star."""
    nothing = math.nan
    return {**_velocity_cards(None, nothing, instrument), "BERVOBST": _time_card(mjd)}


def target_cards(target: Target) -> dict[str, Any]:
    """The object record: every value with its source (suffix S)."""
    star, sources = target.star, target.sources
    nothing = math.nan

    def source(key: str) -> tuple[str, str]:
        return sources.get(key, NONE)[:60], "its source"

    return {
        "PP_OBJN": (target.name, "object"),
        "PP_OBJNS": (target.source, "where its place is from"),
        "PP_SRCE": (target.source, "table, header or none"),
        "PP_RA": (star.ra_deg if star else nothing, "[deg] right ascension, ICRS"),
        "PP_RAS": source("ra_deg"),
        "PP_DEC": (star.dec_deg if star else nothing, "[deg] declination, ICRS"),
        "PP_DECS": source("dec_deg"),
        "PP_EPOCH": (star.epoch_jd if star else nothing, "[JD] epoch of the place"),
        "PP_PMRA": (star.pm_ra_mas if star else nothing, "[mas/yr] proper motion, cos(dec) included"),
        "PP_PMRAS": source("pm_ra_mas"),
        "PP_PMDE": (star.pm_dec_mas if star else nothing, "[mas/yr] proper motion"),
        "PP_PMDES": source("pm_dec_mas"),
        "PP_PLX": (star.parallax_mas if star else nothing, "[mas] parallax"),
        "PP_PLXS": source("parallax_mas"),
        "PP_RV": (star.rv_kms if star else nothing, "[km/s] radial velocity of the catalogue"),
        "PP_RVS": source("rv_kms"),
        "PP_TEFF": (target.temperature_k, "[K] effective temperature"),
        "PP_SPT": (target.spectral_type[:60], "spectral type"),
    }


def _velocity_cards(star: Star | None, mjd: float, instrument: Instrument) -> dict[str, Any]:
    import numpy as np

    berv = bjd = change = year = secular = math.nan
    if star is not None:
        found = barycentric(star, np.array([mjd, mjd + 1.0 / 86_400.0]), instrument)
        berv, bjd = float(found.berv[0]), float(found.bjd[0])
        change, secular = float(abs(found.berv[1] - found.berv[0])), float(found.secular[0])
        year = largest(star, mjd, instrument)
    return {
        "BERV": (berv, "[km/s] lam_bary = lam_observed * doppler(BERV)"),
        "BJD": (bjd, "[d] barycentric Julian date of mid-exposure, TDB"),
        "BERVMAX": (year, "[km/s] largest |BERV| of the year"),
        "DBERV": (change, "[km/s] change of BERV in a second"),
        "BERVSRCE": (SOURCE if star is not None else NONE, "how it was computed"),
        "BERVSECU": (secular, "[m/s] secular part of the velocity, not in BERV"),
        "BERVOBST": _time_card(mjd),
        "BERVOBSM": ("header", "how that time was found"),
        "BC_LAT": (instrument.latitude, "[deg] latitude of the site"),
        "BC_LONG": (instrument.longitude, "[deg] longitude, east positive"),
        "BC_ALT": (instrument.height_m, "[m] height"),
        "BERV_EST": (math.nan, "[km/s] estimate from the pointing"),
        "BJD_EST": (math.nan, "[d] estimate from the pointing"),
        "BERVMAXE": (math.nan, "[km/s] estimate from the pointing"),
        "DBERVE": (math.nan, "[km/s] estimate from the pointing"),
    }


def _time_card(mjd: float) -> tuple[float, str]:
    return mjd + 2_400_000.5, "[JD] time the correction is for, UTC"


def _pointing(file: FitsFile) -> Star | None:
    ra, dec = (sexagesimal(file.values.get(key)) for key in ("RA_DEG", "DEC_DEG"))
    if ra is None or dec is None or not (0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
        return None
    return Star(ra, dec, 2_451_545.0)


def _pointing_cards(file: FitsFile, mjd: float, instrument: Instrument) -> dict[str, Any]:
    """Estimates from where the telescope pointed, for readers of frames whose star is not known."""
    import numpy as np

    star = _pointing(file)
    if star is None:
        return {}
    found = barycentric(star, np.array([mjd, mjd + 1.0 / 86_400.0]), instrument)
    return {
        "BERV_EST": (float(found.berv[0]), "[km/s] estimate from the pointing"),
        "BJD_EST": (float(found.bjd[0]), "[d] estimate from the pointing"),
        "BERVMAXE": (largest(star, mjd, instrument), "[km/s] estimate from the pointing"),
        "DBERVE": (float(abs(found.berv[1] - found.berv[0])), "[km/s] estimate from the pointing"),
    }


def _pointing_distance(file: FitsFile, star: Star | None, mjd: float) -> float:
    pointing = _pointing(file)
    if pointing is None or star is None:
        return math.nan
    return separation_arcsec(star, mjd, pointing.ra_deg, pointing.dec_deg)
