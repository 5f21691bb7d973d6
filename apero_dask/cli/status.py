"""``apero-dask status``: how a reduction stands; works beside a running one and changes nothing."""

from __future__ import annotations

import json
import sys

from apero_dask.core.collector import collector_paused
from apero_dask.core.errors import EXIT_INVALID, EXIT_NOTHING, EXIT_OK
from apero_dask.io.trees import find_trees


def show_status(data: str | None, invocation: str, as_json: bool) -> int:
    """Print the status of a data root; returns the exit status."""
    from apero_dask.report.status import (
        NothingThere,
        UnknownInvocation,
        status_lines,
        status_record,
        take_status,
    )

    try:
        with collector_paused():
            status = take_status(find_trees(data), invocation)
    except NothingThere as error:
        print(f"{error}. Name the data root with --data or APERO_DATA.", file=sys.stderr)
        return EXIT_NOTHING
    except UnknownInvocation as error:
        print(error, file=sys.stderr)
        return EXIT_INVALID
    if as_json:
        print(json.dumps(status_record(status), indent=1))
    else:
        for text in status_lines(status):
            print(text)
    return EXIT_OK
