"""README and picture: what they name is there, and the drawing of the picture works."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    """The script, imported."""
    spec = importlib.util.spec_from_file_location("draw_demo", ROOT / "docs" / "draw_demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["draw_demo"] = module
    spec.loader.exec_module(module)
    return module


def test_files_that_the_readme_names_are_there() -> None:
    linked = re.findall(r"\]\((?!https?:|#)([^)]+)\)", README)
    quoted = re.findall(r"`((?:slurm|runfiles|docs|apero_dask)/[A-Za-z0-9_./-]+)`", README)
    assert linked and quoted
    for name in (*linked, *quoted):
        assert (ROOT / name).exists(), name


def test_headings_that_the_readme_links_to_are_there() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in README.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


def test_commands_of_the_readme_exist() -> None:
    from apero_dask.cli.options import parse
    from apero_dask.cli.tools import build_parser

    actions = next(a for a in build_parser()._actions if a.dest == "command")
    named = set(re.findall(r"^ +apero-dask ([a-z-]+)", README, re.MULTILINE))
    assert named and named <= set(actions.choices or ())
    for line in re.findall(r"^ +apero_processing (.*?)(?: +#.*)?$", README, re.MULTILINE):
        parse(line.split())


def test_the_picture_is_well_formed_and_small() -> None:
    path = ROOT / "docs" / "demo.svg"
    root = ElementTree.parse(path).getroot()
    words = " ".join(text.text or "" for text in root.iter(f"{SVG}text"))
    assert "corrected for the atmosphere" in words and "injected" in words
    assert len(list(root.iter(f"{SVG}polyline"))) >= 5
    assert path.stat().st_size < 60_000


def test_a_line_is_broken_where_a_value_is_missing(drawing: ModuleType) -> None:
    panel = drawing.Panel(10, 20, 100, 50, (0.0, 10.0), (0.0, 1.0))
    x = np.arange(11.0)
    y = np.where((x == 4) | (x == 5), np.nan, x / 10.0)
    panel.line(x, y, "red")
    assert len(panel.parts) == 2
    points = [re.findall(r"([\d.]+),([\d.]+)", part) for part in panel.parts]
    assert [len(part) for part in points] == [4, 5]
    # Left bottom corner of the panel is (10, 70) on the page, whose y axis points down.
    assert points[0][0] == ("10.0", "70.0") and points[1][-1] == ("110.0", "20.0")


def test_names_of_objects_cannot_break_the_picture(drawing: ModuleType) -> None:
    panel = drawing.Panel(10, 20, 100, 50, (0.0, 10.0), (0.0, 1.0))
    text = drawing.page([panel.drawn("<script> & co", "nm", [5.0], [0.5])])
    root = ElementTree.fromstring(text)
    assert "<script> & co" in [element.text for element in root.iter(f"{SVG}text")]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2255.3, 2265.9), (-131.0, 131.0), (0.87, 1.01)])
def test_ticks_are_few_round_and_inside(drawing: ModuleType, low: float, high: float) -> None:
    found = drawing.ticks(low, high)
    assert 2 <= len(found) <= 7
    assert low <= min(found) and max(found) <= high
    steps = np.diff(found)
    assert np.allclose(steps, steps[0])
    mantissa = steps[0] / 10.0 ** np.floor(np.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - k) for k in (1, 2, 5, 10)) < 1e-6


def test_opaque_orders_are_not_drawn(drawing: ModuleType) -> None:
    x = np.linspace(0.0, 1.0, 100)
    assert drawing.structure(0.9 + 0.05 * np.sin(20 * x)) > 0.03
    assert drawing.structure(0.3 + 0.3 * np.sin(20 * x)) == -1.0
    assert drawing.structure(np.full(100, np.nan)) == -1.0


def test_without_a_reduction_it_says_what_to_do(drawing: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run make demo first"):
        drawing.draw(tmp_path)
