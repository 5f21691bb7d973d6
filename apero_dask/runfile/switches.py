"""``RUN_`` and ``SKIP_`` switches: short names, their other spellings, and what only other versions know.

Two generations of run files use ``MKTELLU2`` for different steps: the first fit of the hot stars in the older
one, the second transmission step in APERO 0.7.  The other keys of the file decide which is meant.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from apero_dask.runfile.keys import NOT_SWITCHES
from apero_dask.runfile.suggest import closest

PREFIXES = ("RUN_", "SKIP_")

SHORTS: dict[str, tuple[str, ...]] = {
    "PP": (),
    "PP_CAL": (),
    "PP_SCI": (),
    "PP_TEL": (),
    "DARKM": ("DARKREF",),
    "BADM": ("BADREF",),
    "LOCM": (),
    "SHAPEM": ("SHAPEREF",),
    "SHAPELM": ("SHAPELREF",),
    "FLATM": ("FLATREF", "FFM"),
    "LEAKM": ("LEAKREF",),
    "THIM": ("THI_M", "THERM_REFI"),
    "THTM": ("THT_M", "THERM_REFT"),
    "WAVEM": ("WAVEREF",),
    "BAD": (),
    "LOC": (),
    "SHAPE": (),
    "FF": (),
    "THERMAL": ("THERM",),
    "WAVE": (),
    "EXTALL": (),
    "EXTTELL": (),
    "EXTOBJ": (),
    "LEAKALL": (),
    "LEAKTELL": (),
    "LEAKOBJ": (),
    "MKTELLDB": (),
    "FTELLDB": (),
    "MKTELLU1": (),
    "MKTELLU2": ("MKTFIT1",),
    "MKTELLU3": ("MKTEMP1",),
    "MKTELLU4": (),
    "FTELLU1": ("FTFIT1",),
    "FTELLU2": ("FTTEMP1",),
    "FTELLU3": ("FTFIT2",),
    "CCF": (),
    "EXTHC1": ("EXT_HC1HC1",),
    "EXTFPFP": ("EXT_FPFP",),
    "EXTDFP": ("EXT_DFP",),
    # own short names of recipes, for explicit lines only
    "EXT": (),
    "LEAK": (),
    "MKTELL": (),
    "FTELLU": (),
    "MKTEMP": (),
    "SCIPOST": (),
}
"""Canonical short name -> interchangeable names."""

PARTS: dict[str, tuple[str, str]] = {
    "LOCREFCAL": ("LOCM", "DARK_FLAT"),
    "LOCMC": ("LOCM", "DARK_FLAT"),
    "LOCREFSCI": ("LOCM", "FLAT_DARK"),
    "LOCMAB": ("LOCM", "FLAT_DARK"),
    "LOCCAL": ("LOC", "DARK_FLAT"),
    "LOCC": ("LOC", "DARK_FLAT"),
    "LOCSCI": ("LOC", "FLAT_DARK"),
    "LOCAB": ("LOC", "FLAT_DARK"),
    "THERM_I": ("THERMAL", "DARK_DARK_INT"),
    "THERMI": ("THERMAL", "DARK_DARK_INT"),
    "THERM_T": ("THERMAL", "DARK_DARK_TEL"),
    "THERMT": ("THERMAL", "DARK_DARK_TEL"),
}
"""Names of one half of a step that works on two frame types -> (short name, frame type)."""

NO_COUNTERPART: tuple[str, ...] = (
    "MKTMOD1",
    "MKTMOD2",
    "MKTFIT2",
    "MKTEMP2",
    "FTTEMP2",
    "POLAR",
    "OBJPOST",
    "POSTALL",
    "LBL*",
    "EXT_EVERY",
    "EXT_SKY",
    "EXT_LFC*",
    "EXT_FP*LFC",
    "EXT_FPD",
    "EXT_FF",
    "EXTQUICK",
    "PP_EVERY",
    "PP_HC1HC1",
    "PP_FPFP",
    "PP_FF",
    "PP_DFP",
    "PP_SKY",
    "PP_LFC*",
    "PP_FPLFC",
)
"""Patterns of APERO 0.7 short names for which there is no step here."""

_CANONICAL: dict[str, tuple[str, str]] = {
    **{spelling: (short, "") for short, others in SHORTS.items() for spelling in (short, *others)},
    **PARTS,
}

CLASH = "MKTELLU2"
CLASH_IN_07 = "MKTELLU4"
"""What 0.7 calls MKTELLU2."""
FIRST_FIT = "MKTFIT1"
"""Name of the first fit that no version uses for anything else."""

KEYS_07 = frozenset({"RUN_OBS_DIR", "REF_OBS_DIR", "USE_REJECTLIST", "UPDATE_REJECT_DATABASE"})
SHORTS_07 = frozenset({"THERM_REFI", "THERM_REFT", "MKTMOD1", "MKTFIT1", "MKTEMP1"})
SEQUENCES_07 = frozenset({"ref_seq"})
KEYS_SEED = frozenset({"MASTER_OBS_DIR", "MASTER_NIGHT", "NIGHT_NAME"})
SHORTS_SEED = frozenset(
    {"DARKM", "BADM", "LOCM", "SHAPEM", "SHAPELM", "FLATM", "LEAKM", "THIM", "THTM", "WAVEM"}
    | {"MKTELLU3", "MKTELLU4", "FTELLU1", "FTELLU2", "FTELLU3"}
)
SEQUENCES_SEED = frozenset({"master_seq"})


def split_switch(key: str) -> tuple[str, str] | None:
    """Prefix and short name of a switch key in upper case, or None for every other key.

    >>> split_switch("RUN_DARKM"), split_switch("SKIP_PP_CAL"), split_switch("RUN_NAME")
    (('RUN_', 'DARKM'), ('SKIP_', 'PP_CAL'), None)
    """
    if key in NOT_SWITCHES:
        return None
    for prefix in PREFIXES:
        if key.startswith(prefix):
            return prefix, key[len(prefix) :]
    return None


@dataclass(frozen=True, slots=True)
class Dialect:
    """Which generation of run files a file belongs to."""

    has_07: bool
    """It uses a name that only APERO 0.7 knows."""
    has_seed: bool
    """It uses a name that 0.7 no longer knows."""

    @property
    def mixed(self) -> bool:
        """Both generations: MKTELLU2 has no certain meaning."""
        return self.has_07 and self.has_seed


def dialect(keys: Iterable[str], sequences: Iterable[str]) -> Dialect:
    """Dialect of a file from its keys (upper case) and the first words of its ids (lower case).

    >>> dialect(["RUN_DARKREF"], []), dialect(["MASTER_NIGHT"], ["ref_seq"]).mixed
    (Dialect(has_07=True, has_seed=False), True)
    """
    names = set(keys)
    first_words = set(sequences)
    shorts = {parts[1] for key in names if (parts := split_switch(key)) is not None}
    return Dialect(
        has_07=bool(
            names & KEYS_07
            or shorts & SHORTS_07
            or any(short.endswith("REF") for short in shorts)
            or first_words & SEQUENCES_07
        ),
        has_seed=bool(names & KEYS_SEED or shorts & SHORTS_SEED or first_words & SEQUENCES_SEED),
    )


def resolve_short(short: str, found: Dialect) -> tuple[str, str] | None:
    """(canonical short name, frame type of a half or empty) of ``short``, or None if it does not exist.

    >>> resolve_short("LOCC", Dialect(False, True)), resolve_short("MKTELLU2", Dialect(True, False))
    (('LOC', 'DARK_FLAT'), ('MKTELLU4', ''))
    """
    if short == CLASH and found.has_07:
        return CLASH_IN_07, ""
    return _CANONICAL.get(short)


def has_no_counterpart(short: str) -> bool:
    """Whether ``short`` belongs to a step of APERO 0.7 that does not exist here."""
    return any(fnmatchcase(short, pattern) for pattern in NO_COUNTERPART)


def nearest_switch(prefix: str, short: str) -> str | None:
    """Key that the user may have meant by ``prefix + short``, or None."""
    other_keys = [key[len(prefix) :] for key in NOT_SWITCHES if key.startswith(prefix)]
    found = closest(short, [*_CANONICAL, *other_keys])
    return None if found is None else prefix + found
