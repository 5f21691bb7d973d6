"""Who may import whom, and that the package list is the tree."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "apero_dask"

LEVELS = {
    "core": 0,
    "tables": 0,
    "instruments": 1,
    "io": 1,
    "recipes": 2,
    "runfile": 2,
    "planner": 3,
    "assets": 3,
    "engine": 4,
    "state": 4,
    "report": 4,
    "deploy": 5,
    "cli": 6,
    "notebook": 6,
}
"""Imports go downwards or stay on a level."""

ALONE = "simulator"
DASK = {
    "apero_dask.engine.dask_backend",
    "apero_dask.engine.events",
    "apero_dask.report.dashboard",
}
"""Modules that may import dask, beside everything in deploy."""
KERNEL_MODULES = {"__future__", "math", "numba", "numpy", "apero_kernels"}
KERNEL_SETUP = KERNEL_MODULES | set(sys.stdlib_module_names)
"""Standard library that the decorator module needs to place its cache."""


def imports(path: Path, everywhere: bool = True) -> set[str]:
    """Modules imported by a file; with ``everywhere`` also inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if everywhere else iter(tree.body)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
    return found


def module_name(path: Path) -> str:
    relative = path.relative_to(ROOT).with_suffix("")
    return ".".join(p for p in relative.parts if p != "__init__")


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_downwards(path: Path) -> None:
    parts = module_name(path).split(".")
    mine = parts[1] if len(parts) > 1 else ""
    for name in imports(path):
        if not name.startswith("apero_dask."):
            if mine == ALONE or mine in ("core", "runfile", "planner", "io", "instruments", "state"):
                assert not name.startswith("apero_kernels"), f"{path.name} imports {name}"
            continue
        other = name.split(".")[1]
        if mine == ALONE or other == ALONE:
            assert (mine == other == ALONE) or mine == "cli", f"{module_name(path)} imports {name}"
        elif mine in LEVELS:
            assert LEVELS[other] <= LEVELS[mine], f"{module_name(path)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_a_few_modules_import_dask(path: Path) -> None:
    name = module_name(path)
    if name in DASK or name.startswith("apero_dask.deploy."):
        return
    found = {m for m in imports(path) if m.split(".")[0] in ("dask", "distributed", "dask_jobqueue")}
    assert not found, f"{name} imports {found}"


def test_workers_and_recipes_do_not_know_the_state() -> None:
    for path in [PACKAGE / "engine" / "worker.py", *(PACKAGE / "recipes").glob("*.py")]:
        names = imports(path)
        assert not {n for n in names if n.startswith(("apero_dask.state", "apero_dask.planner"))}, path.name
        assert "sqlite3" not in names


def test_recipes_do_not_import_kernels_at_the_top() -> None:
    for path in (PACKAGE / "recipes").glob("*.py"):
        top = {n.split(".")[0] for n in imports(path, everywhere=False)}
        assert not top & {"apero_kernels", "numba", "astropy", "numpy", "scipy"}, path.name


def test_kernels_import_numpy_and_numba_only() -> None:
    for path in (ROOT / "kernels" / "apero_kernels").glob("*.py"):
        allowed = KERNEL_SETUP if path.name == "_jit.py" else KERNEL_MODULES | {"collections", "typing"}
        found = {n.split(".")[0] for n in imports(path)}
        assert found <= allowed, f"{path.name} imports {found - allowed}"


def test_package_list_is_the_tree() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = config["options"]["packages"].split()
    tree = [module_name(path) for path in PACKAGE.rglob("__init__.py")] + ["apero_kernels"]
    assert sorted(listed) == sorted(tree)


def test_no_size_of_a_detector_outside_the_instrument_description() -> None:
    sizes = {4096, 4088, 3100, 1016, 960}
    for path in MODULES:
        if path.parent.name in ("tables", "instruments"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        cache_sizes = {
            id(word.value)
            for word in ast.walk(tree)
            if isinstance(word, ast.keyword) and word.arg == "maxsize"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, int) and id(node) not in cache_sizes:
                assert node.value not in sizes, f"{module_name(path)}:{node.lineno}: {node.value}"


HELP = "from apero_dask.cli.{} import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"


@pytest.mark.parametrize(
    "statement",
    [
        "import apero_dask",
        HELP.format("processing"),
        HELP.format("tools"),
        "from apero_dask.cli.recipe import main\nmain(['--help'], 'cal_ccf_spirou.py')",
        "from apero_dask import plan, read_run_file, run",
    ],
    ids=["import", "apero_processing --help", "apero-dask --help", "cal_ccf_spirou.py --help", "calls"],
)
def test_nothing_heavy_is_imported(statement: str) -> None:
    heavy = "{'numba', 'dask', 'distributed', 'astropy', 'numpy', 'scipy'}"
    code = f"{statement}\nimport sys\nprint(sorted({heavy} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.strip().endswith("[]"), done.stderr


def test_planning_needs_no_compiler() -> None:
    code = (
        "from tests.planner.archive import worked_index\n"
        "from apero_dask.core.settings import Request, Settings\n"
        "from apero_dask.instruments import instrument\n"
        "from apero_dask.planner.build import build_plan\n"
        "s = Settings(master_obs_dir='2018-09-25', requests=(Request(1, 1, 'limited_seq'),))\n"
        "build_plan(worked_index(), s, instrument('SPIROU'))\n"
        "import sys\nprint(sorted({'numba', 'dask', 'astropy', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
