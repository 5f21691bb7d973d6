"""Behind ``from apero_dask import read_run_file, plan, run``: the calls of the command line, and views."""
