"""Reduce archives of the SPIRou spectrograph on a dask cluster."""

__version__ = "0.1.0"
