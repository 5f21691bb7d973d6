"""Every declared option does something, or says why it does not."""

from __future__ import annotations

import pytest

import apero_dask.recipes  # noqa: F401 - registers them
from apero_dask.core.declare import Option, Recipe, registered
from tests.recipes.optionreads import asked

CALIBRATION = ("calibration", "calibration_image", "calibration_table")
ALL = [(name, option.name) for name, recipe in registered().items() for option in recipe.options]


def is_read(recipe: Recipe, option: Option) -> bool:
    """Whether the body asks for the option, or for the calibration that it replaces."""
    if recipe.body is None:
        return False
    if option.name in asked(recipe.body, "option"):
        return True
    replaced = any(option.calibration in select.kinds for select in recipe.selects)
    return replaced and any(option.calibration in asked(recipe.body, method) for method in CALIBRATION)


@pytest.mark.parametrize(("name", "option"), ALL)
def test_option_has_an_effect_or_a_reason(name: str, option: str) -> None:
    """A body reads it, or the declaration says what acts on it, that it changes nothing, or that it cannot
    be granted; what a body reads has no such excuse, save where the planner acts on it too.
    """
    recipe = registered()[name]
    declared = recipe.option(option)
    assert declared is not None
    excuses = [text for text in (declared.elsewhere, declared.no_effect, declared.refused) if text]
    if is_read(recipe, declared):
        assert not declared.no_effect and not declared.refused
    else:
        assert len(excuses) == 1, f"--{option} of {name} is declared and nothing reads it"


def test_reading_is_recognised() -> None:
    """The judge sees direct reads, reads through functions and loops, and misses none that is not there."""
    recipes = registered()
    extract, ff = recipes["cal_extract"], recipes["cal_ff"]
    options = {option.name: option for option in (*extract.options, *ff.options)}
    for name in ("thermal", "badcorr", "darkfile", "shapex", "thermalfile", "e2dsll", "fiber"):
        assert is_read(extract, options[name]), name
    for name in ("combine", "flipimage", "no_in_qc"):
        assert not is_read(extract, options[name]), name
    assert not is_read(ff, Option("thermalfile", "file", calibration="THERMALT"))
    assert is_read(recipes["cal_ccf"], Option("step", "float"))
