"""What is looked for in another installation, and how its content is judged."""

from __future__ import annotations

from pathlib import Path

from apero_dask.assets.kinds import coverage
from apero_dask.assets.search import Checked, NotNeeded, Rule
from apero_dask.core.errors import DataError, Finding
from apero_dask.io.assets import WHOLE_FILE


def check_lamp(path: Path) -> Checked:
    """A catalogue of the uranium-neon lamp, in our form."""
    from apero_dask.assets.lamp import converted

    text, catalogue, kind = converted(path.read_text(encoding="utf-8-sig"), path.name)
    content = f"{catalogue.wave.size} lines, {coverage(catalogue.wave)}; {kind}"
    return Checked(content, text.encode())


def check_objects(path: Path) -> Checked:
    """An object table that our reader understands."""
    from apero_dask.io.assets import read_objects

    table = read_objects(path)
    _refuse_unusable(table.findings)
    if not table.rows:
        raise DataError("no usable object in it")
    left_out = sum(finding.code == "W-ASSET" for finding in table.findings)
    text = f"{len(table.rows)} objects"
    return Checked(text + (f"; {left_out} row(s) will be left out, see assets show" if left_out else ""))


def check_reject(path: Path) -> Checked:
    """A reject list that our reader understands."""
    from apero_dask.io.assets import read_reject

    rejects = read_reject(path)
    _refuse_unusable(rejects.findings)
    left_out = sum(finding.code == "W-ASSET" for finding in rejects.findings)
    text = f"{len(rejects.entries)} frames"
    return Checked(text + (f"; {left_out} row(s) will be left out, see assets show" if left_out else ""))


def check_transmission(path: Path) -> Checked:
    """A table of transmission that covers the instrument."""
    from apero_dask.assets.kinds import transmission_content

    return Checked(transmission_content(path))


def check_sky(path: Path) -> Checked:
    """Components of the night sky for the pixels of an instrument."""
    from apero_dask.assets.kinds import sky_content

    return Checked(sky_content(path))


def check_mask(path: Path) -> Checked:
    """A mask with lines in the orders of the instrument."""
    from apero_dask.instruments.base import instrument
    from apero_dask.recipes.line_mask import covers, read_mask

    mask = read_mask(path)
    inside = covers(mask, instrument("SPIROU"))
    return Checked(f"{mask.wave.size} lines, {inside} in the orders, {coverage(mask.wave)}")


def leave_hot_pixels(path: Path) -> Checked:
    """Hot pixels of another installation are never taken."""
    raise NotNeeded(
        "hot pixels age, and a list does not tell its orientation; make one from your darks with: "
        "apero-dask assets detector INSTRUMENT"
    )


def leave_lines(path: Path) -> Checked:
    """Lists of atmospheric lines that steer the fit of another program."""
    raise NotNeeded("the fit of the atmosphere here uses the whole spectrum and no list of lines")


def _refuse_unusable(findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        if WHOLE_FILE in finding.text:
            raise DataError(finding.text)


RULES: tuple[Rule, ...] = (
    Rule(
        "lines",
        ("catalogue_UNe.csv", "catalogue_UNe.dat", "lines_une.csv", "*_une_lines.csv", "catalogue_UNe*"),
        "lines/lines_une.csv",
        check_lamp,
    ),
    Rule("objects", ("objects.csv", "reset.astrom.csv", "reset.object.csv"), "objects.csv", check_objects),
    Rule("rejected", ("reject.csv", "reset.reject.csv", "odo_reject*.csv"), "reject.csv", check_reject),
    Rule("transmission", ("tapas_all_sp.fits", "transmission.fits"), "tellurics/{name}", check_transmission),
    Rule("transmission", ("tapas_all_sp.fits.gz",), "tellurics/{name}", check_transmission),
    Rule("sky", ("sky_PCs.fits",), "sky/sky_PCs.fits", check_sky),
    Rule("sky", ("sky_components.fits",), "sky/sky_components.fits", check_sky),
    Rule("transmission", ("trans_*_abso_ccf.mas",), "tellurics/{name}", leave_lines),
    Rule("masks", ("*.mas",), "masks/{name}", check_mask),
    Rule("masks", ("*.fits",), "masks/{name}", check_mask, ("ccf", "mask")),
    Rule("detector", ("hotpix*.csv",), "detector/{name}", leave_hot_pixels),
)
"""The first rule that fits the name of a file decides."""
