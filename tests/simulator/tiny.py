"""A corner of the small instrument: two orders, a quarter of their length; a tenth of a second per frame."""

from __future__ import annotations

from pathlib import Path

TINY = """
instrument = "SPIROU_MINI"
[geometry]
echelle = [46, 44]
rows = [380, 545]
columns = [400, 640]
"""


def tiny(folder: Path, more: str = "") -> str:
    """Write the configuration and return its path."""
    path = folder / "tiny.toml"
    path.write_text(TINY + more)
    return str(path)


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
