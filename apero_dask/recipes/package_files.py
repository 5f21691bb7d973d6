"""Writes the packaged files of a frame in the form that programs for SPIRou read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.recipes.package_members import (
    INTERNAL,
    Member,
    Members,
    calibration_member,
    check_versions,
    check_waves,
    plane,
    read_members,
)

if TYPE_CHECKING:
    from apero_dask.io.fitswriter import Image, Table
    from apero_dask.recipes.context import RecipeContext

SPECTRA = ("LCORR", "E2DSFF")
"""Kinds of the packaged spectra, the best first."""
MERGED = (("UniformWavelength", "S1D_W"), ("UniformVelocity", "S1D_V"))
SKY = "PCA_SKY"
"""Extension of the pre-cleaned spectrum with the sky model."""


def package(ctx: RecipeContext) -> None:
    """Write the packaged files of a frame.

    Raises
    ------
    DataError
        A member is damaged, or the members do not belong together.
    """
    i = ctx.instrument
    members = read_members(ctx)
    version = check_versions(members)
    waves, blazes = {}, {}
    for fibre in i.fibres:
        spectrum = members.get("E2DSFF", fibre).file
        waves[fibre] = calibration_member(ctx, "WAVE", fibre, spectrum, "WAVEFILE")
        blazes[fibre] = calibration_member(ctx, "BLAZE", fibre, spectrum, "CDBBLAZE")
    check_waves(members, waves, i.nx)
    packer = _Packer(ctx, members, waves, blazes)
    cards = _primary(ctx, members.get("PP", ""), version)
    ctx.save_as_is("POST_E", cards, packer.spectra())
    ctx.save_as_is("POST_S", cards, packer.merged())
    missing = [f for f in i.science_fibres if not members.has("TCORR", (f,))]
    if missing:
        ctx.leave_out("POST_T", _reason("telluric correction", members, "TCORR", missing))
    else:
        ctx.save_as_is("POST_T", cards, packer.corrected())
    if members.has("CCF", ("AB",)):
        ctx.save_as_is("POST_V", cards, packer.velocity())
    else:
        ctx.leave_out("POST_V", "no velocity of this frame was made, or it failed quality control")


def _reason(what: str, members: Members, kind: str, missing: list[str]) -> str:
    some = any(found == kind for found, _ in members.found)
    of = f" of fibre {', '.join(missing)}" if some else ""
    return f"no {what}{of} of this frame was made, or it failed quality control"


def _primary(ctx: RecipeContext, frame: Member, version: str) -> list[str]:
    """Header of the preprocessed frame without what is the engine's own, with version and date."""
    from apero_dask.io.cards import keyword_of, merged
    from apero_dask.io.provenance import inherited

    kept = [card for card in inherited(frame.file.text) if not INTERNAL.fullmatch(keyword_of(card))]
    own: list[tuple[str, Any, str]] = [("VERSION", version, "version of the pipeline")]
    own += [(k, v, "time of processing") for k, v in ctx.work.volatile if k == "DRSPDATE"]
    return merged(kept, own)


