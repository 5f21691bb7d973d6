"""Amounts of memory and time as batch systems write them."""

from __future__ import annotations

import re

_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kKMGT])(i?)B?", re.ASCII)
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4}
_WALLTIME = re.compile(r"(?:(\d+)-)?(\d{1,4}):([0-5]\d)(?::([0-5]\d))?|(\d{1,6})", re.ASCII)


def memory_mb(text: str) -> int:
    """Megabytes (10^6 bytes) of an amount of memory; ``i`` stands for powers of 1024.

    Raises
    ------
    ValueError
        If the text is no amount of memory.

    >>> memory_mb("8GB"), memory_mb("1.5 G"), memory_mb("512MiB")
    (8000, 1500, 536)
    """
    found = _MEMORY.fullmatch(text.strip())
    if found is None:
        raise ValueError("an amount of memory such as 8GB")
    number, letter, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[letter.upper()] / 1_000_000)


def walltime_s(text: str) -> int:
    """Seconds of ``D-HH:MM:SS``, ``HH:MM:SS``, ``D-HH:MM``, ``MM:SS`` or a number of minutes.

    These are the forms of SLURM.  PBS agrees on those with colons; a bare number is minutes for both here.

    Raises
    ------
    ValueError
        If the text is no such time, or no time at all.

    >>> walltime_s("12:00:00"), walltime_s("2-00:00:00"), walltime_s("1-06:30"), walltime_s("30:00")
    (43200, 172800, 109800, 1800)
    >>> walltime_s("90")
    5400
    """
    found = _WALLTIME.fullmatch(text.strip())
    if found is None:
        raise ValueError("a time such as 12:00:00 or 2-00:00:00")
    days, first, second, third, minutes = (None if part is None else int(part) for part in found.groups())
    if minutes is not None:
        seconds = 60 * minutes
    else:
        first, second = first or 0, second or 0
        if third is None and days is None:
            seconds = 60 * first + second
        else:
            seconds = 86400 * (days or 0) + 3600 * first + 60 * second + (third or 0)
    if seconds == 0:
        raise ValueError("a time such as 12:00:00 or 2-00:00:00")
    return seconds


def clock(seconds: int) -> str:
    """``HH:MM:SS``, which SLURM and PBS both read.

    >>> clock(109800), clock(59)
    ('30:30:00', '00:00:59')
    """
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
