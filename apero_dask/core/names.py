"""Object names: one cleaning rule for headers, run files and alias tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_NOT_WORD = re.compile(r"[^A-Z0-9]+")
NULL_NAMES = frozenset({"", "NONE", "NULL", "NAN", "N_A"})


def clean_object_name(name: str | None) -> str:
    """Cleaned object name, empty for a null name.

    ``+`` becomes P, ``-`` becomes M, everything else that is not a letter or digit becomes ``_``.

    >>> [clean_object_name(n) for n in ("Gl 699", "TOI-442", "pi.02Ori", "BD+11 2735", " ")]
    ['GL_699', 'TOIM442', 'PI_02ORI', 'BDP11_2735', '']
    """
    if name is None:
        return ""
    text = name.strip().replace("+", "P").replace("-", "M").upper()
    cleaned = _NOT_WORD.sub("_", text).strip("_")
    return "" if cleaned in NULL_NAMES else cleaned


@dataclass(frozen=True, slots=True)
class ObjectNames:
    """Local alias table: cleaned alias -> cleaned main name."""

    main: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[str, Iterable[str]]]) -> ObjectNames:
        """Table from (name, aliases) rows; a main name wins over an alias, the first row over later ones.

        >>> table = ObjectNames.from_rows([("GL699", ["Gl 699", "Barnard's star"])])
        >>> table.resolve("Barnard's Star"), table.resolve("Gl699"), table.resolve("HIP 1")
        ('GL699', 'GL699', 'HIP_1')
        """
        kept = [(clean_object_name(name), list(aliases)) for name, aliases in rows]
        table: dict[str, str] = {}
        for name, _ in kept:
            if name:
                table.setdefault(name, name)
        for name, aliases in kept:
            for alias in aliases:
                cleaned = clean_object_name(alias)
                if name and cleaned:
                    table.setdefault(cleaned, name)
        return cls(table)

    def resolve(self, name: str | None) -> str:
        """Main name of ``name``; the cleaned name itself if the table does not know it."""
        cleaned = clean_object_name(name)
        return self.main.get(cleaned, cleaned)
