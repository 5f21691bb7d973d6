"""Header cards that say where a product comes from: inputs, calibrations, quality, version.

Keywords are those that users' programs read; their meaning is fixed and new ones are added, never renamed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import PurePosixPath

from apero_dask import __version__
from apero_dask.core.errors import ContractError
from apero_dask.core.products import KINDS
from apero_dask.core.work import Calibration, CalibrationFile, QCTest, Work
from apero_dask.instruments import Instrument
from apero_dask.io.cards import LONGEST_TEXT, Card, carried, split_cards

VOLATILE = ("DRSPDATE", "DRSPID")
"""Cards that differ between two reductions of the same data; comparisons leave out exactly these."""

RELEASED = "2026-11-22"
"""Date of this version (DRSVDATE)."""

LAST_GROUP = 9
"""Arguments that INF1nnn, INF2nnn, ... can tell apart."""

ENDINGS = {
    "DARKM": "DARK",
    "BADPIX": "BAD",
    "BKGRDMAP": "BACK",
    "ORDER_PROFILE": "ORDP",
    "LOC": "LOCO",
    "SHAPEL": "SHAPL",
    "SHAPEX": "SHAPX",
    "SHAPEY": "SHAPY",
    "FPMASTER": "FPREF",
    "FLAT": "FLAT",
    "BLAZE": "BLAZE",
    "THERMALI": "THERM",
    "THERMALT": "THERM",
    "WAVE": "WAVE",
    "WAVEM": "WAVE",
    "WAVE0": "WAVE",
    "WAVECAV": "CAVTY",
    "WAVEHCL": "HCLIN",
    "WAVEFPL": "FPLIN",
    "WAVR_E2DS": "WAVER",
    "LEAKM": "LEAKM",
    "LEAK0": "LEAKM",
    "TRANS1": "TRANS",
    "TRANS2": "TRANS",
    "MODEL1": "MODEL",
    "MODEL2": "MODEL",
    "TEMPLATE": "TEMPL",
}
"""End of the keywords CDB..., CDT..., CDN..., CDR..., CDF... of every calibration kind."""

SECOND = {"WAVEM": "WAVEM"}
"""Ending of a kind whose own one is taken: the reference grid beside the solution of the night."""

_OWN = re.compile(
    r"VERSION|DRSVDATE|DRSPDATE|DRSPID|DRSOUTID|FIBER|INF\d{4}|QCC\d{3}[NVLP]|QCC_ALL|TELLPASS|RUNIDENT|RUNTIER"
)
"""Written anew for every product."""

TABLE_KEYWORDS = ("OBJECT", "DRSOBJN", "DPRTYPE", "MJDATE", "MJDEND", "MJDMID", "BERV", "BJD", "VERSION")
"""Repeated in the header of a main table, for readers that look only there."""


@lru_cache(maxsize=8)
def inherited(text: str) -> tuple[str, ...]:
    """Cards a product takes over from the header of its leading input: everything but what is its own.

    Kept for the other products of the frame.
    """
    return tuple(carried(card for card in split_cards(text) if not _is_own(card[:8])))


@lru_cache(maxsize=8192)
def _is_own(head: str) -> bool:
    return _OWN.fullmatch(head.rstrip()) is not None


def process_cards(work: Work, kind: str, fibre: str) -> list[Card]:
    """Version, process and identity of a product.

    Raises
    ------
    ContractError
        A volatile value that :data:`VOLATILE` does not list.
    """
    cards: list[Card] = [
        ("VERSION", __version__, "version of the pipeline"),
        ("DRSVDATE", RELEASED, "date of the version"),
    ]
    for keyword, value in work.volatile:
        if keyword not in VOLATILE:
            raise ContractError(f"{keyword} is not listed as volatile ({', '.join(VOLATILE)})")
        cards.append((keyword, value, "volatile, not part of the content"))
    cards.append(("DRSOUTID", KINDS[kind].outid, "identity of the product"))
    if fibre:
        cards.append(("FIBER", fibre, "fibre"))
    cards.append(("RUNIDENT", work.identity, "identity of the run"))
    cards.append(("RUNTIER", work.tier, "master or night"))
    return cards


def input_cards(work: Work) -> list[Card]:
    """Base names of the inputs: INF1nnn for the first argument, INF2nnn for the second.

    The ninth and all further arguments share INF9nnn: the keyword has no room for more.

    Raises
    ------
    ContractError
        More files than the keywords can count.
    """
    cards: list[Card] = []
    counts: dict[int, int] = {}
    for position, (argument, files) in enumerate(work.inputs, start=1):
        group = min(position, LAST_GROUP)
        for file in files:
            number = counts.get(group, 0)
            counts[group] = number + 1
            cards.append((f"INF{group}{number:03d}", PurePosixPath(file.path).name, argument))
    for group, number in counts.items():
        if number > 1000:
            raise ContractError(
                f"{work.recipe}: {number} files in argument {group}, INF{group}nnn counts 1000"
            )
    return cards


def serves(calibration: Calibration, fibre: str, instrument: Instrument) -> bool:
    """Whether a product of ``fibre`` (empty = detector) is made with the calibration."""
    if not fibre or not calibration.applies_to:
        return True
    fibres = {"science": instrument.science_fibres, "reference": instrument.reference_fibres}
    return fibre in fibres[calibration.applies_to]


def file_for(files: Iterable[CalibrationFile], fibre: str, instrument: Instrument) -> CalibrationFile | None:
    """File of a calibration for ``fibre``: its own, that of its localisation group, or the common one."""
    by_fibre = {file.fibre: file for file in files}
    names = [fibre, instrument.localised_group(fibre), ""] if fibre else [""]
    found = next((by_fibre[name] for name in names if name in by_fibre), None)
    if found is None and not fibre and len(by_fibre) == 1:
        return next(iter(by_fibre.values()))
    return found


def calibration_cards(work: Work, fibre: str, instrument: Instrument) -> list[Card]:
    """File, time, night, rank and fallback flag of every calibration a product was made with.

    Raises
    ------
    ContractError
        A calibration kind without an entry in :data:`ENDINGS`, or two calibrations with the same ending.
    """
    cards: dict[str, Card] = {}
    for calibration in work.calibrations:
        if not serves(calibration, fibre, instrument) or not calibration.source:
            continue
        kinds = dict.fromkeys(file.kind for file in calibration.files) or dict.fromkeys(calibration.kinds)
        for kind in kinds:
            same_kind = [file for file in calibration.files if file.kind == kind]
            file = file_for(same_kind, fibre, instrument)
            if same_kind and file is None:
                continue  # of another fibre
            if kind not in ENDINGS:
                raise ContractError(f"calibration {kind} has no keyword; add it to the table of endings")
            ending = ENDINGS[kind]
            if f"CDB{ending}" in cards:
                ending = SECOND.get(kind, ending)
            if f"CDB{ending}" in cards and not fibre:
                continue  # a product of all fibres names the first of a kind; inputs and marker name all
            if f"CDB{ending}" in cards:
                raise ContractError(f"{work.recipe}: two calibrations would be written to CDB{ending}")
            name = (file.registered or PurePosixPath(file.path).name) if file else calibration.source
            for card in (
                (f"CDB{ending}", name[-LONGEST_TEXT:], f"{kind} used"),
                (f"CDT{ending}", float(calibration.time), "its time, MJD"),
                (f"CDN{ending}", calibration.obs_dir, "its night"),
                (f"CDR{ending}", calibration.rank, "its rank; 1 = own night, 0 = not searched"),
                (f"CDF{ending}", calibration.fallback, "taken from another night or kind"),
            ):
                cards[card[0]] = card
    return list(cards.values())


def quality_cards(tests: Sequence[QCTest]) -> list[Card]:
    """Quality-control block; informative tests are marked and not counted in QCC_ALL."""
    cards: list[Card] = []
    for number, test in enumerate(tests, start=1):
        key = f"QCC{number:03d}"
        logic = f"(info) {test.logic}" if test.informative else test.logic
        cards += [
            (f"{key}N", test.name[:LONGEST_TEXT], "name of the test"),
            (f"{key}V", test.value[:LONGEST_TEXT], "value"),
            (f"{key}L", logic[:LONGEST_TEXT], "fails if"),
            (f"{key}P", int(test.passed), "1 = passed"),
        ]
    if not tests:
        for letter in "NVL":
            cards.append((f"QCC001{letter}", "None", "no test"))
        cards.append(("QCC001P", 1, "no test"))
    passed = all(test.passed for test in tests if not test.informative)
    cards.append(("QCC_ALL", passed, "all deciding tests passed"))
    return cards
