"""Raw-frame simulator: paints SPIRou ramp products and records the truth.

Stands alone on purpose: it imports nothing of the pipeline and the pipeline imports nothing
of it, so that an error in one cannot cancel in the other.  Only the tables of
``apero_dask/tables`` are shared, as files.
"""
