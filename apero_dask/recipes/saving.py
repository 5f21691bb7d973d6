"""Products of one run: written under temporary names, made visible in one step, or removed."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apero_dask.core.declare import Recipe
from apero_dask.core.errors import ContractError
from apero_dask.core.outcome import OutputRecord
from apero_dask.core.work import Work
from apero_dask.io.markers import absolute
from apero_dask.io.trees import Trees

if TYPE_CHECKING:
    from apero_dask.io.fitswriter import Image, Table, Written


@dataclass(slots=True)
class _Saved:
    kind: str
    fibre: str
    path: str
    temporary: Path
    target: Path
    written: Written


class Products:
    """What a run was planned to make, and how far it is.

    Parameters
    ----------
    work
        The run.
    recipe
        Its declaration.
    trees
        Where the data are.
    log
        Told of every file.
    """

    def __init__(
        self, work: Work, recipe: Recipe, trees: Trees, log: logging.Logger | logging.LoggerAdapter[Any]
    ) -> None:
        self.work, self.recipe, self.trees, self.log = work, recipe, trees, log
        self._saved: list[_Saved] = []
        self._left_out: dict[tuple[str, str], str] = {}

    @property
    def first(self) -> str:
        """Kind of the product that was saved first; empty before."""
        return self._saved[0].kind if self._saved else ""

    def planned(self, kind: str, fibre: str) -> str:
        """Path below the data root of a product that is not saved yet.

        Raises
        ------
        ContractError
            Not planned, or saved already.
        """
        name = f"{kind} {fibre}".strip()
        for planned, planned_fibre, path in self.work.outputs:
            if (planned, planned_fibre) == (kind, fibre):
                if any((s.kind, s.fibre) == (kind, fibre) for s in self._saved):
                    raise ContractError(f"{self.recipe.name} saved {name} twice")
                return path
        raise ContractError(f"{self.recipe.name} saved {name}, which the run does not make")

    def write(self, kind: str, fibre: str, cards: Sequence[str], extensions: Sequence[Image | Table]) -> None:
        """Write a product under a temporary name.

        Raises
        ------
        ContractError
            As :meth:`planned`.
        OSError
            The disk is full or the folder cannot be written; nothing is left behind.
        """
        from apero_dask.io.atomic import temporary_path
        from apero_dask.io.fitswriter import write_fits
        from apero_dask.io.provenance import VOLATILE

        path = self.planned(kind, fibre)
        target = absolute(self.trees, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        writer = (self.work.key, self.work.identity, self.work.attempt, socket.gethostname(), os.getpid())
        temporary = temporary_path(target, repr(writer))
        try:
            written = write_fits(temporary, cards, extensions, VOLATILE)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._saved.append(_Saved(kind, fibre, path, temporary, target, written))
        self.log.info("wrote %s (%.1f MB)", target.name, written.size / 1e6)

    def leave_out(self, kind: str, fibre: str) -> str:
        """Do without a product that may lack; returns its path.

        Raises
        ------
        ContractError
            As :meth:`planned`, or declared as one that must be made.
        """
        path = self.planned(kind, fibre)
        if not any(makes.kind == kind and makes.may_lack for makes in self.recipe.makes):
            raise ContractError(f"{self.recipe.name} must make {kind} {fibre}".rstrip())
        self._left_out[kind, fibre] = path
        return path

    def commit(self) -> tuple[OutputRecord, ...]:
        """Rename everything saved to its final name; older files of what was left out are removed.

        Raises
        ------
        ContractError
            A planned product was not saved.
        OSError
            A rename failed; temporary files are removed.
        """
        from apero_dask.io.atomic import publish

        missing = {(k, f) for k, f, _ in self.work.outputs} - {(s.kind, s.fibre) for s in self._saved}
        missing -= set(self._left_out)
        if missing:
            self.discard()
            names = ", ".join(" ".join(part for part in pair if part) for pair in sorted(missing))
            raise ContractError(f"{self.recipe.name} ended without saving {names}")
        saved, self._saved = self._saved, []
        publish([(s.temporary, s.target) for s in saved])
        for path in self._left_out.values():
            absolute(self.trees, path).unlink(missing_ok=True)
        return tuple(
            OutputRecord(s.kind, s.fibre, s.path, s.written.size, s.written.digest, s.written.content)
            for s in saved
        )

    def discard(self) -> None:
        """Remove everything saved and not committed."""
        saved, self._saved = self._saved, []
        for product in saved:
            product.temporary.unlink(missing_ok=True)
