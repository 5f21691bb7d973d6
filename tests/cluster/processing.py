"""``apero_processing`` with the cheap stand-in recipes, in this process and in the worker jobs."""

from __future__ import annotations

import functools
import sys

import apero_dask.deploy.batch as batch
import apero_dask.deploy.inside as inside
from apero_dask.cli.processing import main
from tests.engine import standins

if __name__ == "__main__":
    batch.batch_backend = functools.partial(batch.batch_backend, runner=standins.run)
    inside.inside_backend = functools.partial(inside.inside_backend, runner=standins.run)
    with standins.standing_in():
        sys.exit(main())
