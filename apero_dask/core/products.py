"""Product kinds: names of files, trees, lifetime and database of everything a recipe writes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from apero_dask.core.ids import night_folder

MASTER = "master"
NIGHT = "night"


class Life(StrEnum):
    """How long and for whom a product is valid."""

    REFERENCE = "reference"
    """One per reduction, no age limit."""
    NIGHTLY = "nightly"
    """Under the age limit, chosen by distance in time."""
    FRAME = "frame"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class ProductKind:
    """One row of the product table."""

    key: str
    suffix: str
    """File name after the stem; ``{F}`` stands for the fibre, ``{M}`` for the mask."""
    life: Life
    database: str = ""
    """calib, tellu or empty."""
    outid: str = ""
    """Value of DRSOUTID."""
    stem: str = "pp"
    """pp: ``{id}_pp`` comes first; input: the whole name of the input file; object: nothing."""

    def file_name(self, stem: str, fibre: str = "", mask: str = "") -> str:
        """Base name for ``stem``: identifier, input stem or object name, according to the kind.

        >>> KINDS["TCORR"].file_name("2295651o", "AB")
        '2295651o_pp_e2dsff_tcorr_AB.fits'
        """
        text = self.suffix.replace("{F}", fibre).replace("{M}", mask)
        if self.stem == "pp":
            return f"{stem}_pp{text}.fits"
        if self.stem == "object":
            return text.replace("{OBJ}", stem) + ".fits"
        return f"{stem}{text}.fits"


def _rows() -> tuple[ProductKind, ...]:
    ref, nightly, frame, obj = Life.REFERENCE, Life.NIGHTLY, Life.FRAME, Life.OBJECT
    kind = ProductKind
    return (
        kind("PP", "", frame, "", "DRS_PP"),
        kind("DARKM", "_dark_master", ref, "calib", "DARKM"),
        kind("BADPIX", "_badpixel", nightly, "calib", "BADPIX"),
        kind("BKGRDMAP", "_bmap", nightly, "calib", "BKGRD_MAP"),
        kind("ORDER_PROFILE", "_order_profile_{F}", nightly, "calib", "LOC_ORDERP"),
        kind("LOC", "_loco_{F}", nightly, "calib", "LOC_LOCO"),
        kind("LOCFWHM", "_fwhm-order_{F}", nightly, "", "LOC_FWHM"),
        kind("LOCWITH", "_with-order_{F}", nightly, "", "LOC_SUP"),
        kind("SHAPEX", "_shapex", ref, "calib", "SHAPE_X"),
        kind("SHAPEY", "_shapey", ref, "calib", "SHAPE_Y"),
        kind("FPMASTER", "_fpmaster", ref, "calib", "MASTER_FP"),
        kind("SHAPEL", "_shapel", nightly, "calib", "SHAPEL"),
        kind("FLAT", "_flat_{F}", nightly, "calib", "FF_FLAT"),
        kind("BLAZE", "_blaze_{F}", nightly, "calib", "FF_BLAZE"),
        kind("THERMALI", "_thermal_e2ds_int_{F}", nightly, "calib", "THERMALI_E2DS"),
        kind("THERMALT", "_thermal_e2ds_tel_{F}", nightly, "calib", "THERMALT_E2DS"),
        kind("LEAKM", "_leak_master_{F}", ref, "calib", "LEAKM_E2DS"),
        kind("WAVEM", "_e2dsff_AB_wavem_fp_{F}", ref, "calib", "WAVEM_FP"),
        kind("WAVECAV", "_wavem_cav", ref, "calib", "WAVECAV"),
        kind("WAVEHCL", "_wavem_hclines_{F}", ref, "calib", "WAVE_HCLIST"),
        kind("WAVEFPL", "_wavem_fplines_{F}", ref, "calib", "WAVE_FPLIST"),
        kind("WAVR_E2DS", "_wavem_res_e2ds_{F}", ref, "calib", "WAVEM_RES_E2DS"),
        kind("WAVE0", "", ref, "calib", "WAVE_DEFAULT"),
        kind("LEAK0", "", ref, "calib", "LEAK_DEFAULT"),
        kind("WAVE", "_e2dsff_{F}_wave_night_{F}", nightly, "calib", "WAVE_NIGHT"),
        kind("WAVENHCL", "_wave_hclines_{F}", nightly, "", "WAVE_HCLIST"),
        kind("WAVENFPL", "_wave_fplines_{F}", nightly, "", "WAVE_FPLIST"),
        kind("E2DS", "_e2ds_{F}", frame, "", "EXT_E2DS"),
        kind("E2DSFF", "_e2dsff_{F}", frame, "", "EXT_E2DS_FF"),
        kind("E2DSLL", "_e2dsll_{F}", frame, "", "EXT_E2DS_LL"),
        kind("S1D_W", "_s1d_w_{F}", frame, "", "EXT_S1D_W"),
        kind("S1D_V", "_s1d_v_{F}", frame, "", "EXT_S1D_V"),
        kind("EXT_FPLIST", "_e2ds_C_ext_fplines_{F}", frame, "", "EXT_FPLIST"),
        kind("LCORR", "_e2dsff_lcorr_{F}", frame, "", "EXT_E2DS_FF"),
        kind("LCORR_S1D_W", "_s1d_w_lcorr_{F}", frame, "", "EXT_S1D_W"),
        kind("LCORR_S1D_V", "_s1d_v_lcorr_{F}", frame, "", "EXT_S1D_V"),
        kind("TRANS1", "_tellu_trans_p1_{F}", frame, "tellu", "TELLU_TRANS"),
        kind("TRANS2", "_tellu_trans_{F}", frame, "tellu", "TELLU_TRANS"),
        kind("TCORR1", "_e2dsff_tcorr_p1_{F}", frame, "tellu", "TELLU_OBJ"),
        kind("TCORR1_S1D_W", "_s1d_w_tcorr_p1_{F}", frame, "", "SC1D_W_FILE"),
        kind("TCORR1_S1D_V", "_s1d_v_tcorr_p1_{F}", frame, "", "SC1D_V_FILE"),
        kind("TCORR", "_e2dsff_tcorr_{F}", frame, "tellu", "TELLU_OBJ"),
        kind("TCORR_S1D_W", "_s1d_w_tcorr_{F}", frame, "", "SC1D_W_FILE"),
        kind("TCORR_S1D_V", "_s1d_v_tcorr_{F}", frame, "", "SC1D_V_FILE"),
        kind("RECON1", "_e2dsff_recon_p1_{F}", frame, "tellu", "TELLU_RECON"),
        kind("RECON1_S1D_W", "_s1d_w_recon_p1_{F}", frame, "", "RC1D_W_FILE"),
        kind("RECON1_S1D_V", "_s1d_v_recon_p1_{F}", frame, "", "RC1D_V_FILE"),
        kind("RECON", "_e2dsff_recon_{F}", frame, "tellu", "TELLU_RECON"),
        kind("RECON_S1D_W", "_s1d_w_recon_{F}", frame, "", "RC1D_W_FILE"),
        kind("RECON_S1D_V", "_s1d_v_recon_{F}", frame, "", "RC1D_V_FILE"),
        kind("PCLEAN1", "_tellu_pclean_p1_{F}", frame, "tellu", "TELLU_PCLEAN"),
        kind("PCLEAN", "_tellu_pclean_{F}", frame, "tellu", "TELLU_PCLEAN"),
        kind("MODEL1", "trans_model_p1_{F}", obj, "tellu", "TRANS_MODEL", "object"),
        kind("MODEL2", "trans_model_{F}", obj, "tellu", "TRANS_MODEL", "object"),
        kind("TEMPLATE", "Template_{OBJ}_tellu_obj_{F}", obj, "tellu", "TELLU_TEMP", "object"),
        kind("TEMPLATE_W", "Template_s1dw_{OBJ}_sc1d_w_file_{F}", obj, "tellu", "TELLU_TEMP_S1DW", "object"),
        kind("TEMPLATE_V", "Template_s1dv_{OBJ}_sc1d_v_file_{F}", obj, "tellu", "TELLU_TEMP_S1DV", "object"),
        kind("BIGCUBE", "BigCube_{OBJ}_tellu_obj_{F}", obj, "", "TELLU_BIGCUBE", "object"),
        kind("BIGCUBE0", "BigCube0_{OBJ}_tellu_obj_{F}", obj, "", "TELLU_BIGCUBE0", "object"),
        kind("CCF", "_ccf_{M}_{F}", frame, "", "CCF_RV", "input"),
        kind("CCF_FP", "_ccf_{M}_{F}", frame, "", "CCF_RV", "input"),
        kind("POST_E", "e", frame, "", "DRS_POST_E", "odometer"),
        kind("POST_S", "s", frame, "", "DRS_POST_S", "odometer"),
        kind("POST_T", "t", frame, "", "DRS_POST_T", "odometer"),
        kind("POST_V", "v", frame, "", "DRS_POST_V", "odometer"),
    )


KINDS: dict[str, ProductKind] = {row.key: row for row in _rows()}
"""Product kinds by database key."""

REFERENCE_DEFAULTS = {"WAVEM": "WAVE0", "LEAKM": "LEAK0"}
"""Shipped default of a reference kind."""


VELOCITY_FOLDER = "rv"
"""Folder of the reduced tree with the velocities of every object; no run makes them, they follow from the
products of all."""


def folder(tree: str, tier: str, obs_dir: str, life: Life) -> str:
    """Folder of a product below the data root, with ``/`` at the end.

    >>> folder("reduced", "master", "2018-09-25", Life.NIGHTLY)
    'reduced/master/2018-09-25/'
    """
    if life is Life.OBJECT:
        return f"{tree}/other/"
    return f"{tree}/master/{obs_dir}/" if tier == MASTER else f"{tree}/{obs_dir}/"


def registered_name(tier: str, obs_dir: str, name: str) -> str:
    """Name of a file in calibDB or telluDB; both tiers may share base names, the prefix tells them apart.

    >>> registered_name("master", "2018-09-25", "2320015f_pp_badpixel.fits")
    'master_2018-09-25_2320015f_pp_badpixel.fits'
    """
    night = night_folder(obs_dir)
    prefix = f"master_{night}" if tier == MASTER else night
    return f"{prefix}_{name}" if prefix else name
