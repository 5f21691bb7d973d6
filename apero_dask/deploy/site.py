"""Site profiles: what a batch system wants to know, in one small TOML file.

Later wins: defaults of this module, site profile, run file (``DASK_*``), command line.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from apero_dask.core.errors import Findings
from apero_dask.deploy.amounts import memory_mb, walltime_s
from apero_dask.runfile.suggest import closest

KINDS = ("local", "slurm", "pbs", "existing")
BATCH = ("slurm", "pbs")
"""Kinds whose workers are jobs of a batch system."""
KIND_VARIABLE = "APERO_CLUSTER"
"""Environment variable with the kind for when neither command line, run file nor profile names one."""
SITE_VARIABLE = "APERO_SITE"
"""Environment variable with the name or file of the profile for when none is named."""
DEFAULT_NAME = "site"


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Where runs are executed; an empty value (0 for numbers): to be chosen from the plan, or left out."""

    kind: str = "local"
    profile: str = ""
    """Path of the site profile that was read."""
    address: str = ""
    """Scheduler of kind ``existing``: ``tcp://host:port`` or a scheduler file."""
    single_allocation: bool = False
    workers: int = 0
    """Worker jobs."""
    cores: int = 0
    """Processors of one worker job."""
    memory: int = 0
    """Memory of one worker job, MB."""
    walltime: int = 0
    """Of one worker job, s."""
    queue: str = ""
    """Queue or partition."""
    account: str = ""
    interface: str = ""
    """Network interface that scheduler and workers use; empty = loopback, for jobs on this machine only."""
    scratch: str = ""
    """Local folder of the node for files of the worker process; variables are expanded on the node."""
    kernel_cache: str = ""
    """Local folder of the node for compiled kernels; variables are expanded on the node."""
    python: str = ""
    """Interpreter of the worker jobs; empty = that of the driver."""
    prologue: tuple[str, ...] = ()
    """Shell lines before the worker starts."""
    directives: tuple[str, ...] = ()
    """Further options of the job, as behind ``#SBATCH`` or ``#PBS``."""
    skip_directives: tuple[str, ...] = ()
    """Options that the site refuses: header lines that contain one of these texts are left out."""
    resource_spec: str = ""
    """PBS: text behind ``-l`` in the place of ``select=1:ncpus=C:mem=M``."""
    retries: int = 8
    """Repeated submissions of one job before the reduction is stopped."""
    tls: bool = True
    """Encrypt, and let nobody else talk to scheduler and workers."""
    patience: int = 172_800
    """How long the reduction waits without any worker, s."""


_TEXTS = ("address", "queue", "account", "interface", "scratch", "kernel_cache", "python", "resource_spec")
_LISTS = ("prologue", "directives", "skip_directives")
_NUMBERS = {"workers": 1, "cores": 1, "retries": 0}
"""Integer settings with their smallest value."""
PROFILE_KEYS = tuple(
    f.name for f in fields(ClusterSettings) if f.name not in ("profile", "single_allocation")
)
"""Keys a profile may have."""


class _Expected(ValueError):
    """A value of the wrong kind; the text completes "expected ..."."""


def _value(key: str, given: Any) -> Any:
    """Value of a setting from TOML or from text."""
    if key in _NUMBERS:
        least = _NUMBERS[key]
        if isinstance(given, str) and given.strip().isdigit():
            given = int(given)
        if isinstance(given, bool) or not isinstance(given, int) or given < least:
            raise _Expected(f"an integer of at least {least}")
        return given
    if key == "tls":
        if not isinstance(given, bool):
            raise _Expected("true or false")
        return given
    if key in _LISTS:
        lines = [given] if isinstance(given, str) else given
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise _Expected("a text or a list of texts")
        return tuple(lines)
    if not isinstance(given, str) or not given.strip():
        raise _Expected("an amount of memory such as 8GB" if key == "memory" else "a text")
    if key == "kind":
        if given.lower() not in KINDS:
            raise _Expected(f"one of {', '.join(KINDS)}")
        return given.lower()
    try:
        if key == "memory":
            return memory_mb(given)
        if key in ("walltime", "patience"):
            return walltime_s(given)
    except ValueError as error:
        raise _Expected(str(error)) from error
    if any(letter in given for letter in "\n\r\0"):
        raise _Expected("one line of text")
    return given


