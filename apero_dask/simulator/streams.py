"""Independent random streams: one per (seed, purpose, index), whatever else has been drawn before."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def stream(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Return the generator of one purpose.

    Parameters
    ----------
    seed : campaign seed, 0 or more
    purpose : name of what is drawn, e.g. ``cosmics``; different names never share numbers
    index : frame or night number, 0 or more

    Notes
    -----
    PCG64 seeded through ``numpy.random.SeedSequence`` with the triple (seed, CRC-32 of the name, index).
    Switching an effect off therefore leaves the numbers of all other effects unchanged, and the order in
    which processes work through a campaign has no influence.
    """
    import numpy as np

    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), index])
