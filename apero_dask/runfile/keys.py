"""The keys of a run file as data: names, aliases, types, limits and the options that override them.

Adding a key means adding a row here and a field to :class:`apero_dask.core.settings.Settings`.
The ``RUN_`` and ``SKIP_`` switches are in ``switches.py``, the ids in ``reader.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """One key, or one family of values that a command-line option sets."""

    name: str
    kind: str
    """bool, int, float, str, night, list, choice, memory or walltime."""
    field: str = ""
    """Field of the settings; empty for keys that are only reported."""
    aliases: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """Command-line options; the first is the canonical one."""
    choices: tuple[str, ...] = ()
    """Accepted words of a choice, accepted items of a list."""
    is_filter: bool = False
    """None, All and an empty value mean: no restriction."""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    cluster: str = ""
    """Name under which the deployment layer finds the value."""
    help: str = ""
    """Text for ``--help``."""
    bare: str | None = None
    """Value of an option given without one."""


MATCH = ("closest", "older", "newer")

KEYS: tuple[Key, ...] = (
    Key("RUN_NAME", "str", "run_name"),
    Key("SEND_EMAIL", "bool"),
    Key("EMAIL_ADDRESS", "str"),
    # -- nights and frames
    Key(
        "NIGHT_NAME",
        "night",
        "night_name",
        ("NIGHTNAME", "OBS_DIR", "RUN_OBS_DIR"),
        ("--obs_dir", "--nightname", "--night_name"),
        is_filter=True,
        help="reduce this night only",
    ),
    Key(
        "EXCLUDE_OBS_DIRS",
        "list",
        "exclude_obs_dirs",
        ("BNIGHTNAMES", "EXCLUDE_LIST"),
        ("--exclude_obs_dirs", "--bnightnames"),
        is_filter=True,
        help="leave these nights out",
    ),
    Key(
        "INCLUDE_OBS_DIRS",
        "list",
        "include_obs_dirs",
        ("WNIGHTNAMES", "INCLUDE_LIST", "INCULDE_OBS_DIRS"),
        ("--include_obs_dirs", "--inculde_obs_dirs", "--wnightnames"),
        is_filter=True,
        help="keep only these nights",
    ),
    Key(
        "MASTER_OBS_DIR",
        "night",
        "master_obs_dir",
        ("MASTER_NIGHT", "REF_OBS_DIR", "REF_NIGHT"),
        ("--master_obs_dir", "--ref_obs_dir"),
        help="night of the master calibrations",
    ),
    Key(
        "PI_NAMES",
        "list",
        "pi_names",
        options=("--pi_names",),
        is_filter=True,
        help="keep only object frames of these programme PIs",
    ),
    Key(
        "TELLURIC_TARGETS",
        "list",
        "telluric_targets",
        options=("--telluric_targets",),
        is_filter=True,
        help="hot stars",
    ),
    Key(
        "SCIENCE_TARGETS",
        "list",
        "science_targets",
        options=("--science_targets",),
        is_filter=True,
        help="science objects",
    ),
    Key(
        "FILENAME",
        "list",
        "filename",
        options=("--filename",),
        is_filter=True,
        help="keep only these raw frames (base names)",
    ),
    Key("USE_ENGINEERING", "bool", "use_engineering", ("ENGINEERING",)),
    Key("USE_REJECTLIST", "bool", "use_rejectlist", ("USE_ODO_REJECTLIST",)),
    Key("RECAL_TEMPLATES", "bool", "recal_templates"),
    # -- how to run
    Key(
        "CORES",
        "int",
        "cores",
        options=("--cores",),
        help="parallel runs; 0 = all processors but one, -n = all but n",
    ),
    Key(
        "STOP_AT_EXCEPTION",
        "bool",
        "stop_at_exception",
        options=("--stop_at_exception",),
        help="start no new run after the first one that ends in an error",
        bare="True",
    ),
    Key(
        "TEST_RUN",
        "bool",
        "test_run",
        options=("--test",),
        help="plan, check and print; execute nothing",
        bare="True",
    ),
    Key(
        "TRIGGER_RUN",
        "bool",
        "trigger_run",
        options=("--trigger",),
        help="near-real-time reduction of one night",
        bare="True",
    ),
    # -- local tables and scans
    Key(
        "UPDATE_OBJ_DATABASE",
        "bool",
        "update_obj_database",
        options=("--update_objdb",),
        help="reload the object table from its local file",
        bare="True",
    ),
    Key("UPDATE_REJECT_DATABASE", "bool", "update_reject_database"),
    Key("UPDATE_FILEINDEX_DATABASE", "bool", "update_fileindex_database"),
    Key(
        "UPDATE_IDATABASE_NAMES",
        "list",
        "update_idatabase_names",
        choices=("raw", "tmp", "red", "out"),
        is_filter=True,
    ),
    # -- selection of calibrations
    Key("MAX_CALIB_DTIME", "float", "max_calib_dtime", above=0.0),
    Key("DO_CALIB_DTIME_CHECK", "bool", "do_calib_dtime_check"),
    Key("CALIB_DB_MATCH", "choice", "calib_db_match", choices=MATCH),
    Key("TELLU_DB_MATCH", "choice", "tellu_db_match", choices=MATCH),
    Key("CALIB_BIN_IN_TIME", "bool", "calib_bin_in_time"),
    Key("CALIB_DB_DAYFRAC", "float", "calib_db_dayfrac", at_least=0.0, at_most=1.0),
    # -- groups
    Key("GROUP_FILE_LIMIT", "int", "group_file_limit", at_least=1),
    Key("DARK_MASTER_MAX_FILES", "int", "dark_master_max_files", ("DARK_REF_MAX_FILES",), at_least=1),
    Key("SHAPE_MASTER_MAX_FILES", "int", "shape_master_max_files", ("SHAPE_REF_MAX_FILES",), at_least=1),
    Key(
        "DARK_MASTER_MIN_EXPTIME", "float", "dark_master_min_exptime", ("DARK_REF_MIN_EXPTIME",), at_least=0.0
    ),
    Key("DARK_MASTER_MATCH_TIME", "float", "dark_master_match_time", ("DARK_REF_MATCH_TIME",), above=0.0),
    Key("FP_MASTER_MATCH_TIME", "float", "fp_master_match_time", ("FP_REF_MATCH_TIME",), above=0.0),
    Key("CALIB_GROUPING", "choice", "calib_grouping", choices=("night", "exposure_sequence")),
    Key("RUN_DEFAULT", "bool", "run_default"),
    # -- keys that deleted trees in older versions
    *(
        Key(f"RESET_{what}", "bool")
        for what in ("ALLOWED", "TMP", "REDUCED", "CALIB", "TELLU", "LOG", "PLOT", "RUN", "LOGFITS")
    ),
    # -- this engine
    Key(
        "DASK_SKIP_CHECK",
        "choice",
        "skip_check",
        options=("--skip-check",),
        choices=("content", "size", "exists"),
        help="what decides that a finished run is up to date (content, size or exists)",
    ),
    Key("DASK_STALE", "choice", "stale", choices=("rerun", "keep")),
    Key("DASK_KEEP_PASS1", "bool", "keep_pass1"),
    Key(
        "DASK_CLUSTER",
        "choice",
        aliases=("DASK_KIND",),
        options=("--cluster",),
        choices=("local", "slurm", "pbs", "existing"),
        cluster="kind",
        help="where the runs are executed: local, slurm, pbs or existing",
    ),
    Key("DASK_SITE", "str", options=("--site",), cluster="site", help="name or file of a site profile"),
    Key(
        "DASK_ADDRESS",
        "str",
        options=("--address",),
        cluster="address",
        help="running scheduler of kind existing: tcp://host:port or a scheduler file",
    ),
    Key(
        "DASK_WORKERS",
        "int",
        options=("--workers",),
        at_least=1,
        cluster="workers",
        help="worker jobs of kind slurm or pbs",
    ),
    Key("DASK_CORES", "int", at_least=1, cluster="cores"),
    Key("DASK_MEMORY", "memory", options=("--memory",), cluster="memory", help="memory of one worker job"),
    Key(
        "DASK_WALLTIME",
        "walltime",
        options=("--walltime",),
        cluster="walltime",
        help="walltime of one worker job",
    ),
    Key(
        "DASK_QUEUE",
        "str",
        aliases=("DASK_PARTITION",),
        options=("--queue", "--partition"),
        cluster="queue",
        help="queue or partition of the worker jobs",
    ),
    Key(
        "DASK_ACCOUNT",
        "str",
        options=("--account",),
        cluster="account",
        help="account of the worker jobs",
    ),
    Key(
        "DASK_INTERFACE",
        "str",
        options=("--interface",),
        cluster="interface",
        help="network interface of scheduler and workers",
    ),
    Key("DASK_SCRATCH", "str", cluster="scratch"),
    Key("DASK_PROLOGUE", "str", cluster="prologue"),
    Key("DASK_RETRIES", "int", at_least=0, cluster="retries"),
)
"""Every key except switches and ids."""


def _by_spelling(keys: Iterable[Key]) -> dict[str, Key]:
    table: dict[str, Key] = {}
    for key in keys:
        for spelling in (key.name, *key.aliases):
            if spelling in table:
                raise ValueError(f"run-file key {spelling} is declared twice")
            table[spelling] = key
    return table


BY_SPELLING: dict[str, Key] = _by_spelling(KEYS)
"""Key by canonical name or alias."""
BY_NAME: dict[str, Key] = {key.name: key for key in KEYS}
"""Key by canonical name."""
NOT_SWITCHES: frozenset[str] = frozenset(s for s in BY_SPELLING if s.startswith(("RUN_", "SKIP_")))
"""Keys that look like switches and are none."""
