"""``python -m apero_dask`` is ``apero_processing``."""

import sys

from apero_dask.cli.processing import main

if __name__ == "__main__":
    sys.exit(main())