def profile_folders() -> list[Path]:
    """Folders in which a profile is looked for by its name: that of the user, then that of the machine."""
    own = os.environ.get("XDG_CONFIG_HOME", "") or str(Path.home() / ".config")
    return [Path(own) / "apero_dask", Path("/etc/apero_dask")]


def find_profile(name: str, findings: Findings, origin: str) -> Path | None:
    """File of a profile: a path (it has a ``/`` or ends in ``.toml``), or a name in one of the folders.

    ``origin`` says who named it.  One that is not there is an error (E-SITE).
    """
    if "/" in name or name.endswith(".toml"):
        path = Path(name).expanduser()
        if path.is_file():
            return path
        where = str(path.absolute())
    else:
        candidates = [folder / f"{name}.toml" for folder in profile_folders()]
        for path in candidates:
            if path.is_file():
                return path
        where = " or ".join(str(path) for path in candidates)
    findings.add(
        "E-SITE", path=name, detail=f"not found (named by {origin}; looked for {where}); name another file"
    )
    return None


def read_profile(path: Path, findings: Findings) -> dict[str, Any]:
    """Values of a profile; every fault is a finding (E-SITE) that names key, value and what was expected."""
    try:
        with path.open("rb") as stream:
            table = tomllib.load(stream)
    except OSError as error:
        findings.add("E-SITE", path=path, detail=f"cannot be read: {error.strerror}")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        findings.add("E-SITE", path=path, detail=f"is not valid TOML: {error}")
        return {}
    found: dict[str, Any] = {}
    for key, given in table.items():
        if key not in PROFILE_KEYS:
            nearest = closest(key, PROFILE_KEYS)
            hint = f"did you mean {nearest}?" if nearest else f"expected one of {', '.join(PROFILE_KEYS)}"
            findings.add("E-SITE", path=path, detail=f"unknown key {key}; {hint}")
            continue
        try:
            found[key] = _value(key, given)
        except _Expected as error:
            findings.add("E-SITE", path=path, detail=f"{key} = {given!r}: expected {error}")
    return found


def cluster_settings(
    given: Mapping[str, str], findings: Findings, environment: Mapping[str, str] = os.environ
) -> ClusterSettings:
    """Settings from what run file and command line say (lower-case names without ``DASK_``).

    The profile is the one they name, else that of :data:`SITE_VARIABLE`.  For kinds that submit jobs a
    profile called ``site`` is read when none is named and there is one.
    """
    kind = given.get("kind", "")
    name, origin = given.get("site", ""), "--site or DASK_SITE"
    if not name and environment.get(SITE_VARIABLE, ""):
        name, origin = environment[SITE_VARIABLE], SITE_VARIABLE
    fallback = environment.get(KIND_VARIABLE, "").lower()
    if fallback and fallback not in KINDS:
        findings.add(
            "E-TYPE", key=KIND_VARIABLE, value=environment[KIND_VARIABLE], type=f"one of {', '.join(KINDS)}"
        )
        fallback = ""
    path = None
    if name:
        path = find_profile(name, findings, origin)
    elif (kind or fallback) in BATCH:
        path = next((p for f in profile_folders() if (p := f / f"{DEFAULT_NAME}.toml").is_file()), None)
    values = read_profile(path, findings) if path is not None else {}
    for key, text in given.items():
        if key in ("site", "single_allocation"):
            continue
        try:
            values[key] = _value(key, text)
        except _Expected as error:
            findings.add("E-TYPE", key=f"DASK_{key.upper()}", value=text, type=error)
    values.setdefault("kind", fallback or "local")
    chosen = replace(
        ClusterSettings(),
        **values,
        profile=str(path or ""),
        single_allocation="single_allocation" in given,
    )
    if chosen.kind == "existing" and not chosen.address:
        findings.add(
            "E-TYPE",
            key="DASK_ADDRESS",
            value="",
            type="tcp://host:port or a scheduler file (as in --cluster existing tcp://host:port)",
        )
    return chosen
