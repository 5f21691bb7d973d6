"""A small canvas with lines, text and images, and its encoding as PNG: nothing but numpy and zlib."""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np

Colour = tuple[int, int, int]
BLACK, WHITE, GREY, BLUE, RED = (0, 0, 0), (255, 255, 255), (170, 170, 170), (30, 80, 160), (190, 40, 40)
GLYPH_HEIGHT, GLYPH_STEP = 7, 6
"""Pixels of a character: height, and width with the gap to the next."""

# Seven rows of pixels per line of characters; characters are five pixels wide and one apart.
_FONT = (
    (
        "0123456789+-.,:",
        """
        .###. ..#.. .###. ##### ...#. ##### ..##. ##### .###. .###. ..... ..... ..... ..... .....
        #...# .##.. #...# ...#. ..##. #.... .#... ....# #...# #...# ..#.. ..... ..... ..... ..#..
        #..## ..#.. ....# ..#.. .#.#. ####. #.... ...#. #...# #...# ..#.. ..... ..... ..... .....
        #.#.# ..#.. ...#. ...#. #..#. ....# ####. ..#.. .###. .#### ##### ##### ..... ..... .....
        ##..# ..#.. ..#.. ....# ##### ....# #...# .#... #...# ....# ..#.. ..... ..... ..#.. .....
        #...# ..#.. .#... #...# ...#. #...# #...# .#... #...# ...#. ..#.. ..... ..#.. ..#.. ..#..
        .###. .###. ##### .###. ...#. .###. .###. .#... .###. .##.. ..... ..... ..#.. .#... .....
        """,
    ),
    (
        "ABCDEFGHIJKLM",
        """
        .###. ####. .###. ###.. ##### ##### .###. #...# .###. ..### #...# #.... #...#
        #...# #...# #...# #..#. #.... #.... #...# #...# ..#.. ...#. #..#. #.... ##.##
        #...# #...# #.... #...# #.... #.... #.... #...# ..#.. ...#. #.#.. #.... #.#.#
        ##### ####. #.... #...# ####. ####. #.### ##### ..#.. ...#. ##... #.... #.#.#
        #...# #...# #.... #...# #.... #.... #...# #...# ..#.. ...#. #.#.. #.... #...#
        #...# #...# #...# #..#. #.... #.... #...# #...# ..#.. #..#. #..#. #.... #...#
        #...# ####. .###. ###.. ##### #.... .###. #...# .###. .##.. #...# ##### #...#
        """,
    ),
    (
        "NOPQRSTUVWXYZ",
        """
        #...# .###. ####. .###. ####. .#### ##### #...# #...# #...# #...# #...# #####
        #...# #...# #...# #...# #...# #.... ..#.. #...# #...# #...# #...# #...# ....#
        ##..# #...# #...# #...# #...# #.... ..#.. #...# #...# #...# .#.#. .#.#. ...#.
        #.#.# #...# ####. #...# ####. .###. ..#.. #...# #...# #.#.# ..#.. ..#.. ..#..
        #..## #...# #.... #.#.# #.#.. ....# ..#.. #...# #...# #.#.# .#.#. ..#.. .#...
        #...# #...# #.... #..#. #..#. ....# ..#.. #...# .#.#. #.#.# #...# ..#.. #....
        #...# .###. #.... .##.# #...# ####. ..#.. .###. ..#.. .#.#. #...# ..#.. #####
        """,
    ),
    (
        "_/()=%[]'<> ",
        """
        ..... ....# ...#. .#... ..... ##... .###. .###. ..#.. ...#. .#... .....
        ..... ....# ..#.. ..#.. ..... ##..# .#... ...#. ..#.. ..#.. ..#.. .....
        ..... ...#. .#... ...#. ##### ...#. .#... ...#. ..... .#... ...#. .....
        ..... ..#.. .#... ...#. ..... ..#.. .#... ...#. ..... #.... ....# .....
        ..... .#... .#... ...#. ##### .#... .#... ...#. ..... .#... ...#. .....
        ..... #.... ..#.. ..#.. ..... #..## .#... ...#. ..... ..#.. ..#.. .....
        ##### #.... ...#. .#... ..... ...## .###. .###. ..... ...#. .#... .....
        """,
    ),
)


