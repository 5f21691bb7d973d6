"""Derive the order tables of SPIROU_MINI from those of SPIROU.

Run ``python -m apero_dask.tables.derive_mini`` after a change of the full tables or
of the ``[derivation]`` section of ``spirou_mini.toml``; a test compares the result with the packaged
files.  The small instrument keeps twelve of the real echelle orders:

* wavelength: the real solution in a window of the small detector's width around
  the middle of the real order, at the real dispersion (2.28 km/s per pixel), so that a
  Fabry-Perot peak or a stellar line has the same width in pixels;
* trace: the real curve, compressed along the dispersion to the small width and
  by ``trace_compression`` across it, re-based on closer order positions; the separation
  of the three fibres in mid-order is the real one;
* free spectral range: the real one divided by ``blaze_compression``, so that the
  blaze falls to zero inside the detector as it does in the blue half of the real one.
"""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import numpy as np
from numpy.polynomial import chebyshev

HERE = Path(__file__).parent
FULL_NX = 4088


def read_rows(name: str) -> list[dict[str, str]]:
    """Rows of one packaged CSV table, comment lines left out."""
    with (HERE / name).open(encoding="utf-8") as stream:
        return list(csv.DictReader(line for line in stream if not line.startswith("#")))


def rebase(coefficients: list[float], x0: float, scale: float, nx: int) -> np.ndarray:
    """Express a Chebyshev series on [0, FULL_NX] in the small detector's column.

    The series is a polynomial in X = x0 + scale * x; interpolation at as many nodes as it
    has coefficients is exact to rounding.
    """
    n = len(coefficients)
    nodes = np.cos(np.pi * (np.arange(n) + 0.5) / n)
    x = (nodes + 1) * nx / 2
    values = chebyshev.chebval(2 * (x0 + scale * x) / FULL_NX - 1, coefficients)
    return np.linalg.solve(chebyshev.chebvander(nodes, n - 1), values)


def derive() -> dict[str, str]:
    """Text of the three derived tables by file name."""
    with (HERE / "spirou_mini.toml").open("rb") as stream:
        toml = tomllib.load(stream)
    rule, nx = toml["derivation"], toml["cal"]["nx"]
    echelles, bases = toml["orders"]["echelle"], rule["trace_base"]
    middle_full, middle = FULL_NX / 2, nx / 2
    blaze, curve = rule["blaze_compression"], rule["trace_compression"]

    header = "# derived from the table of SPIROU by derive_mini.py; do not edit\n"
    wave = [header + "fibre,echelle," + ",".join(f"c{j}_nm" for j in range(6))]
    for row in read_rows("spirou_wave.csv"):
        if int(row["echelle"]) in echelles:
            full = [float(row[f"c{j}_nm"]) for j in range(6)]
            new = rebase(full, middle_full - middle, 1.0, nx)
            wave.append(f"{row['fibre']},{row['echelle']}," + ",".join(f"{c:.12e}" for c in new))

    trace_rows = {(r["fibre"], int(r["echelle"])): r for r in read_rows("spirou_trace.csv")}
    names = [f"y{j}_px" for j in range(5)] + [f"w{j}_px" for j in range(3)]
    trace = [header + "fibre,echelle," + ",".join(names)]
    scale = FULL_NX / nx
    for fibre in "ABC":
        for echelle, base in zip(echelles, bases, strict=True):
            row, row_b = trace_rows[fibre, echelle], trace_rows["B", echelle]
            y = [float(row[f"y{j}_px"]) for j in range(5)]
            y_middle = chebyshev.chebval(0.0, y)
            y_middle_b = chebyshev.chebval(0.0, [float(row_b[f"y{j}_px"]) for j in range(5)])
            new = rebase(y, 0.0, scale, nx) / curve
            new[0] += base + (y_middle - y_middle_b) - y_middle / curve
            width = rebase([float(row[f"w{j}_px"]) for j in range(3)], 0.0, scale, nx)
            values = [f"{c:.10e}" for c in new] + [f"{c:.8e}" for c in width]
            trace.append(f"{fibre},{echelle}," + ",".join(values))

    order_rows = {int(r["echelle"]): r for r in read_rows("spirou_orders.csv")}
    columns = list(next(iter(order_rows.values())))
    orders = [header + ",".join(columns)]
    for echelle in echelles:
        row = dict(order_rows[echelle])
        row["fsr_px"] = f"{float(row['fsr_px']) / blaze:.2f}"
        orders.append(",".join(row[c] for c in columns))
    return {
        "spirou_mini_wave.csv": "\n".join(wave) + "\n",
        "spirou_mini_trace.csv": "\n".join(trace) + "\n",
        "spirou_mini_orders.csv": "\n".join(orders) + "\n",
    }


if __name__ == "__main__":
    for name, text in derive().items():
        (HERE / name).write_text(text, encoding="utf-8")
