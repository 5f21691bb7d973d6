"""Message codes and exception families.

Everything a user can get wrong is a *finding*: a code, a text and the place it was found.  Findings are
collected, so that one call shows all of them; only then :class:`UserError` ends the command.
The text templates stand in ``messages.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from apero_dask.core.messages import MESSAGES

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_INVALID = 2
EXIT_NOTHING = 3
EXIT_MASTER = 4
EXIT_STOPPED = 5
EXIT_TERMINATED = 75
EXIT_INTERRUPTED = 130

NOTHING_LEFT = frozenset({"E-NO-NIGHT", "E-NO-FILES", "E-NO-OBJ"})
"""Errors that mean "nothing left to do" (exit status 3) instead of "invalid" (2)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One message for the user."""

    code: str
    """E-..., W-... or I-...: error, warning, information."""
    text: str
    file: str = ""
    """Name of the run file, or empty when the message is not about a line of it."""
    line: int = 0
    """Line number from 1; 0 = no line."""
    only_warn: bool = False
    """An error that does not stop a command which only shows the plan."""

    @property
    def severity(self) -> str:
        """E, W or I: first letter of the code, unless an error is only a warning here."""
        return "W" if self.only_warn else self.code[0]

    def __str__(self) -> str:
        place = f" {self.file}:{self.line}" if self.line else (f" {self.file}" if self.file else "")
        return f"{self.code}{' (warning)' if self.only_warn else ''}{place}: {self.text}"


@dataclass(slots=True)
class Findings:
    """Collects messages in the order they are found, each once.

    >>> found = Findings("mini_run.ini")
    >>> found.add("E-ID-EMPTY", line=3, n="00001")
    >>> print(*found)
    E-ID-EMPTY mini_run.ini:3: id00001 has no sequence or command.
    """

    file: str = ""
    items: list[Finding] = field(default_factory=list)
    _seen: set[tuple[str, str, str, int]] = field(default_factory=set, repr=False)

    def add(
        self,
        code: str,
        *,
        line: int = 0,
        file: str | None = None,
        only_warn: bool = False,
        variant: str = "",
        **values: object,
    ) -> None:
        """Add message ``code`` with its placeholders filled from ``values``.

        ``variant`` picks another text of the same code.

        Raises
        ------
        KeyError
            If the code does not exist or a placeholder has no value: a defect of the caller.
        """
        text = render(f"{code}/{variant}" if variant else code, **values)
        where = self.file if (file is None and line) else (file or "")
        key = (code, text, where, line)
        if key not in self._seen:
            self._seen.add(key)
            self.items.append(Finding(code, text, where, line, only_warn))

    def extend(self, others: Iterable[Finding]) -> None:
        """Add finished findings."""
        for finding in others:
            key = (finding.code, finding.text, finding.file, finding.line)
            if key not in self._seen:
                self._seen.add(key)
                self.items.append(finding)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def codes(self) -> list[str]:
        """Codes in the order found."""
        return [finding.code for finding in self.items]

    def errors(self, strict: bool = False) -> list[Finding]:
        """Findings that stop the command; with ``strict`` the warnings too."""
        return [f for f in self.items if f.severity == "E" or (strict and f.severity == "W")]

    def exit_status(self, strict: bool = False) -> int:
        """Exit status the findings call for: 2 before 3, 0 if nothing stops the command."""
        errors = self.errors(strict)
        if not errors:
            return EXIT_OK
        return EXIT_NOTHING if all(f.code in NOTHING_LEFT for f in errors) else EXIT_INVALID

    def raise_errors(self, strict: bool = False) -> None:
        """Raise :class:`UserError` with everything found if something stops the command."""
        if self.errors(strict):
            raise UserError(list(self.items), self.exit_status(strict))


def render(code: str, **values: object) -> str:
    """Text of message ``code``; a ``{suggestion}`` without value takes its whole sentence with it.

    >>> render("W-UNKNOWN-KEY", key="CORE", suggestion="CORES")
    'Unknown key CORE; ignored. Did you mean CORES?'
    >>> render("W-UNKNOWN-KEY", key="QQ", suggestion=None)
    'Unknown key QQ; ignored.'
    """
    template = MESSAGES[code]
    if values.get("suggestion", "") is None:
        kept = [part for part in template.split(". ") if "{suggestion}" not in part]
        template = ". ".join(kept)
        template = template if template.endswith(".") else template + "."
    return template.format(**values)


def one_line(names: Iterable[object], most: int = 8) -> str:
    """Names joined by commas, the middle left out of a long list.

    >>> one_line(range(12), most=3)
    '0, 1, 2, ... (12 in all)'
    """
    listed = [str(name) for name in names]
    if len(listed) <= most:
        return ", ".join(listed)
    return ", ".join(listed[:most]) + f", ... ({len(listed)} in all)"


class UserError(Exception):
    """Unusable command, run file or data root; carries everything that was found."""

    def __init__(self, findings: list[Finding], status: int = EXIT_INVALID) -> None:
        super().__init__("\n".join(str(f) for f in findings))
        self.findings = findings
        self.status = status


class ContractError(Exception):
    """A recipe broke its own declaration: a defect of the recipe, never of the data."""


class DataError(Exception):
    """A frame cannot be reduced; becomes the outcome of its run and touches nothing else."""
