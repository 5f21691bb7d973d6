"""The compiler set-up: cache folder, cold starts, and the same numbers without compilation."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from apero_kernels import _jit, robust, running, stack

KERNELS = Path(_jit.__file__).parent


def run(code, **environment):
    path = os.pathsep.join([str(KERNELS.parent), environment.pop("EXTRA_PATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def test_cache_folder_is_named_by_the_sources_and_stays_out_of_the_package(tmp_path):
    code = "from apero_kernels import _jit; print(_jit.cache_folder())"
    folder = Path(finish(run(code, APERO_KERNEL_CACHE=str(tmp_path))).strip())
    assert folder.parent == tmp_path
    assert folder.name == _jit.source_digest()
    assert KERNELS not in folder.parents


def test_default_base_follows_the_scratch_of_the_job(monkeypatch, tmp_path):
    monkeypatch.delenv("APERO_KERNEL_CACHE", raising=False)
    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path))
    assert tmp_path in _jit.cache_base().parents
    monkeypatch.delenv("SLURM_TMPDIR")
    assert str(os.getuid()) in _jit.cache_base().name


def test_edited_helper_changes_the_folder(tmp_path):
    copy = tmp_path / "apero_kernels"
    copy.mkdir()
    for path in KERNELS.glob("*.py"):
        (copy / path.name).write_bytes(path.read_bytes())
    code = "from apero_kernels import _jit; print(_jit.source_digest())"
    same = finish(run(code, PYTHONPATH=str(tmp_path), APERO_KERNEL_CACHE=str(tmp_path / "c")))
    assert same.strip() == _jit.source_digest()
    (copy / "robust.py").write_text((copy / "robust.py").read_text() + "\nEDITED = 1\n")
    changed = finish(run(code, PYTHONPATH=str(tmp_path), APERO_KERNEL_CACHE=str(tmp_path / "c")))
    assert changed.strip() != _jit.source_digest()


def test_folder_open_to_everybody_is_refused(tmp_path, monkeypatch):
    base = tmp_path / "open"
    base.mkdir()
    base.chmod(0o777)
    monkeypatch.setenv("APERO_KERNEL_CACHE", str(base))
    _jit.cache_folder.cache_clear()
    try:
        with pytest.raises(_jit.KernelCacheError, match="written by every user; set APERO_KERNEL_CACHE"):
            _jit.cache_folder()
    finally:
        _jit.cache_folder.cache_clear()


def test_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("APERO_KERNEL_CACHE", str(tmp_path / "file" / "below"))
    _jit.cache_folder.cache_clear()
    try:
        with pytest.raises(_jit.KernelCacheError, match=r"cannot create the kernel cache .*below"):
            _jit.cache_folder()
    finally:
        _jit.cache_folder.cache_clear()


def test_sixteen_processes_on_a_cold_cache(tmp_path):
    """Four signatures of one kernel are compiled by sixteen processes at once; then all are served."""
    (tmp_path / "tiny.py").write_text(
        textwrap.dedent(
            """
            from apero_kernels._jit import kernel

            @kernel
            def total(values):
                result = 1000.0 * values.itemsize  # tells the four signatures apart
                for i in range(values.shape[0]):
                    result += values[i]
                return result
            """
        )
    )
    code = """
        import numpy, tiny
        result = tiny.total((0.5 * numpy.arange(5)).astype({dtype!r}))
        print(result, sum(tiny.total.stats.cache_hits.values()))
    """
    expected = {"f4": 4005.0, "f8": 8005.0, "i8": 8004.0, "i4": 4004.0}
    environment = {"APERO_KERNEL_CACHE": str(tmp_path / "cache"), "EXTRA_PATH": str(tmp_path)}
    dtypes = list(expected)
    processes = [run(code.format(dtype=dtypes[k % 4]), **environment) for k in range(16)]
    for k, process in enumerate(processes):
        assert float(finish(process).split()[0]) == expected[dtypes[k % 4]]
    for dtype in dtypes:
        result, hits = finish(run(code.format(dtype=dtype), **environment)).split()
        assert float(result) == expected[dtype]
        assert hits == "1", "the second start compiled again"


def test_second_start_loads_machine_code_without_the_compiler(tmp_path):
    """What numba registers to compile stays out; arrays, tuples and lists of kernels work all the same."""
    (tmp_path / "several.py").write_text(
        textwrap.dedent(
            """
            import numpy as np
            from apero_kernels._jit import kernel

            @kernel
            def halves(values):
                out = np.empty(values.shape[0] // 2)
                for i in range(out.shape[0]):
                    out[i] = values[2 * i] + values[2 * i + 1]
                return out, values[1:], (values.shape[0], 0.5, True)

            @kernel
            def later(values):
                return np.sort(values)[::-1].sum() + np.dot(values, values)
            """
        )
    )
    code = """
        import sys
        import numpy as np, several
        sums, rest, others = several.halves(np.arange(6.0))
        print(sums.tolist(), rest.tolist(), others, sum(several.halves.stats.cache_hits.values()), end=" ")
        print("numba.np.linalg" in sys.modules, end=" ")
        if {compiles}:
            print(several.later(np.arange(4.0)), end="")
    """
    environment = {"APERO_KERNEL_CACHE": str(tmp_path / "cache"), "EXTRA_PATH": str(tmp_path)}
    found = "[1.0, 5.0, 9.0] [1.0, 2.0, 3.0, 4.0, 5.0] (6, 0.5, True)"
    assert finish(run(code.format(compiles=False), **environment)).strip() == f"{found} 0 True"
    assert finish(run(code.format(compiles=False), **environment)).strip() == f"{found} 1 False"
    # A kernel that is not in the cache is still compiled in a process that has only loaded before.
    assert finish(run(code.format(compiles=True), **environment)).strip() == f"{found} 1 False 20.0"


def test_results_are_those_of_the_interpreted_source():
    """Without compilation the same source gives the same numbers, to the last bit."""
    code = """
        import numpy as np
        from apero_kernels import robust, running, stack
        rng = np.random.default_rng(3)
        image = rng.normal(size=(6, 40)).astype(np.float32)
        image[2, 5:9] = np.nan
        out = np.empty_like(image)
        running.running_median(image, np.array(running.SEVEN), out)
        cube = rng.normal(size=(5, 3, 7)).astype(np.float32)
        median = np.empty((3, 7))
        stack.stack(cube, median)
        print(repr([robust.percentile(image, 30.0), out.tobytes().hex(), median.tobytes().hex()]))
    """
    plain = finish(run(code, NUMBA_DISABLE_JIT="1"))
    rng = np.random.default_rng(3)
    image = rng.normal(size=(6, 40)).astype(np.float32)
    image[2, 5:9] = np.nan
    out = np.empty_like(image)
    running.running_median(image, np.array(running.SEVEN), out)
    cube = rng.normal(size=(5, 3, 7)).astype(np.float32)
    median = np.empty((3, 7))
    stack.stack(cube, median)
    expected = repr([robust.percentile(image, 30.0), out.tobytes().hex(), median.tobytes().hex()])
    assert plain.strip() == expected
