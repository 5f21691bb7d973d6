"""Packaged tables: detector geometry, order tables, frame types and header keywords.

Pure data, shared by the instrument descriptions and by the simulator, each of
which reads the files with its own code.  ``README.md`` gives the origin of every
number.  No module of the package is imported from here.
"""
