"""cal_wave_master and cal_wave_night: wavelength solutions from hollow cathode and Fabry-Perot."""

from __future__ import annotations

from dataclasses import replace

from apero_dask.core.declare import Group, Makes, Option, Recipe, Resources, Select, register
from apero_dask.recipes.options import (
    ALL_FIBRES,
    BLAZE,
    CALIBRATION,
    EXTRACTION_SET,
    FIBRES,
    FORCE,
    GENERAL,
    LOCO,
    PROFILE,
    SHAPES,
    frames,
    without_effect,
)
from apero_dask.recipes.wave_run import cal_wave_master, cal_wave_night

LAMPS = (frames("hcfiles", "HCONE_HCONE"), frames("fpfiles", "FP_FP"))
CATALOGUE = "lines/lines_une.csv"

LAMP_SPECTRA = (
    without_effect(BLAZE, "positions of peaks and lines do not need it"),
    LOCO,
    PROFILE,
    *SHAPES,
    ALL_FIBRES,
)
START = Option("wavefile", "file", calibration="WAVE0", help="wavelength solution to start from")

CAL_WAVE_MASTER = register(
    Recipe(
        name="cal_wave_master",
        short="WAVEM",
        scripts=("apero_wave_ref",),
        group=Group.NIGHT,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=LAMPS,
        selects=(*EXTRACTION_SET, Select(("THERMALI",)), Select(("WAVE0",))),
        makes=(
            Makes("WAVEM", FIBRES),
            Makes("WAVECAV"),
            Makes("WAVEHCL", FIBRES),
            Makes("WAVEFPL", FIBRES),
            Makes("WAVR_E2DS", ("AB",)),
        ),
        options=(
            *GENERAL,
            *CALIBRATION,
            *LAMP_SPECTRA,
            START,
            FORCE,
            Option("hcmode", "int", 0, no_effect="there is one method", help="accepted, one method"),
            Option("fpmode", "int", 0, no_effect="there is one method", help="accepted, one method"),
            Option("cavityfile", "file", calibration="WAVECAV", help="starting cavity"),
        ),
        resources=Resources(memory_gb=3.0, seconds=30.0, per_input_s=0.5),
        reads=(CATALOGUE,),
        body=cal_wave_master,
    )
)

CAL_WAVE_NIGHT = register(
    Recipe(
        name="cal_wave_night",
        short="WAVE",
        scripts=("apero_wave_night",),
        group=Group.NIGHT,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=LAMPS,
        selects=(*EXTRACTION_SET, Select(("THERMALI",)), Select(("WAVEM", "WAVECAV", "WAVEHCL"))),
        makes=(Makes("WAVE", FIBRES), Makes("WAVENHCL", FIBRES), Makes("WAVENFPL", FIBRES)),
        options=(*GENERAL, *CALIBRATION, *LAMP_SPECTRA, replace(START, calibration="WAVEM"), FORCE),
        resources=Resources(memory_gb=3.0, seconds=22.0, per_input_s=0.5),
        reads=(CATALOGUE,),
        stratum=5,
        body=cal_wave_night,
    )
)
