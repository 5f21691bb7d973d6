"""Instrument descriptions, read from the packaged tables."""

from apero_dask.instruments.base import INSTRUMENTS, FrameType, Instrument, instrument

__all__ = ["INSTRUMENTS", "FrameType", "Instrument", "instrument"]
