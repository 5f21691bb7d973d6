"""What a recipe body may do: read its inputs and calibrations, judge, record, save.

A body never sees the plan, the engine, the clock or a database.  Everything it wrote becomes visible in one
step after it has ended; whatever goes wrong before leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apero_dask.core.declare import OptionValue, Recipe, registered
from apero_dask.core.errors import ContractError, render
from apero_dask.core.outcome import OutputRecord
from apero_dask.core.work import QCTest, Work
from apero_dask.instruments import Instrument
from apero_dask.io.markers import absolute
from apero_dask.io.trees import Trees
from apero_dask.recipes.assembly import (
    Parameter,
    check_precision,
    main_extension,
    parameter_table,
    product_header,
)
from apero_dask.recipes.chosen import Chosen, find_calibration
from apero_dask.recipes.saving import Products
from apero_dask.recipes.sharing import Cache, OfOneRun

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fits import FitsFile
    from apero_dask.io.fitswriter import Image, Table


@dataclass(frozen=True, slots=True)
class RecipeResult:
    """What a recipe body did."""

    outputs: tuple[OutputRecord, ...]
    qc: tuple[QCTest, ...]
    messages: tuple[tuple[str, str], ...]

    @property
    def passed(self) -> bool:
        """Whether all deciding quality-control tests passed."""
        return all(test.passed for test in self.qc if not test.informative)


class RecipeContext:
    """Inputs, calibrations, options and products of one run.

    Parameters
    ----------
    work
        The run.
    trees
        Where the data are.
    instrument
        Description of the instrument.
    cache
        Shared by the runs of a process, or None to share nothing beyond this run.
    log
        Receives what the body reports while it works.

    Raises
    ------
    ContractError
        The recipe is not registered.
    """

    def __init__(
        self,
        work: Work,
        trees: Trees,
        instrument: Instrument,
        cache: Cache | None = None,
        log: logging.Logger | logging.LoggerAdapter[Any] | None = None,
    ) -> None:
        recipe = registered().get(work.recipe)
        if recipe is None:
            raise ContractError(f"{work.recipe} is not a registered recipe")
        self.work, self.trees, self.instrument = work, trees, instrument
        self.recipe: Recipe = recipe
        self.log = log if log is not None else logging.getLogger(f"apero_dask.recipes.{work.recipe}")
        self._cache: Cache = OfOneRun() if cache is None else cache
        self._tests: list[QCTest] = []
        self._parameters: dict[str, Parameter] = {}
        self._messages: list[tuple[str, str]] = []
        self._opened: dict[Path, FitsFile] = {}
        self._products = Products(work, recipe, trees, self.log)

    # Reading

    def input(self, argument: str) -> tuple[Path, ...]:
        """Files of an argument that survived, in canonical order; empty for an optional one without files.

        Raises
        ------
        ContractError
            The recipe declares no such argument.
        """
        if all(argument != declared.name for declared in self.recipe.arguments):
            raise ContractError(f"{self.recipe.name} declares no argument {argument}")
        files = dict(self.work.inputs).get(argument, ())
        return tuple(absolute(self.trees, file.path) for file in files)

    def open(self, path: Path) -> FitsFile:
        """Opened file, its structure checked; opened once in a run.

        Raises
        ------
        DataError, OSError
            See :class:`apero_dask.io.fits.FitsFile`.
        """
        from apero_dask.io.fits import FitsFile

        # Long headers (coefficients of all traces) are read for every product that inherits them.
        if path not in self._opened:
            self._opened[path] = FitsFile(path)
        return self._opened[path]

    def calibration(self, kind: str, fibre: str = "") -> Chosen | None:
        """The file of a calibration kind chosen for this run; None for an optional one that was not found.

        Parameters
        ----------
        kind
            Kind the recipe declares; the result names the fallback kind if that was taken.
        fibre
            Fibre it is for; products shared by a group of fibres are found by any of them.

        Raises
        ------
        ContractError
            Not declared, or the chosen set has no file for this fibre.
        DataError
            A file given by the user is not there.
        """
        return find_calibration(self.work, self.recipe, self.trees, self.instrument, kind, fibre)

    def calibration_image(self, kind: str, fibre: str = "", extension: int | str = 1) -> np.ndarray | None:
        """Pixels of a calibration, shared by the runs of the process and therefore read-only.

        None for an optional calibration that was not found or a shipped first guess.
        """
        chosen = self.calibration(kind, fibre)
        if chosen is None or chosen.path is None:
            return None
        path = chosen.path

        def load() -> np.ndarray:
            data = self.open(path).image(extension)
            data.flags.writeable = False
            return data

        shared: np.ndarray = self.cached(f"{chosen.key} image {extension}", load)
        return shared

    def calibration_table(self, kind: str, extension: int | str, fibre: str = "") -> dict[str, Any] | None:
        """Columns of a table of a calibration; as :meth:`calibration_image`."""
        chosen = self.calibration(kind, fibre)
        if chosen is None or chosen.path is None:
            return None
        path = chosen.path
        table: dict[str, Any] = self.cached(
            f"{chosen.key} table {extension}", lambda: self.open(path).table(extension)
        )
        return table

    def cached(self, key: str, loader: Callable[[], Any]) -> Any:
        """Result of ``loader``, from the cache of the process if there is one.  ``key`` names the content."""
        return self._cache.get(key, loader)

    def option(self, name: str) -> OptionValue | None:
        """Value of an option, the declared default if the user gave none.

        Raises
        ------
        ContractError
            The recipe declares no such option.
        """
        declared = self.recipe.option(name)
        if declared is None:
            raise ContractError(f"{self.recipe.name} declares no option {name}")
        given: dict[str, OptionValue] = dict(self.work.options)
        value = given.get(declared.name, declared.default)
        return bool(value) if declared.kind == "switch" else value

    def rng(self, purpose: str) -> np.random.Generator:
        """Random numbers that depend on the run and the purpose alone."""
        import numpy as np

        seed = hashlib.sha256(f"{self.work.identity}\0{purpose}".encode()).digest()
        return np.random.default_rng(int.from_bytes(seed[:16], "big"))

    # Judging and recording

    def qc(self, name: str, value: object, failed_if: str, passed: bool, informative: bool = False) -> None:
        """Record a quality-control test.

        Parameters
        ----------
        name
            Quantity, e.g. ``SNR_HOTPIX``.
        value
            What was found.
        failed_if
            Condition under which it fails, e.g. ``SNR_HOTPIX < 10``.
        passed
            Whether it passed.
        informative
            Never a reason to fail.

        Raises
        ------
        ContractError
            A product has been saved already: its header would lack the test.
        """
        self._before_saving("a quality-control test")
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        self._tests.append(QCTest(name, text, failed_if, bool(passed), informative))
        verdict = "passed" if passed else "informative" if informative else "FAILED"
        self.log.info("QC %s = %s (fails if %s): %s", name, text, failed_if, verdict)

    def parameter(
        self, name: str, value: OptionValue | None, source: str = "", description: str = ""
    ) -> None:
        """Record a parameter for PARAM_TABLE; the same name again replaces it."""
        self._before_saving("a parameter")
        self._parameters[name] = Parameter(name, value, source or self.recipe.name, description)

    def message(self, code: str, **values: object) -> None:
        """Report something to the user, by message code.

        Raises
        ------
        KeyError
            The code does not exist, or a placeholder has no value.
        """
        text = render(code, **values)
        self._messages.append((code, text))
        self.log.warning("%s: %s", code, text)

    # Saving

    def save(
        self,
        kind: str,
        main: Image | Table,
        *further: Image | Table,
        fibre: str = "",
        header: Mapping[str, Any] | None = None,
        inherit: FitsFile | None = None,
    ) -> None:
        """Write a product under a temporary name.

        Parameters
        ----------
        kind, fibre
            Product, one of those the run was planned to make.
        main
            First extension; it is named after the product whatever its name.
        further
            Further extensions in order; PARAM_TABLE is appended.
        header
            Own cards of the primary header: keyword -> value or (value, comment).
        inherit
            File whose header is carried over; None = the first input of the first argument.

        Raises
        ------
        ContractError
            Not planned, saved twice, a card twice, or a detector image in double precision.
        OSError
            The disk is full or the folder cannot be written; nothing is left behind.
        """
        self._products.planned(kind, fibre)
        source = inherit
        if source is None:
            first = next((files[0] for _, files in self.work.inputs if files), None)
            source = self.open(absolute(self.trees, first.path)) if first is not None else None
        cards = product_header(
            self.work, self.instrument, kind, fibre, header or {}, self._tests, source.text if source else ""
        )
        options = [
            Parameter(option.name, self.option(option.name), "option", option.help)
            for option in self.recipe.options
            if option.changes_result
        ]
        table = parameter_table([*options, *self._parameters.values()])
        extensions = (main_extension(kind, main, cards), *further, table)
        for extension in extensions:
            check_precision(self.work.recipe, kind, extension, self.instrument)
        self.save_as_is(kind, cards, extensions, fibre=fibre)

    def save_as_is(
        self, kind: str, cards: Sequence[str], extensions: Sequence[Image | Table], *, fibre: str = ""
    ) -> None:
        """Write a product with exactly this header and these extensions, for readers with rules of their own.

        Parameters
        ----------
        cards
            80-character cards of the primary header.

        Raises
        ------
        ContractError
            Not planned, or saved twice.
        OSError
            As :meth:`save`.
        """
        self._products.write(kind, fibre, cards, extensions)

    def leave_out(self, kind: str, reason: str, *, fibre: str = "") -> None:
        """End without a product that the declaration says may lack; an older one of this run is removed.

        Raises
        ------
        ContractError
            Not planned, saved already, or declared as one that must be made.
        """
        path = self._products.leave_out(kind, fibre)
        self.message("I-LEFT-OUT", short=self.work.short, path=path.rpartition("/")[2], reason=reason)

    def commit(self) -> tuple[OutputRecord, ...]:
        """Rename everything saved to its final name.

        Raises
        ------
        ContractError
            A planned product was not saved.
        OSError
            A rename failed; temporary files are removed.
        """
        return self._products.commit()

    def discard(self) -> None:
        """Remove everything saved and not committed."""
        self._products.discard()

    def tests(self) -> tuple[QCTest, ...]:
        """Quality-control tests recorded so far."""
        return tuple(self._tests)

    def messages(self) -> tuple[tuple[str, str], ...]:
        """(code, text) of messages so far."""
        return tuple(self._messages)

    # How it is done

    def _before_saving(self, what: str) -> None:
        if self._products.first:
            raise ContractError(
                f"{self.recipe.name} recorded {what} after saving {self._products.first}: its header "
                "lacks it. Judge first, then save."
            )


def run_recipe(
    work: Work,
    trees: Trees,
    instrument: Instrument,
    *,
    cache: Cache | None = None,
    log: logging.Logger | logging.LoggerAdapter[Any] | None = None,
) -> RecipeResult:
    """Run the body of a recipe and make its products visible.

    Raises
    ------
    ContractError
        The recipe has no body, or broke its declaration.
    DataError
        The data cannot be reduced.
    OSError
        The disk failed or is full.
    Exception
        Whatever the body raises.  Nothing is left behind in any of these cases.
    """
    context = RecipeContext(work, trees, instrument, cache, log)
    body = context.recipe.body
    if body is None:
        raise ContractError(f"{work.recipe} has no body in this version")
    try:
        body(context)
        outputs = context.commit()
    except BaseException:
        context.discard()
        raise
    return RecipeResult(outputs, context.tests(), context.messages())
