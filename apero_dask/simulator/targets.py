"""Stars of the built-in campaigns and their orbits.

Coordinates, motions and parallaxes are rounded catalogue values.  Temperatures, rotation velocities and
radial velocities are those of the *simulated* star and need not be those of the real one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from apero_dask.simulator.spec import Target


@dataclass(frozen=True, slots=True)
class Orbit:
    """True radial velocity of a star: systemic velocity and one companion."""

    gamma_kms: float
    k_ms: float = 0.0
    period_d: float = 10.0
    eccentricity: float = 0.0
    omega_deg: float = 0.0
    t0_bjd: float = 2458386.0


@dataclass(frozen=True, slots=True)
class Star:
    """A target and what its velocity really does."""

    target: Target
    orbit: Orbit
    aliases: tuple[str, ...] = ()
    """Other names, for the object table."""


GL699 = Star(
    Target(
        name="Gl699",
        kind="mdwarf",
        ra_deg=269.452083,
        dec_deg=4.693391,
        pm_ra_arcsec_yr=-0.80,
        pm_dec_arcsec_yr=10.36,
        parallax_mas=546.98,
        teff_k=3224.0,
        catalogue_rv_kms=-110.51,
        snr=150.0,
        pi_name="PI One",
        run_id="18BP40",
        spectrum_seed=699,
    ),
    Orbit(gamma_kms=-110.1, k_ms=12.0, period_d=11.3, eccentricity=0.2, omega_deg=60.0),
    ("Gl 699", "Barnard's star", "HIP 87937"),
)
TOI442 = Star(
    Target(
        name="TOI-442",
        kind="mdwarf",
        ra_deg=64.190000,
        dec_deg=-12.084500,
        pm_ra_arcsec_yr=0.19,
        pm_dec_arcsec_yr=-0.35,
        parallax_mas=18.98,
        teff_k=3800.0,
        catalogue_rv_kms=20.0,
        snr=100.0,
        pi_name="PI Two",
        run_id="18BF12",
        spectrum_seed=442,
    ),
    Orbit(gamma_kms=20.4),
    ("TOI 442", "LP 714-47"),
)

GL729 = Star(
    Target(
        name="Gl729",
        kind="mdwarf",
        ra_deg=282.455700,
        dec_deg=-23.836200,
        pm_ra_arcsec_yr=0.64,
        pm_dec_arcsec_yr=-0.19,
        parallax_mas=336.03,
        teff_k=3213.0,
        catalogue_rv_kms=-10.7,
        snr=150.0,
        pi_name="PI One",
        run_id="18BP40",
        spectrum_seed=729,
    ),
    Orbit(gamma_kms=-10.3),
    ("Gl 729", "Ross 154", "HIP 92403"),
)
"""Close to the ecliptic: the Earth moves it by 60 km/s in half a year.  The simulated one is constant."""


def _hot(
    name: str, ra: float, dec: float, pm: tuple[float, float], teff: float, vsini: float, rv: float
) -> Star:
    target = Target(
        name=name,
        kind="hot",
        ra_deg=ra,
        dec_deg=dec,
        pm_ra_arcsec_yr=pm[0],
        pm_dec_arcsec_yr=pm[1],
        teff_k=teff,
        vsini_kms=vsini,
        catalogue_rv_kms=rv,
        snr=250.0,
        run_id="18BQ59",
        spectrum_seed=sum(map(ord, name)),
    )
    return Star(target, Orbit(gamma_kms=rv))


PEG59 = _hot("59Peg", 347.934200, 8.720000, (-0.01, -0.01), 10500.0, 180.0, 6.0)
GAMSCT = _hot("gamSct", 277.299400, -14.565800, (0.00, 0.00), 10000.0, 220.0, -41.0)
ZETVIR = _hot("zetVir", 203.673300, -0.595800, (-0.28, 0.05), 10200.0, 200.0, -13.0)

SKY = Star(Target(name="Sky", kind="sky", run_id="18BQ59"), Orbit(gamma_kms=0.0))
"""Blank field: pointed a few arcminutes from the target observed before it."""


def sky_near(star: Star) -> Star:
    """Blank field 5 arcmin north of a star."""
    return replace(
        SKY, target=replace(SKY.target, ra_deg=star.target.ra_deg, dec_deg=star.target.dec_deg + 5.0 / 60.0)
    )


def grid_star(number: int) -> Star:
    """An M dwarf of the large header archives: names and positions follow from the number alone."""
    target = Target(
        name=f"SIM{number:04d}",
        kind="mdwarf",
        ra_deg=(137.508 * number) % 360.0,
        dec_deg=-15.0 + (61.803 * number) % 70.0,
        teff_k=3300.0,
        catalogue_rv_kms=float(number % 60 - 30),
        parallax_mas=50.0,
        pi_name="PI One" if number % 2 == 0 else "PI Two",
        run_id="18BP40" if number % 2 == 0 else "18BF12",
        spectrum_seed=number,
    )
    return Star(target, Orbit(gamma_kms=float(number % 60 - 30)))
