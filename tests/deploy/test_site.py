"""Site profiles, run file and command line: which value wins, and what is said about a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from apero_dask.core.errors import Findings
from apero_dask.deploy.amounts import clock, memory_mb, walltime_s
from apero_dask.deploy.site import PROFILE_KEYS, ClusterSettings, cluster_settings

EXAMPLES = Path(__file__).resolve().parents[2] / "slurm"
WHOLE = """\
kind = "slurm"
workers = 12
cores = 2
memory = "8GB"
walltime = "1-12:00:00"
queue = "short"
account = "rrg-x"
interface = "ib0"
scratch = "$SLURM_TMPDIR/dask"
kernel_cache = "/var/tmp/kernels"
python = "/opt/python"
prologue = ["module load python", "ulimit -n 4096"]
directives = ["--qos=long"]
skip_directives = ["--mem"]
retries = 3
tls = false
patience = "12:00:00"
address = "tcp://h:1"
resource_spec = "nodes=1:ppn=2"
"""
READ = ClusterSettings(
    kind="slurm",
    workers=12,
    cores=2,
    memory=8000,
    walltime=129_600,
    queue="short",
    account="rrg-x",
    interface="ib0",
    scratch="$SLURM_TMPDIR/dask",
    kernel_cache="/var/tmp/kernels",
    python="/opt/python",
    prologue=("module load python", "ulimit -n 4096"),
    directives=("--qos=long",),
    skip_directives=("--mem",),
    retries=3,
    tls=False,
    patience=43_200,
    address="tcp://h:1",
    resource_spec="nodes=1:ppn=2",
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of its own: profiles of whoever runs the tests do not count."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "apero_dask").mkdir(parents=True)
    return tmp_path / "config" / "apero_dask"


def settings(text: str, tmp_path: Path, **given: str) -> tuple[ClusterSettings, Findings]:
    path = tmp_path / "our site.toml"
    path.write_text(text, encoding="utf-8")
    found = Findings()
    return cluster_settings({"site": str(path), **given}, found, {}), found


def complaints(text: str, tmp_path: Path, **given: str) -> list[str]:
    found = settings(text, tmp_path, **given)[1]
    assert set(found.codes()) <= {"E-SITE", "E-TYPE"}
    assert found.exit_status() == 2
    return [str(finding) for finding in found]


def test_every_key_of_a_profile(tmp_path: Path) -> None:
    from dataclasses import replace

    result, found = settings(WHOLE, tmp_path)
    assert not list(found)
    assert result == replace(READ, profile=str(tmp_path / "our site.toml"))
    assert {line.split(" = ")[0] for line in WHOLE.splitlines()} == set(PROFILE_KEYS)


def test_run_file_wins_over_profile(tmp_path: Path) -> None:
    given = {"kind": "pbs", "workers": "3", "memory": "4 GB", "walltime": "30:00", "prologue": "true; false"}
    result, found = settings(WHOLE, tmp_path, **given)
    assert not list(found)
    assert (result.kind, result.workers, result.memory, result.walltime) == ("pbs", 3, 4000, 1800)
    assert result.prologue == ("true; false",)
    assert (result.queue, result.account) == ("short", "rrg-x")


def test_without_anything_it_is_this_machine() -> None:
    found = Findings()
    assert cluster_settings({}, found, {}) == ClusterSettings() and not list(found)
    assert ClusterSettings().kind == "local" and ClusterSettings().tls


def test_kind_of_the_environment_comes_last(tmp_path: Path) -> None:
    found = Findings()
    assert cluster_settings({}, found, {"APERO_CLUSTER": "slurm"}).kind == "slurm"
    assert cluster_settings({"kind": "local"}, found, {"APERO_CLUSTER": "slurm"}).kind == "local"
    path = tmp_path / "p.toml"
    path.write_text('kind = "pbs"', encoding="utf-8")
    assert cluster_settings({"site": str(path)}, found, {"APERO_CLUSTER": "slurm"}).kind == "pbs"
    assert not list(found)
    cluster_settings({}, found, {"APERO_CLUSTER": "sge"})
    assert "APERO_CLUSTER" in str(next(iter(found))) and "slurm, pbs" in str(next(iter(found)))


def test_profile_is_found_by_its_name(home: Path) -> None:
    (home / "narval.toml").write_text("workers = 7", encoding="utf-8")
    (home / "site.toml").write_text("workers = 5", encoding="utf-8")
    found = Findings()
    assert cluster_settings({"site": "narval"}, found, {}).workers == 7
    assert cluster_settings({}, found, {"APERO_SITE": "narval"}).workers == 7
    # The profile of the machine is for jobs; it does not change what happens without any.
    assert cluster_settings({"kind": "slurm"}, found, {}).workers == 5
    assert cluster_settings({}, found, {}).workers == 0
    assert not list(found)


@pytest.mark.parametrize("name", ["nowhere", "no/where", "nowhere.toml"])
def test_profile_that_is_not_there(name: str, home: Path) -> None:
    found = Findings()
    cluster_settings({"site": name}, found, {})
    (text,) = [str(finding) for finding in found]
    assert text.startswith("E-SITE") and name in text and "looked for" in text and "--site" in text
    assert name != "nowhere" or str(home / "nowhere.toml") in text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("workers = 0", "workers = 0: expected an integer of at least 1"),
        ('workers = "many"', "workers = 'many': expected an integer"),
        ("workers = true", "workers = True: expected an integer"),
        ("cores = 1.5", "cores = 1.5: expected an integer"),
        ("retries = -1", "retries = -1: expected an integer of at least 0"),
        ("memory = 8", "memory = 8: expected an amount of memory such as 8GB"),
        ('memory = "much"', "memory = 'much': expected an amount of memory such as 8GB"),
        ('walltime = "tomorrow"', "walltime = 'tomorrow': expected a time such as 12:00:00"),
        ('walltime = "0:00:00"', "walltime = '0:00:00': expected a time"),
        ('kind = "sge"', "kind = 'sge': expected one of local, slurm, pbs, existing"),
        ("queue = 3", "queue = 3: expected a text"),
        ('queue = ""', "queue = '': expected a text"),
        ('account = "a\\nb"', "expected one line of text"),
        ("prologue = 3", "prologue = 3: expected a text or a list of texts"),
        ("directives = [1]", "directives = [1]: expected a text or a list of texts"),
        ('tls = "yes"', "tls = 'yes': expected true or false"),
        ('partition = "main"', "unknown key partition"),
        ('acount = "x"', "unknown key acount; did you mean account?"),
        ("workers = ", "is not valid TOML"),
    ],
)
def test_bad_value_is_named_with_what_was_expected(line: str, expected: str, tmp_path: Path) -> None:
    (text,) = complaints(line, tmp_path)
    assert expected in text and "our site.toml" in text


def test_all_faults_are_reported_together(tmp_path: Path) -> None:
    assert len(complaints('workers = 0\nmemory = 3\nkind = "x"', tmp_path, walltime="0:00")) == 4


def test_existing_needs_an_address() -> None:
    found = Findings()
    cluster_settings({"kind": "existing"}, found, {})
    assert "DASK_ADDRESS" in str(next(iter(found)))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_examples_are_valid(path: Path) -> None:
    found = Findings()
    assert cluster_settings({"site": str(path)}, found, {}).kind in ("slurm", "pbs")
    assert not list(found)


def test_there_are_examples() -> None:
    assert len(list(EXAMPLES.glob("*.toml"))) >= 2


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1GB", 1000),
        ("1 GiB", 1073),
        ("500m", None),
        ("500M", 500),
        ("2T", 2_000_000),
        ("1500kB", 1),
        ("GB", None),
    ],
)
def test_memory(text: str, number: int | None) -> None:
    if number is None:
        with pytest.raises(ValueError, match="8GB"):
            memory_mb(text)
    else:
        assert memory_mb(text) == number


@pytest.mark.parametrize("seconds", [1, 59, 60, 3599, 3600, 86_399, 86_400, 1_000_000])
def test_walltime_round_trip(seconds: int) -> None:
    assert walltime_s(clock(seconds)) == seconds
