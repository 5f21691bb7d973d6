"""Canonical JSON, digests and keys: the same thing always has the same text."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """JSON text with sorted keys and no blanks; the same for equal values in every process.

    >>> canonical_json({"b": (1, 2.5), "a": None})
    '{"a":null,"b":[1,2.5]}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """First 32 hexadecimal digits of the SHA-256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]


def run_key(request: int, step: str, number: int) -> str:
    """Run key ``<id>.<step>.<n>``.

    >>> run_key(1, "23a", 7)
    '00001.23a.00007'
    """
    return f"{request:05d}.{step}.{number:05d}"


def night_folder(obs_dir: str) -> str:
    """Night as part of a file name: a nested night has no ``/``.

    >>> night_folder("2018/2018-09-25")
    '2018_2018-09-25'
    """
    return obs_dir.replace("/", "_")
