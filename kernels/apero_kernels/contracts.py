"""Check the arrays that enter the public functions, once, before any loop runs.

A kernel never raises on data.  It relies on what is checked here: number of axes, equal shapes, a
floating dtype in native byte order, an output that can be written.
"""

from __future__ import annotations

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def native(array: np.ndarray) -> np.ndarray:
    """Return `array` in native byte order: itself where it is already, else a converted copy.

    FITS stores big-endian numbers; machine code for them does not exist here.
    """
    array = np.asarray(array)
    if array.dtype.isnative:
        return array
    return array.astype(array.dtype.newbyteorder("="))


def check_float(name: str, array: object, ndim: int, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return `array` if it is float32 or float64, native, with `ndim` axes and, if given, `shape`.

    Raises
    ------
    TypeError
        Not a numpy array, a dtype other than float32 or float64, or foreign byte order.
    ValueError
        Wrong number of axes or wrong shape.
    """
    array = _check_array(name, array, ndim, shape)
    if array.dtype not in FLOATS:
        raise TypeError(
            f"{name}: dtype {array.dtype}, expected float32 or float64; convert with "
            f"{name}.astype(numpy.float32)"
        )
    return array


def check_integer(
    name: str, array: object, ndim: int, dtype: type, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Return `array` if it has exactly `dtype`, `ndim` axes and, if given, `shape`; else as `check_float`."""
    array = _check_array(name, array, ndim, shape)
    if array.dtype != np.dtype(dtype):
        raise TypeError(f"{name}: dtype {array.dtype}, expected {np.dtype(dtype)}")
    return array


def check_reads(name: str, array: object, shape: tuple[int, ...]) -> np.ndarray:
    """Return numbers of reads if they are int16, as ramps are stored, or float; else as `check_float`."""
    array = _check_array(name, array, len(shape), shape)
    return array if array.dtype == np.int16 else check_float(name, array, len(shape), shape)


def check_output(name: str, array: object, shape: tuple[int, ...], dtype: type | None = None) -> np.ndarray:
    """Return `array` if it can be written, has `shape` and a fitting dtype (`dtype`, else any float)."""
    if dtype is None:
        checked = check_float(name, array, len(shape), shape)
    else:
        checked = check_integer(name, array, len(shape), dtype, shape)
    if not checked.flags.writeable:
        raise ValueError(f"{name}: the array is read-only; pass one that can be written")
    return checked


def check_positive(name: str, value: float) -> float:
    """Return `value` if it is finite and above zero.

    Raises
    ------
    ValueError
        Otherwise.
    """
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name}: {value}, expected a finite number above 0")
    return float(value)


def _check_array(name: str, array: object, ndim: int, shape: tuple[int, ...] | None) -> np.ndarray:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: {type(array).__name__}, expected a numpy array")
    if not array.dtype.isnative:
        raise TypeError(
            f"{name}: dtype {array.dtype.str} is not in the byte order of this machine (as read from FITS); "
            "convert with apero_kernels.contracts.native"
        )
    if array.ndim != ndim:
        raise ValueError(f"{name}: {array.ndim} axes, expected {ndim}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name}: shape {array.shape}, expected {shape}")
    return array
