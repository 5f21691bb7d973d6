"""Freed memory of a worker is used again: pages are fetched from the system once."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

ROUNDS = 6
SCRIPT = f"""
import resource, sys, threading
if sys.argv[2] == "late":
    # As in a worker of dask, whose own threads have heaps before it is set up.
    threads = [threading.Thread(target=lambda: [bytearray(1000) for _ in range(1000)]) for _ in range(3)]
    [t.start() for t in threads]
    [t.join() for t in threads]
from apero_dask.engine.freed_memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
import numpy as np
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def images():
    counts = []
    for _ in range({ROUNDS}):
        before = faults()
        one, other = (np.zeros((3100, 4088), np.float32) + k for k in range(2))
        del one, other
        counts.append(faults() - before)
    print(kept, *counts)
thread = threading.Thread(target=images)
thread.start()
thread.join()
"""


def has_settings() -> bool:
    return sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "mallopt")


@pytest.mark.skipif(not has_settings(), reason="the C library has no mallopt")
@pytest.mark.parametrize("start", ["early", "late"])
def test_images_of_a_thread_reuse_their_memory(start: str) -> None:
    """A run works in a thread of its worker; without huge pages an image has 12 000 pages."""
    counts: dict[str, list[int]] = {}
    for mode in ("keep", "plain"):
        found = subprocess.run(
            [sys.executable, "-c", SCRIPT, mode, start],
            capture_output=True, text=True, check=True, env={**_environment(), "NUMPY_MADVISE_HUGEPAGE": "0"},
        )  # fmt: skip
        kept, *numbers = found.stdout.split()
        assert kept == str(mode == "keep")
        counts[mode] = [int(n) for n in numbers]
    pages = 3100 * 4088 * 4 // 4096
    # The first round fetches the pages of both images and of the zeros of one.
    assert counts["keep"][0] >= 2 * pages
    assert max(counts["keep"][1:]) < 0.02 * pages
    # What the setting is for: every round fetches them again.
    assert min(counts["plain"]) >= 2 * pages


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
