"""Texts of the messages, by code.

Placeholders are filled from the keywords of ``Findings.add``, so the names of its own parameters (``line``,
``file``, ...) cannot be used here; a test looks.

E: error, ends the command before anything runs (some are raised while running, see RUN_TIME);
W: warning; I: information.
"""

from __future__ import annotations

MESSAGES: dict[str, str] = {
    "E-NO-RUNFILE": 'Run file "{name}" not found (looked in {dir1} and {dir2}).',
    "E-RUNFILE": 'Run file "{name}" {problem}: {action}.',
    "E-INSTRUMENT": 'Instrument "{name}" is not supported; expected one of {list}.',
    "E-SYNTAX": 'Line is neither a comment nor KEY = VALUE: "{text}".',
    "E-TYPE": '{key} = "{value}": expected {type}.',
    "W-UNKNOWN-KEY": "Unknown key {key}; ignored. Did you mean {suggestion}?",
    "W-UNKNOWN-SWITCH": "{key}: no recipe has the short name {short}. Did you mean {suggestion}?",
    "W-DUPKEY": '{key} is set twice (lines {a} and {b}); using "{value}" from line {b}.',
    "E-ALIAS-CONFLICT": "{key} (line {a}) and its alias {alias} (line {b}) have different values.",
    "E-AMBIGUOUS-SWITCH": "{key} means different steps in old and new run files and this file mixes both styles. Use {old1}/{new1} for the first fit of hot stars or {old2} for the second transmission step.",
    "E-ID-DUP": "id{n} is defined twice (lines {a} and {b}); id numbers must be unique.",
    "E-ID-EMPTY": "id{n} has no sequence or command.",
    "E-NO-ID": "The run file defines no id; nothing to do.",
    "E-SEQ-UNKNOWN": 'id{n}: "{name}" is not a sequence. Known sequences: {list}. Did you mean {suggestion}?',
    "E-SEQ-UNSUPPORTED": 'id{n}: sequence "{name}" exists in other versions but is not provided here.',
    "E-RECIPE-UNKNOWN": 'id{n}: "{name}" is not a recipe. Did you mean {suggestion}?',
    "E-ARG": "id{n}: {recipe}: {detail}.",
    "E-NO-MASK": 'id{n}: mask "{name}" not found in {dirs}; copy it there or use apero-dask assets import.',
    "E-MASTER-UNSET": "Step {short} needs MASTER_OBS_DIR, which is not set.",
    "E-MASTER-MISSING": 'Master night "{night}" has no raw frames in {tree}. Nights available: {first} … {last} ({n}).',
    "E-MASTER-INCOMPLETE": 'Master night "{night}" lacks {dprtype} frames needed by {short} (found {n}, need at least {m}).',
    "E-MASTER-EXCLUDED": 'Master night "{night}" is listed in EXCLUDE_OBS_DIRS.',
    "E-FILTER-CONFLICT": "Night(s) {list} appear in both the include and the exclude list.",
    "E-NIGHT-CONFLICT": 'NIGHT_NAME "{night}" is removed by {key}.',
    "E-NO-NIGHT": "No night is left after the filters {filters}.",
    "W-NIGHT-UNKNOWN": 'Night "{night}" ({key}) is not in the raw tree; ignored. Closest: {suggestion}.',
    "E-NO-FILES": "No raw frame is left after {filter} (before: {n}).",
    "E-NO-FILES/line": "id{n}: {recipe}: {path} is not in {folder} and no earlier id makes it.",
    "W-NO-RUNS": "{short}: no run planned: {reason}.",
    "E-NO-OBJ": "{key}: none of {list} is among the {n} observed objects.",
    "W-OBJ-UNKNOWN": '{key}: "{name}" was not observed; ignored. Closest: {suggestion}.',
    "E-TRIGGER-NIGHT": "TRIGGER_RUN needs exactly one night: set NIGHT_NAME or --obs_dir.",
    "E-TRIGGER-MASTER": "TRIGGER_RUN: master product {key} is missing; run master_seq first.",
    "E-MASTER-PRODUCT": "{short} needs the master product {key} of {night}, which does not exist; run master_seq first.",
    "W-NOT-MADE": "{short}: {n} of {m} inputs do not exist and nothing in this plan makes them (first: {path}); run {sequence} first.",
    "E-OUTPUT-CONFLICT": "id{n} and id{m} would both write {path} with different options.",
    "E-DATA-ROOT": "Data folder {path} ({origin}) {problem}: {action}.",
    "E-SITE": "Site profile {path}: {detail}.",
    "E-MISSING-CALIB": "{short} of {night}: no {key} within {days} days passed quality control.",
    "W-DUP-FRAME": "Frame {id} exists in {night1} and {night2}; using the one of {night1}.",
    "W-BAD-FILE": "{n} raw file(s) left out: {reason}: {list}.",
    "W-FRAME": "Frame {id}: {detail}; {used}.",
    "W-FEW-TRANS": "Only {n} telluric transmissions passed; using {k} component(s).",
    "W-UNIDENTIFIED": "{n} frame(s) could not be identified: {list}.",
    "W-ASSET": "Assets file {path} line {row}: {problem}; row ignored.",
    "W-ASSET-FILE": "Assets file {path} {problem}; {action}.",
    "W-SECTION": "Section line {text} has no meaning in a run file; ignored.",
    "W-LISTDUP": '{key}: "{item}" is listed twice.',
    "W-SEQ-REPEAT": "id{n} repeats {sequence} of id{m}; identical runs are planned once.",
    "W-CORES-CLAMP": "CORES = {value} leaves no slot on {n} processors; using 1.",
    "W-CORES-OVER": "CORES = {value} exceeds the {n} available processors.",
    "W-NOTIMPL": "{key} is accepted but has no effect.",
    "W-RESET-IGNORED": "RESET_* keys are ignored by a processing run; use the reset command.",
    "W-THERMAL-FALLBACK": "{short} of {id}: no THERMALT within {days} days, using THERMALI of {night}.",
    "W-WAVE-FALLBACK": "{short} of {id}: no nightly wavelength solution within {days} days, using the master solution.",
    "W-CALIB-FALLBACK": "{short} of {night}: {key} taken from {other} (own night: {state}).",
    "W-STAR-HEADER": "{object} ({id}) is not in the object table; place and motion are those of the header.",
    "W-STAR-NONE": "{object} ({id}) has no coordinates in object table or header; no barycentric correction.",
    "W-POINTING": "{object} ({id}): the telescope pointed {distance} arcsec from it; check name and table.",
    "W-SATURATED": "{id}: fibre {fibre} has {value} ADU per pixel in its brightest order, limit {limit}.",
    "W-NO-COMB": "{id}: {n} peaks of {m} found in fibre {fibre}; the drift of the exposure is not known.",
    "I-LEFT-OUT": "{short}: {path} was not made: {reason}.",
    "W-STALE-KEPT": "{n} finished run(s) would now choose other calibrations and are kept (DASK_STALE = keep).",
    "I-ARCHIVE-GROWN": "{short} is kept although {n} newer frame(s) could be added; set SKIP_{short} = False to recompute.",
    "W-NOT-HOT": (
        'TELLURIC_TARGETS: "{name}" is not a known hot star; its lines would end up in the transmission.'
    ),
    "W-NO-CALIB": (
        "{short}: no {key} within reach of {n} run(s) (first: {first}), made in this plan or stored; "
        "run {sequence} first."
    ),
    "W-GROUP-LIMIT": (
        "{short} of {night}: {n} {dprtype} frames, only the last {m} are used (GROUP_FILE_LIMIT)."
    ),
    "I-INDEX": "Frame index {path} {problem}; {action}.",
    "I-TARGETS-IGNORED": "{key} has no effect in full_seq.",
    "I-NO-COUNTERPART": "{key} has no counterpart here; ignored.",
    "I-EXCLUDE-ALL": "EXCLUDE_OBS_DIRS = {word} means no restriction.",
    "I-ALIAS": "{alias} is read as {canonical}.",
}
"""Message texts; placeholders in braces."""

RUN_TIME = frozenset(
    {
        "E-MISSING-CALIB",
        "W-FEW-TRANS",
        "W-THERMAL-FALLBACK",
        "W-WAVE-FALLBACK",
        "W-CALIB-FALLBACK",
        "I-LEFT-OUT",
        "W-STAR-HEADER",
        "W-STAR-NONE",
        "W-POINTING",
        "W-SATURATED",
        "W-NO-COMB",
    }
)
"""Codes that only an execution can raise."""
