"""What every product must hold, whatever recipe made it: structure, header, times, calibrations, wavelengths.

``check_product`` looks at one file, ``check_corrected`` at a telluric-corrected spectrum and what it was made
from.  Files are read by astropy, as users' programs do.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from astropy.io import fits

from apero_dask.core.work import Work
from apero_dask.instruments import Instrument

Resolve = Callable[[str], Path | None]
"""File of a registered calibration or an input, by its base name; None if there is none."""

SPECTRA = ("EXT_E2DS", "EXT_E2DS_FF", "TELLU_OBJ", "TELLU_RECON")
MERGED = ("EXT_S1D_W", "EXT_S1D_V", "SC1D_W_FILE", "SC1D_V_FILE", "RC1D_W_FILE", "RC1D_V_FILE")
NO_CALIBRATION = ("default:", "file:")
"""Beginnings of CDB values that name no registered file."""
LARGEST_BERV = 32.0  # km/s: orbit and rotation of the Earth
LARGEST_LIGHT_TIME = 0.01  # d
BLAZE_FLOOR = 0.10  # of the peak, below which a blaze is NaN
WAVE_RMS_NM = 1e-9
PRODUCT_RMS = 1e-6  # relative: recon * tcorr against what was corrected


def resolver(root: Path, work: Work | None = None) -> Resolve:
    """Files of a data root; calibrations of a run are found without a database as well."""
    registered = {}
    if work is not None:
        for calibration in work.calibrations:
            registered.update({f.registered or Path(f.path).name: root / f.path for f in calibration.files})
        for _, files in work.inputs:
            registered.update({Path(f.path).name: root / f.path for f in files})

    def find(name: str) -> Path | None:
        if name in registered:
            return registered[name]
        for folder in ("calibDB", "telluDB"):
            if (root / folder / name).is_file():
                return root / folder / name
        return next(
            (path for tree in ("reduced", "tmp", "raw") for path in sorted((root / tree).rglob(name))), None
        )

    return find


def check_product(path: Path, instrument: Instrument, find: Resolve) -> np.ndarray | None:
    """Everything a single product must hold; returns the share of NaN of every order of a spectrum.

    Raises
    ------
    AssertionError
        Names the file, what was found and what was expected.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(path) as units:
            units.verify("exception")
            head = units[0].header
            name = f"{path.name}: "
            assert units[0].data is None, name + "the primary unit holds data"
            assert len(units) > 1, name + "no unit behind the primary one"
            assert units[1].name == str(head["DRSOUTID"]).upper(), f"{name}unit 1 is called {units[1].name}"
            assert units[-1].name == "PARAM_TABLE", f"{name}the last unit is called {units[-1].name}"
            _check_cards(name, units)
            _check_origin(name, head, find)
            _check_quality(name, head)
            _check_times(name, head, path)
            data = fits.getdata(path)
            outid = str(head["DRSOUTID"])
            empty = None
            if outid in SPECTRA and units[1].is_image:
                empty = _check_spectrum(name, head, data, instrument)
            if outid in MERGED:
                _check_merged(name, units[1])
            if "VARIANCE" in units and units[1].is_image:
                _check_variance(name, data, units["VARIANCE"].data)
            if "WAVEORDN" in head:
                _check_wave(name, head, instrument, find)
            if "CDBBLAZE" in head and "FIBER" in head:
                _check_blaze(name, head, instrument, find)
    return empty


def _check_cards(name: str, units: fits.HDUList) -> None:
    for unit in units:
        single = [k for k in unit.header if k not in ("COMMENT", "HISTORY", "")]
        assert len(single) == len(set(single)), (
            f"{name}{sorted({k for k in single if single.count(k) > 1})} twice"
        )
        for card in unit.header.cards:
            assert len(card.keyword) <= 8 or card.image.startswith("HIERARCH"), name + card.keyword
            if isinstance(card.value, str):
                assert len(card.value) <= 68, f"{name}{card.keyword} holds {len(card.value)} characters"


def _check_origin(name: str, head: fits.Header, find: Resolve) -> None:
    for keyword in ("VERSION", "DRSVDATE", "DRSPDATE", "DRSPID", "RUNIDENT", "DRSOUTID"):
        assert keyword in head, f"{name}no {keyword}"
    assert find(str(head["INF1000"])) is not None, f"{name}input {head['INF1000']} is not there"
    for keyword in head:
        if not keyword.startswith("CDB"):
            continue
        value, ending = str(head[keyword]), keyword[3:]
        assert "/" not in value or value.startswith(NO_CALIBRATION), f"{name}{keyword} = {value}"
        for other in ("CDT", "CDN", "CDR", "CDF"):
            assert other + ending in head, f"{name}{keyword} without {other + ending}"
        if not value.startswith(NO_CALIBRATION):
            assert find(value) is not None, f"{name}{keyword} = {value} is not there"


def _check_quality(name: str, head: fits.Header) -> None:
    assert isinstance(head["QCC_ALL"], bool), name + "QCC_ALL is no logical"
    number, deciding = 1, []
    while f"QCC{number:03d}N" in head:
        key = f"QCC{number:03d}"
        assert all(key + letter in head for letter in "NVLP"), f"{name}{key} is not complete"
        if not str(head[key + "L"]).startswith("(info)"):
            deciding.append(head[key + "P"] == 1)
        number += 1
    assert number > 1, name + "no QCC001N"
    assert head["QCC_ALL"] == all(deciding), name + "QCC_ALL contradicts the tests"


