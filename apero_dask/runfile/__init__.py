"""Run files and command lines: from text to :class:`apero_dask.core.settings.Settings`."""
