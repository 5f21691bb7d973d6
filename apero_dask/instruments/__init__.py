"""Instrument descriptions, read from the packaged tables."""

from apero_dask.instruments.base import INSTRUMENTS, FrameType, Instrument, hint_of_shape, instrument

__all__ = ["INSTRUMENTS", "FrameType", "Instrument", "hint_of_shape", "instrument"]
