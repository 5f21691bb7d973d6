"""Both packages import from anywhere, whatever way they were installed."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _python(folder: Path) -> Path:
    """Interpreter of a new environment that sees the installed dependencies and nothing of this checkout."""
    venv.create(folder, with_pip=False, system_site_packages=False)
    return folder / "bin" / "python"


@pytest.mark.parametrize("how", [[], ["--editable"]], ids=["plain", "editable"])
def test_installed_packages_import_from_anywhere(tmp_path: Path, how: list[str]) -> None:
    setuptools = pytest.importorskip("setuptools", minversion="68")
    python = _python(tmp_path / "env")
    # The new environment borrows the build backend, so that the test needs no network.
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    borrowed = site / "borrowed.pth"
    borrowed.write_text(str(Path(setuptools.__file__).parent.parent), encoding="utf-8")
    source = tmp_path / "source"
    # A build folder left by an earlier build would be reused silently, so build from a clean copy.
    names = ["apero_dask", "kernels", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"]
    source.mkdir()
    for name in names:
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        *how,
        str(source),
    ]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    borrowed.unlink()
    code = (
        "import apero_dask.cli.processing, apero_dask.tables, importlib.util as u;"
        "assert u.find_spec('apero_kernels') is not None;"
        "from apero_dask.instruments import instrument; print(instrument('SPIROU_MINI').norders)"
    )
    found = subprocess.run([str(python), "-c", code], capture_output=True, text=True, cwd="/", check=False)
    assert found.stdout.strip() == "12", found.stderr
    scripts = {path.name for path in (tmp_path / "env" / "bin").iterdir()}
    assert {"apero_processing", "apero_processing.py", "apero-dask"} <= scripts
    # The command of a recipe knows by its name what it is, and its help needs none of the libraries.
    command = tmp_path / "env" / "bin" / "cal_ccf_spirou.py"
    told = subprocess.run([str(command), "--help"], capture_output=True, text=True, cwd="/", check=False)
    assert told.returncode == 0 and told.stdout.startswith("usage: cal_ccf_spirou.py NIGHT FILE"), told.stderr
