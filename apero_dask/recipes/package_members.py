"""Reads the members of a package and checks that they belong together.

Nothing is computed here: a package says in other files what the products of one frame say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.core.products import KINDS
from apero_dask.recipes.wave_basis import coefficients_of, power_cards, wave_image
from apero_dask.recipes.wave_maps import BASIS

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fits import FitsFile
    from apero_dask.recipes.chosen import Chosen
    from apero_dask.recipes.context import RecipeContext

INTERNAL = re.compile(r"CD[BTNRF][A-Z0-9]{1,5}|RUN(?:IDENT|TIER)")
"""Keywords of the engine's own that the primary header of a package leaves out."""
LARGEST_NM = 1e-9
"""Root mean square between wavelengths of the header and of the file; both are in double precision."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a package."""

    kind: str
    fibre: str
    file: FitsFile

    def cards(self, nx: int, basis: str) -> list[str]:
        """Its header as further cards of an extension, wavelength coefficients in the wanted basis."""
        from apero_dask.io.cards import carried, merged, split_cards

        texts = list(carried(split_cards(self.file.text)))
        if basis != BASIS.lower() and "WAVE0000" in self.file.values:
            own = [(k, *v) for k, v in power_cards(self.file.values, nx, self.file.name).items()]
            return merged(texts, own)
        return texts


@dataclass(slots=True)
class Members:
    """Everything of one frame, by kind and fibre."""

    found: dict[tuple[str, str], Member] = field(default_factory=dict)

    def has(self, kind: str, fibres: Sequence[str]) -> bool:
        """Whether all these fibres of a kind are there."""
        return all((kind, fibre) in self.found for fibre in fibres)

    def get(self, kind: str, fibre: str) -> Member:
        """Member.

        Raises
        ------
        DataError
            It is not there.
        """
        member = self.found.get((kind, fibre))
        if member is None:
            raise DataError(f"no {KINDS[kind].outid} of fibre {fibre} among the members; make it again.")
        return member

    def best(self, kinds: Sequence[str], fibre: str) -> Member:
        """First of the kinds that is there for a fibre; DataError if none is."""
        for kind in kinds:
            if (kind, fibre) in self.found:
                return self.found[kind, fibre]
        return self.get(kinds[-1], fibre)


def read_members(ctx: RecipeContext) -> Members:
    """Open the inputs of the run.

    Raises
    ------
    DataError
        A file is damaged or says another fibre than its name.
    """
    members = Members()
    for argument in ctx.recipe.arguments:
        kind = argument.kinds[0]
        for path, fibre in zip(ctx.input(argument.name), argument.fibres, strict=False):
            file = ctx.open(path)
            said = str(file.values.get("FIBER", fibre)).strip()
            if fibre and said != fibre:
                raise DataError(f"{path}: FIBER = {said!r}, expected {fibre} by its name; make it again.")
            members.found[kind, fibre] = Member(kind, fibre, file)
    return members


def calibration_member(ctx: RecipeContext, kind: str, fibre: str, spectrum: FitsFile, card: str) -> Member:
    """Calibration of a fibre, the one that its spectrum was made with.

    Parameters
    ----------
    card
        Keyword of the spectrum that names it.

    Raises
    ------
    DataError
        There is none, or the spectrum was made with another one.
    """
    chosen = ctx.calibration(kind, fibre)
    if chosen is None or chosen.path is None:
        raise DataError(f"{spectrum.name}: no {kind} of fibre {fibre} to package; make it first.")
    name = registered_name_of(chosen)
    said = str(spectrum.values.get(card, "")).strip()
    if said != name:
        raise DataError(
            f"{spectrum.name} was made with {said or 'an unnamed calibration'} ({card}), the {kind} chosen "
            f"now is {name}; extract the frame again."
        )
    return Member(chosen.kind, fibre, ctx.open(chosen.path))


def registered_name_of(chosen: Chosen) -> str:
    """Name under which headers know a calibration."""
    from apero_dask.io.cards import LONGEST_TEXT

    assert chosen.path is not None
    for file in chosen.calibration.files:
        if file.kind == chosen.kind and file.fibre == chosen.fibre and file.registered:
            return file.registered[-LONGEST_TEXT:]
    return chosen.path.name[-LONGEST_TEXT:]


def check_versions(members: Members) -> str:
    """Version that made all members.

    Raises
    ------
    DataError
        They are of different versions.
    """
    table: dict[str, list[str]] = {}
    for member in members.found.values():
        version = str(member.file.values.get("VERSION", "")).strip() or "unnamed"
        table.setdefault(version, []).append(member.file.name)
    if len(table) > 1:
        told = "; ".join(f"{names[0]} of version {version}" for version, names in sorted(table.items()))
        raise DataError(f"members of several versions: {told}; make the older ones again (SKIP_... = False).")
    return next(iter(table))


def check_waves(members: Members, waves: Mapping[str, Member], nx: int) -> None:
    """Every spectrum of a fibre must be on the wavelengths that are packaged with it.

    Raises
    ------
    DataError
        Another solution, or coefficients that do not give its wavelengths.
    """
    for (kind, fibre), member in members.found.items():
        if fibre not in waves or kind == "PP":
            continue
        own, values = waves[fibre].file, member.file.values
        name = str(values.get("WAVEFILE", "")).strip()
        wanted = str(members.get("E2DSFF", fibre).file.values.get("WAVEFILE", "")).strip()
        if name != wanted or not name:
            raise DataError(
                f"{member.file.name} is on the wavelengths of {name or 'no named solution'} (WAVEFILE), the "
                f"spectrum on those of {wanted or 'no named solution'}; make it again."
            )
        _check_coefficients(member.file.name, values, own, nx)


def _check_coefficients(name: str, values: Mapping[str, Any], wave: FitsFile, nx: int) -> None:
    import numpy as np

    coefficients, basis = coefficients_of(values, name)
    image = wave.image(1, np.float64)
    if image.shape != (coefficients.shape[0], nx):
        raise DataError(
            f"{name}: coefficients of {coefficients.shape[0]} orders of {nx} pixels, {wave.name} has shape "
            f"{image.shape}; extract the frame again."
        )
    off = float(np.sqrt(np.mean((wave_image(coefficients, basis, nx) - image) ** 2)))
    if not off < LARGEST_NM:
        raise DataError(
            f"{name}: wavelengths of its header and of {wave.name} differ by {off:.3g} nm (rms), expected "
            f"less than {LARGEST_NM:g}; extract the frame again."
        )


def plane(member: Member, which: int | str, shape: tuple[int, int]) -> np.ndarray:
    """Image of a member in double precision.

    Raises
    ------
    DataError
        Another shape.
    """
    import numpy as np

    data = member.file.image(which, np.float64)
    if data.shape != shape:
        raise DataError(f"{member.file.path}: image of shape {data.shape}, expected {shape}; make it again.")
    return data
