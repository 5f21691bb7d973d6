"""Configure numba for every kernel: one decorator, one cache folder.

The cache folder is ``<base>/<digest>``.  The digest covers the text of every kernel module and the
versions of numba, numpy and python: a kernel inlines the helpers it calls, so numba's own check (the
file of the function itself) keeps serving machine code of an edited helper.  The base is the
environment variable ``APERO_KERNEL_CACHE``; without it, a folder of the user in the scratch space of the
node (``SLURM_TMPDIR``, ``PBS_JOBFS``, else the folder for temporary files).  Never site-packages: files
left there outlive the installation.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core import config
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    UserProvidedCacheLocator,
)
from numba.core.runtime import rtsys

CACHE_VARIABLE = "APERO_KERNEL_CACHE"
_SCRATCH_VARIABLES = ("SLURM_TMPDIR", "PBS_JOBFS")  # private scratch of a batch job, first one set wins

F = TypeVar("F", bound=Callable[..., Any])


class KernelCacheError(OSError):
    """The folder for compiled kernels cannot be used."""


@functools.cache
def source_digest() -> str:
    """Return 16 hex digits that change with any kernel source and with numba, numpy or python."""
    digest = hashlib.sha256()
    versions = (numba.__version__, np.__version__, sys.version.split()[0])
    digest.update("|".join(versions).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def cache_base() -> Path:
    """Return the folder under which compiled kernels are kept (see the module text)."""
    chosen = os.environ.get(CACHE_VARIABLE, "")
    if chosen:
        return Path(chosen).expanduser().absolute()
    for name in _SCRATCH_VARIABLES:
        scratch = os.environ.get(name, "")
        if scratch and Path(scratch).is_dir():
            return Path(scratch) / "apero-kernels"
    return Path(tempfile.gettempdir()) / f"apero-kernels-{os.getuid()}"


@functools.cache
def cache_folder() -> Path:
    """Create and return the cache folder of these sources.

    Raises
    ------
    KernelCacheError
        The folder cannot be created or written, or belongs to someone else: cached machine code is
        executed when it is loaded, so a folder that another user can fill is not used.
    """
    base = cache_base()
    folder = base / source_digest()
    advice = f"set {CACHE_VARIABLE} to a folder of your own on a local disk"
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise KernelCacheError(
            f"cannot create the kernel cache {folder}: {error.strerror}; {advice}"
        ) from error
    for path in (base, folder):
        status = path.stat()
        if status.st_uid != os.getuid():
            raise KernelCacheError(
                f"the kernel cache {path} belongs to user id {status.st_uid}, not to {os.getuid()}; {advice}"
            )
        if status.st_mode & stat.S_IWOTH:
            raise KernelCacheError(f"the kernel cache {path} can be written by every user; {advice}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise KernelCacheError(f"the kernel cache {folder} cannot be written; {advice}")
    return folder


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)


class _KernelLocator(UserProvidedCacheLocator):
    """Keep the files of a kernel in `cache_folder`, whatever NUMBA_CACHE_DIR says."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        self._py_file = py_file
        self._lineno = py_func.__code__.co_firstlineno
        self._cache_path = str(cache_folder() / Path(py_file).stem)

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _KernelLocator:
        locator = cls(py_func, py_file)
        locator.ensure_cache_path()
        return locator


class _KernelCacheImpl(CompileResultCacheImpl):
    _locator_classes = [_KernelLocator]  # noqa: RUF012  (attribute of numba's class, a list there too)


class _KernelCache(FunctionCache):
    """Write the index and the machine code of one signature as one step.

    numba numbers the data file after reading the index and writes it after the index.  Two processes
    that compile two signatures of one kernel at the same time can then choose the same number, and the
    index may name machine code of the other signature.  The lock closes that window; readers need
    none, both files are replaced by a rename.
    """

    _impl_class = _KernelCacheImpl

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        # numba first registers all it knows to compile (half a second in every process).  Machine code that
        # is there needs its memory management alone; whatever is compiled after a miss registers the rest.
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)

    def save_overload(self, sig: Any, data: Any) -> None:
        with _locked(cache_folder() / "write.lock"):
            super().save_overload(sig, data)


def kernel(function: F) -> F:
    """Compile `function` on its first call, release the interpreter lock, keep the result on disk.

    The arithmetic is that of the source: no fast-math flag, division by zero gives inf or NaN as in
    numpy.  With ``NUMBA_DISABLE_JIT=1`` the function is returned unchanged.
    """
    compiled = numba.njit(nogil=True, error_model="numpy")(function)
    if not config.DISABLE_JIT:
        # What `cache=True` does (Dispatcher.enable_caching), with our folder and our lock.
        compiled._cache = _KernelCache(function)
    return compiled