class _Packer:
    """Makes the extensions of the packaged files."""

    def __init__(
        self,
        ctx: RecipeContext,
        members: Members,
        waves: Mapping[str, Member],
        blazes: Mapping[str, Member],
    ) -> None:
        self.members, self.waves, self.blazes = members, waves, blazes
        self.instrument = ctx.instrument
        self.basis = str(ctx.option("wave-basis"))
        self.shape = (ctx.instrument.norders, ctx.instrument.nx)

    def spectra(self) -> list[Image | Table]:
        """Flux, wavelengths and blaze of all fibres."""
        fibres = self.instrument.fibres
        return [
            *(self._image(f"Flux{f}", self.members.best(SPECTRA, f), unit="electron") for f in fibres),
            *(self._image(f"Wave{f}", self.waves[f], unit="nm") for f in fibres),
            *(self._image(f"Blaze{f}", self.blazes[f]) for f in fibres),
        ]

    def corrected(self) -> list[Image | Table]:
        """Telluric-corrected flux, its transmission and sky, wavelengths and blaze of the science fibres."""
        first, *others = self.instrument.science_fibres
        return [
            *self._corrected(first),
            self._image("Recon", self.members.get("RECON", first)),
            self._image("OHLine", self.members.get("PCLEAN", first), SKY, unit="electron"),
            *(extension for fibre in others for extension in self._corrected(fibre)),
        ]

    def merged(self) -> list[Image | Table]:
        """Merged spectra of all fibres on both grids, corrected ones included where they are."""
        return [self._merged(name, kind) for name, kind in MERGED]

    def velocity(self) -> list[Image | Table]:
        """Cross-correlation."""
        from apero_dask.io.fitswriter import Table

        member = self.members.get("CCF", "AB")
        return [
            Table(
                "CCF",
                member.file.table(1),
                units=_units(member),
                texts=member.cards(self.instrument.nx, self.basis),
            )
        ]

    def _corrected(self, fibre: str) -> list[Image]:
        return [
            self._image(f"Flux{fibre}", self.members.get("TCORR", fibre), unit="electron"),
            self._image(f"Wave{fibre}", self.waves[fibre], unit="nm"),
            self._image(f"Blaze{fibre}", self.blazes[fibre]),
        ]

    def _image(self, name: str, member: Member, which: int | str = 1, *, unit: str = "") -> Image:
        from apero_dask.io.fitswriter import Image

        texts = member.cards(self.instrument.nx, self.basis)
        return Image(name, plane(member, which, self.shape), unit, texts=texts)

    def _merged(self, name: str, kind: str) -> Table:
        from apero_dask.io.fitswriter import Table

        i = self.instrument
        columns: dict[str, Any] = {}
        lead = self.members.best((f"LCORR_{kind}", kind), i.science_fibres[0])
        parts = [(f"Flux{f}", f"FluxErr{f}", self.members.best((f"LCORR_{kind}", kind), f)) for f in i.fibres]
        if self.members.has(f"TCORR_{kind}", i.science_fibres):
            parts += [
                (
                    f"Flux{f}TelluCorrected",
                    f"FluxErr{f}TelluCorrected",
                    self.members.get(f"TCORR_{kind}", f),
                )
                for f in i.science_fibres
            ]
            parts.append(("Recon", "ReconErr", self.members.get(f"RECON_{kind}", i.science_fibres[0])))
        columns["Wave"] = _columns(lead, "wavelength")[0]
        for flux, error, member in parts:
            grid, columns[flux], columns[error] = _columns(member, "wavelength", "flux", "eflux")
            _check_grid(member, grid, columns["Wave"], lead)
        return Table(name, columns, units={"Wave": "nm"}, texts=lead.cards(i.nx, self.basis))


def _columns(member: Member, *names: str) -> list[Any]:
    """Columns of a merged spectrum in double precision; DataError if one is not there."""
    import numpy as np

    table = member.file.table(1)
    for name in names:
        if name not in table:
            raise DataError(
                f"{member.file.path}: columns {', '.join(table)}, expected one called {name}; make it again."
            )
    return [np.ascontiguousarray(table[name], np.float64) for name in names]


def _check_grid(member: Member, grid: Any, wanted: Any, lead: Member) -> None:
    import numpy as np

    if not np.array_equal(grid, wanted):
        raise DataError(
            f"{member.file.path} is on another grid than {lead.file.name}; merge its spectrum again."
        )


def _units(member: Member) -> dict[str, str]:
    values = member.file.unit(1).values
    numbers: Iterable[int] = range(1, int(values.get("TFIELDS", 0)) + 1)
    return {
        str(values[f"TTYPE{k}"]).strip(): str(values[f"TUNIT{k}"]).strip()
        for k in numbers
        if f"TUNIT{k}" in values
    }
