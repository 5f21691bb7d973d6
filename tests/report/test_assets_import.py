"""assets import: trees as other installations have them, real and broken, through the command."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from apero_dask.assets.kinds import built_in
from apero_dask.assets.lamp import NEON_AIR, vacuum
from apero_dask.cli.assets import known_names
from apero_dask.instruments import instrument
from apero_dask.io.fitswriter import Table, write_fits
from apero_dask.recipes.sky_emission import read_sky
from apero_dask.recipes.wave_catalogue import load_catalogue
from apero_dask.recipes.wave_maps import first_guess
from tests.report.reduction import Answer, Root

MINI = instrument("SPIROU_MINI")
DESIGN = Path(__file__).resolve().parents[3] / "shared" / "design"
"""Real lists that may lie beside the checkout; they are not part of it."""


def catalogue(kind: str = "vacuum", header: str = "wavelength,strength,ID", size: int = 400) -> str:
    """Lamp catalogue as other programs write it: random lines and the strong neon lines."""
    rng = np.random.default_rng(11)
    neon = np.array(NEON_AIR) if kind == "air" else vacuum(np.array(NEON_AIR))
    wave = np.sort(np.concatenate([rng.uniform(965.0, 2500.0, size), neon if kind != "random" else []]))
    rows = [f"{w:.6f},{s:.1f},@X" for w, s in zip(wave, rng.uniform(1e3, 1e6, wave.size), strict=True)]
    return "\n".join(([header] if header else []) + rows) + "\n"


def installation(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write files into an installation."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def take(root: Path, source: Path, *options: str) -> Answer:
    return Root(root).ask("assets", "import", str(source), *options)


def test_the_catalogue_is_found_converted_and_used(tmp_path: Path) -> None:
    source = installation(tmp_path / "apero", {"data/spirou/calib/catalogue_UNe.csv": catalogue()})
    answer = take(tmp_path / "data", source)
    assert answer.status == 0, answer.err
    assert "13 of 13 strong neon lines found at their vacuum wavelengths" in answer.out
    found = load_catalogue(tmp_path / "data" / "assets")
    assert found.origin == "lines/lines_une.csv" and found.wave.size == 413
    # The wavelengths are those of the text, sorted: nothing is rounded on the way.
    written = [float(row.split(",")[0]) for row in catalogue().splitlines()[1:]]
    assert found.wave.tolist() == sorted(written)
    shown = Root(tmp_path / "data").ask("assets", "show")
    assert shown.status == 0
    (line,) = shown.lines("lines/lines_une.csv ")
    assert line.startswith("lines") and "413 lines" in line


@pytest.mark.parametrize(
    "text",
    [
        catalogue(header=""),
        catalogue(header="ll,amp,kind"),
        catalogue(header="ll,amp,kind").replace(",", "\t"),
        "\ufeff# made elsewhere\r\n" + catalogue().replace("\n", "\r\n"),
    ],
    ids=["no header", "old names", "tabs", "comments and CRLF"],
)
def test_older_forms_of_the_catalogue_are_read(tmp_path: Path, text: str) -> None:
    source = installation(tmp_path / "apero", {"catalogue_UNe.dat": text})
    assert take(tmp_path, source).status == 0
    assert load_catalogue(tmp_path / "assets").wave.size == 413


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (catalogue("air"), "wavelengths in air, expected vacuum"),
        (catalogue(size=20), "33 lines with a strength, expected at least 50"),
        ("a,b\n1,2\n", "expected one called wave_vac_nm or wavelength"),
        (catalogue().replace(",@X", "", 1).replace("@X\n", "@X\nhalf a li", 1), "expected wavelength and"),
        ("", "holds no line"),
        (b"\x89PNG\xff\xfe", "not a text file"),
        ("\n".join(f"{w * 10},1" for w in np.linspace(965, 2400, 99)), "expected nm"),
    ],
    ids=["air", "few", "columns", "cut", "empty", "binary", "angstrom"],
)
def test_a_bad_catalogue_is_refused_and_nothing_is_written(
    tmp_path: Path, content: str | bytes, words: str
) -> None:
    source = installation(tmp_path / "apero", {"catalogue_UNe.csv": content})
    answer = take(tmp_path / "data", source)
    assert answer.status == 1
    assert "refused" in answer.out and words in answer.out
    assert not (tmp_path / "data").exists()


def test_a_list_without_neon_is_taken_on_trust(tmp_path: Path) -> None:
    source = installation(tmp_path / "apero", {"catalogue_UNe.csv": catalogue("random")})
    assert "vacuum taken on trust" in take(tmp_path, source).out


def test_lines_without_strength_are_left_out(tmp_path: Path) -> None:
    text = catalogue() + "2416.2544,0.0,@X\n2417.5,nan,@X\n"
    source = installation(tmp_path / "apero", {"catalogue_UNe.csv": text})
    assert "2 without strength left out" in take(tmp_path, source).out
    assert load_catalogue(tmp_path / "assets").wave.size == 413


def test_what_is_there_is_replaced_on_request_only(tmp_path: Path) -> None:
    source = installation(tmp_path / "apero", {"catalogue_UNe.csv": catalogue()})
    target = tmp_path / "assets" / "lines" / "lines_une.csv"
    installation(tmp_path, {"assets/lines/lines_une.csv": "mine"})
    refused = take(tmp_path, source)
    assert refused.status == 1 and "--force replaces it" in refused.out
    assert target.read_text(encoding="utf-8") == "mine"
    assert take(tmp_path, source, "--force", "--dry-run").status == 0
    assert target.read_text(encoding="utf-8") == "mine"
    assert "replaces what was there" in take(tmp_path, source, "--force").out
    assert target.read_text(encoding="utf-8") != "mine"
    again = take(tmp_path, source)
    assert again.status == 0 and "is there" in again.out
    assert sorted(path.name for path in target.parent.iterdir()) == ["lines_une.csv"]


def test_the_best_of_several_is_taken_and_the_others_are_named(tmp_path: Path) -> None:
    source = installation(
        tmp_path / "apero",
        {
            "spirou/calib/catalogue_UNe.csv": catalogue(),
            "spirou/calib/catalogue_UNe_long.csv": catalogue(size=500),
            "copy/catalogue_UNe.csv": catalogue(),
            "nirps_ha/calib/catalogue_UNe.csv": catalogue(size=300),
        },
    )
    answer = take(tmp_path, source)
    assert answer.status == 0
    assert len(answer.lines("taken  ")) == 1 and len(answer.lines("left  ")) == 3
    assert answer.lines("a copy of") and answer.lines("another one was taken")
    assert answer.lines("belongs to another instrument (folder nirps_ha)")
    assert load_catalogue(tmp_path / "assets").wave.size == 413


def test_object_table_and_reject_list_come_with_it(tmp_path: Path) -> None:
    source = installation(
        tmp_path / "apero",
        {
            "databases/reset.astrom.csv": "OBJNAME,ALIASES,RA_DEG,PMRA\nGL699,Gl 699|BARNARD,269.45,-802.8\n",
            "reject.csv": "IDENTIFIER,PP,TEL,RV\n2400416c,True,False,False\nnonsense,1,1,1\n",
        },
    )
    answer = take(tmp_path, source)
    assert answer.status == 0, answer.out
    assert answer.lines("1 objects") and answer.lines("1 frames; 1 row(s) will be left out")
    shown = Root(tmp_path).ask("assets", "show")
    assert shown.lines("1 objects, ") and shown.lines("1 frames (1 for PP")
    assert "nonsense" in shown.err


def test_known_files_without_a_place_here_are_left(tmp_path: Path) -> None:
    source = installation(
        tmp_path / "apero",
        {
            "engineering/hotpix_pp.csv": "nsig,xpix,ypix\n9,1,2\n",
            "telluric/trans_h2o_abso_ccf.mas": "1000.0 1000.0 0.5\n",
        },
    )
    answer = take(tmp_path, source)
    assert answer.status == 0 and len(answer.lines("left ")) == 2
    assert "assets detector" in answer.out and "uses the whole spectrum" in answer.out
    assert not (tmp_path / "assets").exists()


def mask(size: int = 300, factor: float = 1.0, comment: str = "") -> str:
    """Mask in three columns."""
    wave = factor * np.linspace(970.0, 2400.0, size)
    return comment + "".join(f" {w:.6f}  {w * 1.000003:.6f}  0.5\n" for w in wave)


def mask_table(path: Path) -> bytes:
    """Mask as a FITS table."""
    wave = np.linspace(970.0, 2400.0, 100)
    columns = {"ll_mask_s": wave, "ll_mask_e": wave, "w_mask": np.ones(100)}
    write_fits(path, (), [Table("MASK", columns, {"ll_mask_s": "nm"})])
    return path.read_bytes()


def test_masks_are_taken_under_their_names(tmp_path: Path) -> None:
    name = "masque_sept18_andres_trans50.mas"
    source = installation(
        tmp_path / "apero",
        {
            f"ccf_masks/{name}": mask(),
            "ccf_masks/GL699_neg.fits": mask_table(tmp_path / "m.fits"),
            "elsewhere/GL699_pos.fits": b"not looked at",
            "ccf_masks/angstrom.mas": mask(factor=10.0),
            "ccf_masks/air.mas": mask(comment="# wavelengths in air\n"),
            "ccf_masks/visible.mas": mask(factor=0.4),
            "ccf_masks/short.mas": "1000.0 1000.1\n",
        },
    )
    before = Root(tmp_path).ask("assets", "show")
    assert before.lines(f"until {name} is there")
    answer = take(tmp_path, source)
    assert answer.status == 1
    assert {path.name for path in (tmp_path / "assets" / "masks").iterdir()} == {name, "GL699_neg.fits"}
    assert len(answer.lines("taken ")) == 2 and len(answer.lines("refused ")) == 4
    assert answer.lines("look like Angstrom") and answer.lines("comments speak of air")
    assert answer.lines("lie in the orders") and answer.lines("expected three")
    shown = Root(tmp_path).ask("assets", "show")
    (line,) = shown.lines(f"{name}: 300 lines")
    assert "used where a line names none" in line and f"[masks/{name} " in line
    assert not shown.lines("until ")


def test_the_summary_names_what_is_built_in(tmp_path: Path) -> None:
    assert built_in(tmp_path / "assets") == ["lines", "transmission", "sky", "masks"]
    source = installation(
        tmp_path / "apero",
        {"catalogue_UNe.csv": catalogue(), "ccf/masque_sept18_andres_trans50.mas": mask()},
    )
    assert take(tmp_path, source).status == 0
    assert built_in(tmp_path / "assets") == ["transmission", "sky"]
    # As the listing says it.
    shown = Root(tmp_path).ask("assets", "show").out
    for kind, is_built_in in (("lines", False), ("transmission", True), ("sky", True)):
        (line,) = [text for text in shown.splitlines() if text.startswith(f"{kind} ")]
        assert ("[built-in]" in line) == is_built_in


def test_the_real_lines_of_cool_stars_serve_as_a_mask(tmp_path: Path) -> None:
    real = DESIGN / "spirou_mdwarf_lines.csv"
    if not real.is_file():
        pytest.skip(f"no real line list beside the checkout ({real.name})")
    rows = [row.split(",") for row in real.read_text(encoding="utf-8").splitlines()[1:]]
    text = "".join(f"{wave} {wave} {depth}\n" for wave, depth, _ in rows if float(depth) > 0)
    source = installation(tmp_path / "apero", {"ccf_masks/masque_Oct19_Vrp9_Berv33.mas": text})
    answer = take(tmp_path, source)
    assert answer.status == 0, answer.out
    (line,) = answer.lines("taken ")
    # The list covers the orders of the instrument: none of its lines is beyond them.
    assert f"{len(text.splitlines())} lines, {len(text.splitlines())} in the orders" in line


def test_a_mask_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    installation(tmp_path, {"assets/masks/mine.mas": mask(factor=10.0)})
    shown = Root(tmp_path).ask("assets", "show")
    assert shown.status == 2 and shown.lines("mine.mas: cannot be used: ")


def transmission(path: Path, low: float = 900.0, step_kms: float = 0.98, *gases: str) -> bytes:
    """Table of transmission of the whole range, as other programs have it."""
    wave = np.exp(np.arange(np.log(low), np.log(2600.0), step_kms / 299792.458))
    columns = {"wavelength": wave} | {f"trans_{g}": np.full(wave.size, 0.9, np.float32) for g in gases}
    write_fits(path, (), [Table("TAPAS", columns)])
    return path.read_bytes()


def test_a_table_of_transmission_is_taken_and_shown(tmp_path: Path) -> None:
    content = gzip.compress(transmission(tmp_path / "t.fits", 900.0, 0.98, "h2o", "o2"), 1)
    source = installation(tmp_path / "apero", {"telluric/tapas_all_sp.fits.gz": content})
    answer = take(tmp_path, source)
    assert answer.status == 0, answer.out
    assert (tmp_path / "assets" / "tellurics" / "tapas_all_sp.fits.gz").read_bytes() == content
    shown = Root(tmp_path).ask("assets", "show")
    (line,) = shown.lines("tellurics/tapas_all_sp.fits.gz ")
    assert line.startswith("transmission  transmission of h2o, o2, 95")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((900.0, 40.0, "h2o", "o2"), "steps of up to 40"),
        ((1200.0, 40.0, "h2o", "o2"), "the instrument needs"),
        ((900.0, 40.0, "h2o"), "expected wavelength, trans_h2o and at least one of"),
    ],
    ids=["coarse", "short", "gases"],
)
def test_a_table_of_transmission_that_cannot_serve_is_refused(
    tmp_path: Path, arguments: tuple[float, float, str], words: str
) -> None:
    content = transmission(tmp_path / "t.fits", *arguments)
    source = installation(tmp_path / "apero", {"tapas_all_sp.fits": content})
    answer = take(tmp_path, source)
    assert answer.status == 1 and words in answer.out
    assert not (tmp_path / "assets").exists()


def test_sky_components_with_pixels_in_the_primary_unit(tmp_path: Path) -> None:
    """Where fits.writeto puts them."""
    wave = first_guess(MINI, "AB").image()
    data = np.stack([wave.ravel(), np.ones(wave.size), np.zeros(wave.size)], axis=1)
    fits.writeto(tmp_path / "s.fits", data)
    source = installation(tmp_path / "apero", {"telluric/sky_PCs.fits": (tmp_path / "s.fits").read_bytes()})
    answer = take(tmp_path, source)
    assert answer.status == 0, answer.out
    assert answer.lines("2 components, ")
    found = read_sky(tmp_path / "assets" / "sky" / "sky_PCs.fits", (MINI.norders, MINI.nx))
    np.testing.assert_array_equal(found.wave, wave)
    fits.writeto(tmp_path / "s.fits", data[:-1], overwrite=True)
    installation(tmp_path / "apero", {"telluric/sky_PCs.fits": (tmp_path / "s.fits").read_bytes()})
    refused = take(tmp_path, tmp_path / "apero", "--force")
    assert refused.status == 1 and "image of shape" in refused.out


def test_a_folder_without_assets_and_no_folder(tmp_path: Path) -> None:
    source = installation(tmp_path / "apero", {"README.md": "nothing"})
    nothing = take(tmp_path, source)
    assert nothing.status == 3 and "catalogue_UNe.csv" in nothing.err and known_names()
    assert take(tmp_path, tmp_path / "absent").status == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_assets_that_cannot_be_written_end_with_5(tmp_path: Path) -> None:
    source = installation(tmp_path / "apero", {"catalogue_UNe.csv": catalogue()})
    (tmp_path / "assets").mkdir(mode=0o555)
    assert take(tmp_path, source).status == 5


def test_a_file_in_the_way_of_the_folder_ends_with_5(tmp_path: Path) -> None:
    source = installation(tmp_path / "apero", {"catalogue_UNe.csv": catalogue()})
    installation(tmp_path, {"assets": "a file"})
    answer = take(tmp_path, source)
    assert answer.status == 5 and "cannot be written" in answer.err


def test_the_real_lamp_list_is_recognised_as_vacuum(tmp_path: Path) -> None:
    real = DESIGN / "spirou_une_lines.csv"
    if not real.is_file():
        pytest.skip(f"no real lamp list beside the checkout ({real.name})")
    source = installation(tmp_path / "apero", {"catalogue_UNe.csv": real.read_bytes()})
    answer = take(tmp_path, source)
    assert answer.status == 0 and "of 13 strong neon lines found at their vacuum" in answer.out
    # At least 8: two of the thirteen are blended with uranium in a lamp of both gases.
    assert int(answer.out.split(" of 13 ")[0].split()[-1]) >= 8
    assert load_catalogue(tmp_path / "assets").wave.size > 2000
