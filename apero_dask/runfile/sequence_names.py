"""Names of the sequences, current and older ones.  What a sequence contains is the planner's subject."""

from __future__ import annotations

from apero_dask.runfile.suggest import closest

SEQUENCES: dict[str, tuple[str, ...]] = {
    "full_seq": ("full_run",),
    "limited_seq": ("limited_run",),
    "pp_seq": ("pp_run",),
    "pp_seq_opt": ("pp_runo", "pp_run_opt"),
    "master_seq": ("master_run", "ref_seq"),
    "calib_seq": ("calib_run",),
    "tellu_seq": ("tellu_run", "telluric_run"),
    "science_seq": ("science_run",),
    "eng_seq": (),
    "blank_seq": (),
}
"""Canonical name -> other names; ``blank_seq`` plans nothing."""

ELSEWHERE = frozenset({"quick_seq", "lbl_seq", "hc_run", "dark_fp_run"})
"""Sequences of other versions that this engine does not have."""

_CANONICAL = {spelling: name for name, others in SEQUENCES.items() for spelling in (name, *others)}


def sequence_name(word: str) -> str | None:
    """Canonical name of the sequence called ``word`` (any case), or None.

    >>> sequence_name("REF_SEQ"), sequence_name("calib_sec")
    ('master_seq', None)
    """
    return _CANONICAL.get(word.lower())


def nearest_sequence(word: str) -> str | None:
    """Canonical name of a sequence that the user may have meant, or None."""
    found = closest(word, _CANONICAL)
    return None if found is None else _CANONICAL[found]
