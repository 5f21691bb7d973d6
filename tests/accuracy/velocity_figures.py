"""Table rows of radial velocities: frames of the night, and a season of drawn spectra of the instrument."""

from __future__ import annotations

import math
from collections.abc import Iterator

from apero_dask.core.products import VELOCITY_FOLDER
from apero_dask.simulator.recovered import Agreement, read_recovered
from apero_dask.simulator.settings import ConfigError
from tests.accuracy.figures import Figure, below, told
from tests.accuracy.reduced import MissingProduct, Reduced
from tests.recipes.season import BERV_KMS, PERIOD, observed, orbit, slope_with_berv

EPOCHS = 24
K_MS = 12.0
SNR = 150.0


def velocity_figures(night: Reduced) -> Iterator[Figure]:
    """First what the reduction found, then a season, which one night cannot show."""
    try:
        stars = read_recovered(night.root / "reduced" / VELOCITY_FOLDER, night.root)
    except ConfigError as error:
        yield Figure("radial velocities of the night", "", "none", False, str(error))
    else:
        for star in stars:
            yield from frames_of(star)
    yield from season(night)


def frames_of(star: Agreement) -> Iterator[Figure]:
    """Scatter of the frames of one star over their errors, zero point taken out."""
    count = len(star.frames)
    if not count:
        tests = f"quality control: {', '.join(star.left_out)}"
        yield Figure(f"radial velocity of {star.name}", "", "none", False, tests)
        return
    zero = f"zero point {star.offset_ms:+.1f} m/s, errors {star.predicted_ms:.2f} m/s"
    if count < 2:
        yield told(f"radial velocity of {star.name}", f"{star.offset_ms:+.2f} m/s", zero)
        return
    # n frames know their scatter to 1/sqrt(2 (n - 1)); their own rows are those of the season.
    doubt = 1.0 / math.sqrt(2.0 * (count - 1))
    ratio = star.rms_ms / star.predicted_ms
    yield Figure(
        f"radial velocities of {star.name}, scatter / error",
        f"< 1.2 + {doubt:.2f}",
        f"{ratio:.2f} ({star.rms_ms:.2f} m/s, {count} frames)",
        ratio < 1.2 + doubt,
        f"{zero}; {count} frames know their scatter to {100 * doubt:.0f} %",
    )


def season(night: Reduced) -> Iterator[Figure]:
    """An orbit and a constant star over 300 days of BERV, from drawn spectra with tellurics corrected.

    Raises
    ------
    MissingProduct
        The simulator draws no M dwarf for this instrument.
    """
    name = night.instrument.name
    try:
        moved, still = (observed(1, k, name, SNR, EPOCHS) for k in (K_MS, 0.0))
    except StopIteration:
        raise MissingProduct(f"no frame of an M dwarf in the worked campaign of {name}") from None
    found = orbit(moved)
    note = f"{EPOCHS} spectra drawn at S/N {SNR:.0f}, errors {moved.predicted:.2f} m/s"
    yield below(
        f"season: amplitude of an orbit of {K_MS:g} m/s, error / sigma",
        3.0,
        {"K": (found.amplitude - 0.98 * K_MS) / found.amplitude_error},
        form=".2f",
        note=f"{note}; found {found.amplitude:.2f} +- {found.amplitude_error:.2f} m/s; "
        "0.98 of it is what a circle sees of e = 0.2",
    )
    yield below(
        f"season: period of {PERIOD:g} d, error / sigma",
        3.0,
        {"P": (found.period - PERIOD) / found.period_error},
        form=".2f",
        note=f"found {found.period:.3f} +- {found.period_error:.3f} d",
    )
    limit = 1.3 * moved.predicted + 1.0
    yield below(
        "season: rms of the residuals", limit, {"orbit": found.rms}, unit=" m/s", form=".2f", note=note
    )
    scatter = float(still.velocity.std(ddof=1))
    yield below(
        "season: single epoch, scatter / error",
        1.2,
        {"constant star": scatter / still.predicted},
        form=".2f",
        note=f"{scatter:.2f} m/s; {EPOCHS} epochs know their scatter to 15 %",
    )
    slope, sigma = slope_with_berv(still)
    yield below(
        f"season: constant star at {BERV_KMS:g} km/s of BERV",
        3.0,
        {"slope": slope},
        unit=" m/s",
        form=".2f",
        note=f"error {sigma:.2f} m/s",
    )
