"""What one simulated exposure looks at: the plain record passed from campaign to painter.

A campaign decides all physical states of an exposure (times, target, weather, drifts) once;
painting and detector modules only read them, so that truth, header and pixels cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Target:
    """A star as the observer and the sky know it."""

    name: str
    """Name written to OBJECT and OBJNAME."""
    kind: str
    """``mdwarf``, ``hot`` or ``sky``."""
    ra_deg: float = 0.0
    dec_deg: float = 0.0
    pm_ra_arcsec_yr: float = 0.0
    pm_dec_arcsec_yr: float = 0.0
    parallax_mas: float = 0.0
    teff_k: float = 3300.0
    vsini_kms: float = 0.0
    catalogue_rv_kms: float = 0.0
    """Value of OBJRV: what the proposal says, not the truth."""
    snr: float = 150.0
    """Photon S/N per extracted pixel of AB at the middle of the order with the telluric S/N role."""
    pi_name: str = "QSO Team"
    run_id: str = "18BE00"
    spectrum_seed: int = 0
    """Seed of anything random in the stellar spectrum (hot-star line strengths)."""


@dataclass(frozen=True, slots=True)
class Affine:
    """Light at (x, y) of the reference epoch falls on (x', y'), calibrated-frame pixels.

    x' = dx + a x + b y,  y' = dy + c x + d y.
    """

    dx: float = 0.0
    dy: float = 0.0
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 1.0


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """One exposure.  Times are MJD (UTC), velocities km/s unless the name says otherwise."""

    identifier: str
    """Odometer and letter, e.g. ``2320031o``."""
    obs_dir: str
    dprtype: str
    index: int
    """Position in the campaign; with the seed it fixes every random number of the frame."""
    exptime_s: float
    nreads: int
    mjd_start: float
    mjd_end: float
    sequence_number: int = 1
    """CMPLTEXP: place in its exposure sequence, from 1."""
    sequence_length: int = 1
    target: Target | None = None
    polar_position: int = 0
    """1-4 for polarimetric exposures, 0 otherwise."""
    airmass: float = 1.0
    pwv_mm: float = 2.0
    wind_ms: float = 0.0
    """Velocity of the telluric lines, m/s."""
    rv_kms: float = 0.0
    """Barycentric radial velocity of the star (systemic plus orbit)."""
    berv_kms: float = 0.0
    """Barycentric Earth radial velocity, positive when the observer approaches the star."""
    bjd: float = 0.0
    """Barycentric Julian date (TDB) at mid-exposure."""
    affine: Affine = field(default_factory=Affine)
    cavity_ms: float = 0.0
    """Cavity length factor is 1 + cavity_ms / c, c in m/s; a longer cavity moves FP peaks redwards."""
    epoch_days: float = 0.0
    """Days since the reference epoch (chromatic cavity drift, lamp ageing)."""
    thermal_k: float = 281.0
    """Temperature of the fibre train."""
    lamp_factor: float = 1.0
    outside_c: float = 2.0
    """Air temperature, degrees Celsius."""
    humidity_pct: float = 10.0
    pressure_mbar: float = 618.0
    last_object: str = "zenith"
    """What the telescope looked at before; a calibration frame still carries it as OBJNAME."""
    faults: tuple[str, ...] = ()
    """Injected faults, e.g. ``no_light``, ``slip_x``, ``saturated``, ``no_extensions``, ``truncated``."""

    @property
    def mjd_mid(self) -> float:
        """Mid-exposure as a reduction computes it: end minus half the integration."""
        return self.mjd_end - self.exptime_s / 2 / 86400.0