def _check_times(name: str, head: fits.Header, path: Path) -> None:
    if "MJDATE" in head and "MJDEND" in head and "EXT_TYPE" in head:
        assert head["MJDATE"] < head["MJDMID"] < head["MJDEND"], name + "MJDMID is not within the exposure"
    if "BERV" not in head:
        return
    for keyword in ("BERV", "BJD", "BERVMAX", "DBERV", "BERVSRCE"):
        assert keyword in head, f"{name}no {keyword}"
    berv, bjd = float(head["BERV"]), float(head["BJD"])
    assert math.isnan(berv) == math.isnan(bjd), f"{name}BERV = {berv}, BJD = {bjd}"
    if not math.isnan(berv):
        assert abs(berv) < LARGEST_BERV, f"{name}BERV = {berv}"
        assert abs(berv) < float(head["BERVMAX"]) + 0.5, f"{name}BERV = {berv}, BERVMAX {head['BERVMAX']}"
        late = bjd - 2_400_000.5 - head["MJDMID"]
        assert abs(late) < LARGEST_LIGHT_TIME, f"{name}BJD is {late} d after MJDMID"
    first = fits.getheader(path, 1)
    if first["XTENSION"] == "BINTABLE":
        assert first["BJD"] == head["BJD"], name + "the table does not repeat BJD"


def _check_spectrum(name: str, head: fits.Header, data: np.ndarray, instrument: Instrument) -> np.ndarray:
    assert data.shape == (instrument.norders, instrument.nx), f"{name}shape {data.shape}"
    assert data.dtype.newbyteorder("=") == np.float64, f"{name}{data.dtype}"
    assert not np.isinf(data).any(), name + "infinite values"
    empty: np.ndarray = np.isnan(data).mean(axis=1)
    star = str(head.get("CAL_FTYP", "")) == "star" and float(head.get("EXTSN000", 0)) != 0
    if star and head["QCC_ALL"] and float(head[f"EXTSN{instrument.snr_client:03d}"]) > 3:
        levels = np.nanmedian(data[[instrument.snr_telluric, instrument.snr_client]], axis=1)
        assert (levels > 0).all(), f"{name}medians of the orders of the S/N: {levels}"
    return empty


def _check_merged(name: str, unit: fits.BinTableHDU) -> None:
    assert unit.columns.names[:4] == ["wavelength", "flux", "eflux", "weight"], f"{name}{unit.columns.names}"
    wave, flux = unit.data["wavelength"], unit.data["flux"]
    known = np.isfinite(flux)
    assert (np.diff(wave) > 0).all(), name + "wavelengths do not rise"
    assert (unit.data["eflux"][known] > 0).all(), name + "errors that are not positive"
    assert np.isnan(unit.data["eflux"][~known]).all(), name + "errors without flux"
    assert (unit.data["weight"] >= 0).all(), name + "negative weights"


def _check_variance(name: str, flux: np.ndarray, variance: np.ndarray) -> None:
    known = np.isfinite(flux)
    assert variance.shape == flux.shape, f"{name}variance of shape {variance.shape}"
    assert (variance[known] > 0).all(), name + "a variance that is not positive under a flux"


def _check_wave(name: str, head: fits.Header, instrument: Instrument, find: Resolve) -> None:
    orders, degree = int(head["WAVEORDN"]), int(head["WAVEDEGN"])
    assert head["WAVEPOLY"] == "Chebyshev", f"{name}WAVEPOLY = {head['WAVEPOLY']}"
    count = orders * (degree + 1)
    assert f"WAVE{count - 1:04d}" in head and f"WAVE{count:04d}" not in head, (
        f"{name}not {count} coefficients"
    )
    series = np.array([head[f"WAVE{k:04d}"] for k in range(count)]).reshape(orders, degree + 1)
    u = 2.0 * np.arange(instrument.nx) / instrument.nx - 1.0
    image = np.polynomial.chebyshev.chebval(u, series.T)
    assert (np.diff(image, axis=1) > 0).all() and (np.diff(image, axis=0) > 0).all(), name + "not ascending"
    file = find(str(head["WAVEFILE"]))
    if file is None:
        assert str(head["WAVEFILE"]) in ("WAVE0", "first guess"), f"{name}WAVEFILE is not there"
        return
    kept = fits.getdata(file)
    if kept.shape == image.shape:
        rms = float(np.sqrt(np.mean(np.square(image - kept))))
        assert rms < WAVE_RMS_NM, f"{name}coefficients are {rms} nm rms off {file.name}"


def _check_blaze(name: str, head: fits.Header, instrument: Instrument, find: Resolve) -> None:
    file = find(str(head["CDBBLAZE"]))
    assert file is not None
    blaze = fits.getdata(file)
    assert blaze.shape == (instrument.norders, instrument.nx), f"{name}blaze of shape {blaze.shape}"
    for row in blaze:
        known = row[np.isfinite(row)]
        if known.size:
            # A smooth curve may be cut a few per cent of its peak late.
            assert known.min() > 0.8 * BLAZE_FLOOR * known.max(), name + "blaze below 10 % of its peak"


def check_all(paths: Iterable[Path], instrument: Instrument, find: Resolve) -> None:
    """Check several products."""
    for path in paths:
        check_product(path, instrument, find)


def check_corrected(corrected: Path, recon: Path, spectrum: Path, sky: np.ndarray | float = 0.0) -> None:
    """``recon * tcorr`` is the spectrum that was corrected minus the sky, where finite."""
    t, r, s = (fits.getdata(path) for path in (corrected, recon, spectrum))
    known = np.isfinite(t) & np.isfinite(r)
    assert known.any(), f"{corrected.name}: nothing was corrected"
    expected = (s - sky)[known]
    scale = float(np.median(np.abs(expected)))
    worst = float(np.max(np.abs((t * r)[known] - expected))) / scale
    assert worst < PRODUCT_RMS, f"{corrected.name}: recon * tcorr is off by {worst:.1e} of the median flux"
