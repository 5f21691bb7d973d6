"""Typed settings of one invocation, after merging command line, run file and defaults.

Built by ``runfile.merge``; everything below reads this record and never a raw key.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Switch:
    """A ``RUN_`` or ``SKIP_`` value of one short name."""

    short: str
    """Canonical short name of the step, e.g. ``LOC``."""
    part: str
    """Frame type the switch is limited to (``DARK_FLAT`` for RUN_LOCC), or empty."""
    value: bool
    line: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """One explicit recipe line, tokenised and checked against the recipe's declaration."""

    recipe: str
    """Canonical recipe name, e.g. ``cal_ccf``."""
    obs_dir: str
    """Night, empty for recipes without one."""
    objname: str
    """Object of object-level recipes, else empty."""
    files: tuple[tuple[str, tuple[str, ...]], ...]
    """(argument, names as written, wildcards not expanded) in the order of the declaration."""
    options: tuple[tuple[str, str | bool | int | float | tuple[str, ...]], ...]
    """(option, value) sorted by option name; bookkeeping options dropped, defaults not filled in."""
    is_master: bool = False
    """The line asked for the master tier."""
    text: str = ""
    """The command as written."""


@dataclass(frozen=True, slots=True)
class Request:
    """One id of the run file: a sequence or a command."""

    number: int
    line: int
    sequence: str = ""
    """Canonical sequence name, empty for a command."""
    command: Command | None = None

    @property
    def label(self) -> str:
        """Five-digit id used in run keys."""
        return f"{self.number:05d}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asked for.  Filters: ``None`` = no restriction."""

    run_file: str = ""
    """Name shown in messages."""
    run_name: str = "Run Unknown"
    night_name: str | None = None
    exclude_obs_dirs: tuple[str, ...] | None = None
    include_obs_dirs: tuple[str, ...] | None = None
    master_obs_dir: str | None = None
    pi_names: tuple[str, ...] | None = None
    cores: int = 1
    stop_at_exception: bool = False
    test_run: bool = False
    trigger_run: bool = False
    use_engineering: bool = False
    use_rejectlist: bool = True
    recal_templates: bool | None = None
    """None = not set: True, but False in trigger mode."""
    update_obj_database: bool = False
    update_reject_database: bool = True
    update_fileindex_database: bool = True
    update_idatabase_names: tuple[str, ...] | None = None
    telluric_targets: tuple[str, ...] | None = None
    science_targets: tuple[str, ...] | None = None
    filename: tuple[str, ...] | None = None
    max_calib_dtime: float = 7.0
    """Largest separation of a night and a nightly calibration, days."""
    do_calib_dtime_check: bool = True
    calib_db_match: str = "closest"
    tellu_db_match: str = "closest"
    calib_bin_in_time: bool = True
    calib_db_dayfrac: float = 0.0
    group_file_limit: int | None = None
    """None = 20, and 50 for localisation and flat; a value given by the user holds for all."""
    dark_master_max_files: int = 100
    shape_master_max_files: int = 100
    dark_master_min_exptime: float = 10.0
    dark_master_match_time: float = 2.0
    fp_master_match_time: float = 2.0
    calib_grouping: str = "night"
    run_default: bool = True
    skip_check: str = "content"
    stale: str | None = None
    """None = not set: rerun, but keep in trigger mode."""
    keep_pass1: bool = True
    order: str = "graph"
    package: bool = False
    resume: bool = True
    strict: bool = False
    cluster: tuple[tuple[str, str], ...] = ()
    """Cluster settings, (lower-case name without DASK_, text); read by the deployment layer only."""
    run_switches: tuple[Switch, ...] = ()
    skip_switches: tuple[Switch, ...] = ()
    requests: tuple[Request, ...] = ()
    """In increasing order of the id number."""
    lines: dict[str, int] = field(default_factory=dict)
    """Line of each key set in the run file, by canonical key."""

    def _switch(self, table: tuple[Switch, ...], short: str, part: str) -> bool | None:
        general: bool | None = None
        for switch in table:
            if switch.short == short:
                if switch.part == part and part:
                    return switch.value
                if not switch.part:
                    general = switch.value
        return general

    def runs(self, short: str, part: str = "") -> bool:
        """Whether the step is on; a switch for its frame type ``part`` wins over the general one."""
        value = self._switch(self.run_switches, short, part)
        if value is not None:
            return value
        if short == "SCIPOST":
            return self.package
        return self.run_default

    def runs_lines(self, short: str) -> bool:
        """Whether explicit lines of a recipe are on: a recipe that a line names needs no further asking."""
        value = self._switch(self.run_switches, short, "")
        return self.run_default if value is None else value

    def skips(self, short: str, part: str = "") -> bool:
        """Whether finished runs of the step are skipped."""
        return bool(self._switch(self.skip_switches, short, part))

    def group_limit(self, short: str) -> int:
        """Most files in one group of a step: the larger default holds for localisation and flat."""
        if self.group_file_limit is not None:
            return self.group_file_limit
        return 50 if short in ("LOCM", "LOC", "FLATM", "FF") else 20
