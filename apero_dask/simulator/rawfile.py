"""Raw files as bytes: primary header, four ramp planes, and the ways in which a file can be broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from apero_dask.simulator.cards import BLOCK, Card, header_bytes
from apero_dask.simulator.headers import Camera, header_cards
from apero_dask.simulator.spec import FrameSpec

if TYPE_CHECKING:
    import numpy as np

PLANES = (("slope", "ADU/s"), ("intercept", "ADU"), ("errslope", "ADU/s"), ("count", "read"))
"""Name and unit of the four image extensions, in order."""


def primary_header(spec: FrameSpec, camera: Camera, extensions: int) -> bytes:
    """Bytes of the primary unit, which holds no image."""
    return header_bytes(
        [
            ("SIMPLE", True, "Standard FITS file"),
            ("BITPIX", 16, "Bits per pixel of the empty primary array"),
            ("NAXIS", 0, "No image in the primary unit"),
            ("EXTEND", True, "Extensions may follow"),
            *header_cards(spec, camera, extensions),
        ]
    )


def frame_bytes(
    spec: FrameSpec, camera: Camera, planes: Sequence[np.ndarray] = ()
) -> list[bytes | memoryview]:
    """Pieces of a raw file, in order.

    Parameters
    ----------
    spec : the exposure; its faults decide what is wrong with the file
    camera : constants for the header
    planes : float32 slope (ADU/s), intercept (ADU) and slope error (ADU/s), int16 number of reads, each
        ``[raw row, raw column]``; empty for a file of one header
    """
    if "zero_bytes" in spec.faults:
        return [b""]
    if "not_fits" in spec.faults:
        return [b"transfer of this frame failed\n" * 100]
    if "no_extensions" in spec.faults:
        planes = ()
    header = primary_header(spec, camera, len(planes))
    if "not_utf8" in spec.faults:
        header = header.replace(b"/ Observer", b"/ Observ\xe9r", 1)
    pieces: list[bytes | memoryview] = [header]
    for plane, (name, unit) in zip(planes, PLANES, strict=False):
        pieces += image_unit(plane, name, unit)
    if "truncated" in spec.faults:
        whole = b"".join(pieces)
        return [whole[: len(whole) // 2 + 17]]
    return pieces


def image_unit(
    image: np.ndarray, name: str, unit: str = "", cards: Sequence[Card] = ()
) -> list[bytes | memoryview]:
    """Header and data of one image extension.

    Parameters
    ----------
    image : uint8, int16, int32, int64, float32 or float64, any shape; axes as in numpy, slowest first
    name : EXTNAME
    unit : BUNIT, left out when empty
    cards : further cards
    """
    bitpix = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}[image.dtype.str[1:]]
    header: list[Card] = [
        ("XTENSION", "IMAGE", "Image extension"),
        ("BITPIX", bitpix, "Bits per pixel"),
        ("NAXIS", image.ndim, "Number of axes"),
        *[(f"NAXIS{i + 1}", n, "Length of axis") for i, n in enumerate(reversed(image.shape))],
        ("PCOUNT", 0, "No parameters"),
        ("GCOUNT", 1, "One group"),
        ("EXTNAME", name, "Name of the extension"),
    ]
    if unit:
        header.append(("BUNIT", unit, "Unit of the values"))
    data = image.astype(image.dtype.newbyteorder(">"), order="C")
    pieces: list[bytes | memoryview] = [header_bytes([*header, *cards]), memoryview(data).cast("B")]
    missing = -data.nbytes % BLOCK
    if missing:
        pieces.append(bytes(missing))
    return pieces
