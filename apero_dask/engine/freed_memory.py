"""Keeps memory that arrays gave back in the process, ready for those of the next step.

The C library returns every block above 32 MB to the system when it is freed, and the system hands out new
pages one by one, each cleared.  A detector image has 50 MB and a recipe makes some twenty of them: fetching
their pages anew costs as much as the arithmetic on them.  Kept pages are used again by the next image, so
that the process stays about as large as it was at its peak.
"""

from __future__ import annotations

import sys

MOST_KEPT = 2**31 - 1
"""Bytes of freed memory at the end of the heap beyond which it is returned: the largest the call takes."""
# Parameters of mallopt, from malloc.h of the GNU C library.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_HEAP = 1 << 26  # bytes of the heap of a thread


def keep_freed_memory() -> bool:
    """Let this process keep what it frees; call it before threads are started.

    Returns
    -------
    bool
        False where the C library has no such settings: everything works as before.
    """
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    wanted = (
        (_MMAP_MAX, 0),  # no blocks outside the heap
        (_TRIM_THRESHOLD, MOST_KEPT),
        # Threads share one heap; those that have one of their own already keep it when it is empty.
        (_ARENA_MAX, 1),
        (_TOP_PAD, _HEAP),
    )
    return all([set_option(option, value) == 1 for option, value in wanted])