def _glyphs() -> dict[str, np.ndarray]:
    found = {}
    for characters, art in _FONT:
        rows = [line.split() for line in art.strip().splitlines()]
        for i, character in enumerate(characters):
            found[character] = np.array([[c == "#" for c in row[i]] for row in rows])
    return found


GLYPHS = _glyphs()


def png_bytes(pixels: np.ndarray) -> bytes:
    """Encode an image.

    Parameters
    ----------
    pixels : uint8[row, column, 3], red green blue, first row on top

    Notes
    -----
    PNG specification (ISO/IEC 15948:2003): 8-bit colour, filter 0 in every row, one IDAT chunk.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def ticks(low: float, high: float, number: int = 6) -> list[float]:
    """Round values between two limits, about `number` of them, steps of 1, 2 or 5 times a power of ten."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return []
    rough = (high - low) / number
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1.0, 2.0, 5.0, 10.0) if power * m >= rough)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


class Canvas:
    """A white sheet; x runs to the right, y downwards."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels = np.full((height, width, 3), 255, np.uint8)

    def text(self, x: int, y: int, words: str, colour: Colour = BLACK, align: str = "left") -> None:
        """Write `words` in capitals; (x, y) is the upper left corner, or upper middle or right as aligned."""
        width = GLYPH_STEP * len(words) - 1
        x -= {"left": 0, "centre": width // 2, "right": width}[align]
        for i, character in enumerate(words.upper()):
            glyph = GLYPHS.get(character, GLYPHS[" "])
            rows, columns = np.nonzero(glyph)
            self._dots(columns + x + GLYPH_STEP * i, rows + y, colour)

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: Colour = BLACK) -> None:
        """Straight line, ends included."""
        steps = int(max(abs(x1 - x0), abs(y1 - y0))) + 1
        self._dots(np.rint(np.linspace(x0, x1, steps + 1)), np.rint(np.linspace(y0, y1, steps + 1)), colour)

    def image(self, x: int, y: int, values: np.ndarray) -> None:
        """Put colours uint8[row, column, 3] with the upper left corner at (x, y); what sticks out is cut."""
        part = values[: self.pixels.shape[0] - y, : self.pixels.shape[1] - x]
        self.pixels[y : y + part.shape[0], x : x + part.shape[1]] = part

    def _dots(self, x: np.ndarray, y: np.ndarray, colour: Colour) -> None:
        x, y = x.astype(int), y.astype(int)
        inside = (x >= 0) & (x < self.pixels.shape[1]) & (y >= 0) & (y < self.pixels.shape[0])
        self.pixels[y[inside], x[inside]] = colour

    def frame(
        self,
        box: tuple[int, int, int, int],
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        x_label: str,
        y_label: str,
    ) -> None:
        """Axes around a box (left, top, right, bottom) with ticks, numbers and labels."""
        left, top, right, bottom = box
        for x0, y0, x1, y1 in (
            (left, top, right, top),
            (left, bottom, right, bottom),
            (left, top, left, bottom),
            (right, top, right, bottom),
        ):
            self.line(x0, y0, x1, y1)
        for value in ticks(*x_range, 8):
            x = left + (value - x_range[0]) / (x_range[1] - x_range[0]) * (right - left)
            self.line(x, bottom, x, bottom + 4)
            self.text(round(x), bottom + 7, f"{value:g}", align="centre")
        for value in ticks(*y_range, 5):
            y = bottom - (value - y_range[0]) / (y_range[1] - y_range[0]) * (bottom - top)
            self.line(left - 4, y, left, y)
            self.text(left - 7, round(y) - 3, f"{value:g}", align="right")
        self.text((left + right) // 2, bottom + 19, x_label, align="centre")
        self.text(left, top - 12, y_label)

    def curve(
        self,
        box: tuple[int, int, int, int],
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        y: np.ndarray,
        x: np.ndarray,
        colour: Colour = BLUE,
    ) -> None:
        """Polyline through the finite points, cut at the box."""
        left, top, right, bottom = box
        px = left + (x - x_range[0]) / (x_range[1] - x_range[0]) * (right - left)
        py = bottom - (y - y_range[0]) / (y_range[1] - y_range[0]) * (bottom - top)
        px, py = px.clip(left, right), py.clip(top, bottom)
        good = np.isfinite(px) & np.isfinite(py)
        for i in np.flatnonzero(good[:-1] & good[1:]):
            self.line(px[i], py[i], px[i + 1], py[i + 1], colour)
