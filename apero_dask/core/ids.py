"""Canonical JSON, digests and keys: the same thing always has the same text."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# One encoder for all texts: making one takes longer than encoding a run.
_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical_json(value: Any) -> str:
    """JSON text with sorted keys and no blanks; the same for equal values in every process.

    >>> canonical_json({"b": (1, 2.5), "a": None})
    '{"a":null,"b":[1,2.5]}'
    """
    return _ENCODE(value)


def digest(value: Any) -> str:
    """First 32 hexadecimal digits of the SHA-256 of the canonical JSON of ``value``."""
    return text_digest(_ENCODE(value))


def text_digest(text: str) -> str:
    """First 32 hexadecimal digits of the SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def run_key(request: int, step: str, number: int) -> str:
    """Run key ``<id>.<step>.<n>``.

    >>> run_key(1, "23a", 7)
    '00001.23a.00007'
    """
    return f"{step_prefix(request, step)}{number:05d}"


def step_prefix(request: int, step: str) -> str:
    """What the keys of all runs of one step begin with.

    >>> step_prefix(1, "23a")
    '00001.23a.'
    """
    return f"{request:05d}.{step}."


def night_folder(obs_dir: str) -> str:
    """Night as part of a file name: a nested night has no ``/``.

    >>> night_folder("2018/2018-09-25")
    '2018_2018-09-25'
    """
    return obs_dir.replace("/", "_")
