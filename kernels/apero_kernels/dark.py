"""High-pass of darks: what a pixel has beyond its neighbours along the row."""

from __future__ import annotations

import numpy as np

from apero_kernels.contracts import check_float, check_output
from apero_kernels.running import EIGHT, running_median


def subtract_neighbours(image: np.ndarray, out: np.ndarray) -> None:
    """Write the image minus the median of the four pixels on either side.

    Smooth light varies with the temperature of the fibre train and has no place in a reference dark; hot
    pixels and the structure of the amplifiers remain.  Groups of hot pixels longer than four pixels along
    the row are weakened: keep the unfiltered dark beside this one.

    Parameters
    ----------
    image : floating[y, x]
        Dark, ADU/s; NaN takes no part.
    out : floating[y, x]
        Written; NaN where the pixel or all its neighbours are.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape; `out` shares memory with `image`.
    """
    check_float("image", image, 2)
    check_output("out", out, image.shape)
    running_median(image, np.array(EIGHT), out)
    np.subtract(image, out, out=out)
