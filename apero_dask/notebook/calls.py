"""The three calls behind the command line: read a run file, plan it, run it.

>>> from apero_dask import read_run_file, plan, run          # doctest: +SKIP
>>> request = read_run_file("mini_run.ini", "SPIROU", data="/data", cores=4)   # doctest: +SKIP
>>> planned = plan(request)       # a table in a notebook      # doctest: +SKIP
>>> result = run(planned)         # the same as on the command line   # doctest: +SKIP
>>> result.velocities()           # an astropy table          # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import Finding, Findings

if TYPE_CHECKING:
    from astropy.table import Table

    from apero_dask.cli.execute import Executed
    from apero_dask.cli.prepare import Prepared
    from apero_dask.core.plan import Plan
    from apero_dask.planner.narrow import Narrowing
    from apero_dask.runfile.merge import CommandLine


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run file that was read, with everything that replaces its keys, and the data root it is for."""

    line: CommandLine
    prepared: Prepared
    findings: Findings
    """What was noticed while reading."""

    def _repr_html_(self) -> str:
        from apero_dask.notebook.views import request_html

        return request_html(self)


@dataclass(frozen=True, slots=True)
class PlannedRuns:
    """Everything that would run, in canonical order."""

    request: RunRequest
    plan: Plan
    """The plan itself."""
    findings: tuple[Finding, ...]
    """Messages of reading and planning."""

    def runs(self) -> Table:
        """One row per planned run."""
        from apero_dask.notebook.views import planned_table

        return planned_table(self.plan)

    def steps(self) -> Table:
        """One row per step: number of runs, how many are skipped, and why some frames are left out."""
        from apero_dask.notebook.views import step_table

        return step_table(self.plan)

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON lines, as ``--plan`` does.

        Raises
        ------
        OSError
            It cannot be written.
        """
        from apero_dask.cli.processing import write_lines

        write_lines(self.plan.json_lines(), Path(path))

    def _repr_html_(self) -> str:
        from apero_dask.notebook.views import plan_html

        return plan_html(self)


@dataclass(frozen=True, slots=True)
class Reduction:
    """How an execution ended."""

    request: RunRequest
    executed: Executed = field(repr=False)

    @property
    def status(self) -> int:
        """Exit status of the command; 0 = every planned run ended or was skipped."""
        return self.executed.status

    @property
    def summary(self) -> str:
        """Text that the command prints at the end, or why nothing was executed."""
        return "\n".join(self.executed.lines) or self.executed.problem

    def runs(self) -> Table:
        """One row per run: step, night or object, frame, state, duration, error."""
        from apero_dask.notebook.views import run_table

        return run_table(self.executed)

    def products(self, kind: str = "") -> Table:
        """Products of this and earlier executions of the plan that are on the disk, of one kind if given.

        Raises
        ------
        KeyError
            No such kind of product.
        """
        from apero_dask.notebook.views import product_table

        return product_table(self, kind)

    def velocities(self, name: str = "") -> Table:
        """Radial velocities, one row per frame in the order of time, of one object if given."""
        from apero_dask.notebook.views import velocity_table

        return velocity_table(self, name)

    def _repr_html_(self) -> str:
        from apero_dask.notebook.views import reduction_html

        return reduction_html(self)


def read_run_file(
    run_file: str | Path | CommandLine,
    instrument: str = "SPIROU",
    *,
    data: str | Path | None = None,
    text: str | None = None,
    order: str = "graph",
    strict: bool = False,
    resume: bool = True,
    package: bool = False,
    **keys: Any,
) -> RunRequest:
    """Read a run file and check the data root.

    Parameters
    ----------
    run_file
        Path, or name in the runs folder; a parsed command line holds everything else too.
    data
        Folder with raw, tmp, reduced, ...; default APERO_DATA, then DRS_DATA_*.
    text
        Content of the run file, if there is none on the disk.
    order, strict, resume, package
        As ``--order``, ``--strict``, ``--no-resume`` and ``--package``.
    **keys
        Replace keys of the run file, in any case: ``cores=4, science_targets=["Gl699"]``.  Switches of
        single steps (RUN_..., SKIP_...) and ids belong in the file, or in `text`.

    Raises
    ------
    UserError
        Run file, a key, or data root cannot be used; its text is what the command line prints.
    TypeError
        A keyword that is no key of a run file.
    """
    from apero_dask.cli.prepare import prepare
    from apero_dask.runfile.merge import CommandLine

    if isinstance(run_file, CommandLine):
        line = run_file
    else:
        line = CommandLine(
            instrument=instrument,
            run_file=str(run_file),
            overrides=_overrides(keys),
            data=None if data is None else str(data),
            order=order,
            strict=strict,
            resume=resume,
            package=package,
        )
    findings = Findings()
    return RunRequest(line, prepare(line, findings, text), findings)


def _overrides(keys: dict[str, Any]) -> tuple[Any, ...]:
    from apero_dask.runfile.keys import BY_NAME
    from apero_dask.runfile.merge import Override
    from apero_dask.runfile.suggest import closest

    found = []
    for name, value in keys.items():
        key = BY_NAME.get(name.upper())
        if key is None:
            near = closest(name.upper(), BY_NAME)
            hint = f"; did you mean {near.lower()}?" if near else ""
            raise TypeError(f"{name} is no key of a run file{hint}")
        several = not isinstance(value, str) and isinstance(value, Iterable)
        written = ", ".join(map(str, value)) if several else str(value)
        found.append(Override(key.name, key.options[0] if key.options else key.name, written))
    return tuple(found)


def plan(request: RunRequest) -> PlannedRuns:
    """Plan a run file; nothing is written.

    Raises
    ------
    UserError
        What was found in the archive does not allow to go on.
    """
    from apero_dask.cli.prepare import plan_from, read_archive, stored_snapshot, usable_slots

    findings = Findings(request.findings.file)
    findings.extend(request.findings)
    prepared = request.prepared
    archive = read_archive(prepared, findings)
    made = plan_from(prepared, archive, stored_snapshot(prepared, archive), findings)
    usable_slots(prepared, findings)
    findings.raise_errors(prepared.settings.strict)
    return PlannedRuns(request, made, tuple(findings))


def run(request: RunRequest | PlannedRuns, narrowing: Narrowing | None = None) -> Reduction:
    """Execute a run file: lock, plan anew, run, register.

    What is on the disk when it starts is what counts: a plan made before is made again.  Progress is shown as
    on the command line.

    Parameters
    ----------
    narrowing
        Only chosen runs, whatever their SKIP switch says.

    Raises
    ------
    UserError
        As :func:`plan`.
    ValueError
        The request asks for a plan only (TEST_RUN, or a plan file).
    """
    from apero_dask.cli.execute import run as execute

    asked = request.request if isinstance(request, PlannedRuns) else request
    if asked.prepared.only_show:
        raise ValueError("the request asks for a plan only (TEST_RUN or --plan); nothing can be run with it")
    findings = Findings(asked.findings.file)
    findings.extend(asked.findings)
    return Reduction(asked, execute(asked.line, asked.prepared, findings, narrowing))
