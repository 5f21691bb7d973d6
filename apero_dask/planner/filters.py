"""Which nights and frames take part: night, engineering, reject, PI, file-name and target filters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from apero_dask.core.errors import Findings, one_line
from apero_dask.core.frames import CALIB, UNKNOWN, FrameIndex, RawFrame, drop_duplicates
from apero_dask.core.names import ObjectNames
from apero_dask.core.settings import Settings
from apero_dask.planner.sequences import TELLURIC_EXCLUDED, TELLURIC_STARS, Row
from apero_dask.planner.suggest import closest


@dataclass(frozen=True, slots=True)
class Rejection:
    """One row of the reject list."""

    everywhere: bool = False
    """The raw frame is dropped."""
    telluric: bool = False
    """Not used for transmissions and templates."""
    velocity: bool = False
    """No cross-correlation."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Cleaned names of telluric and science targets; ``None`` = every object that is not telluric."""

    telluric: frozenset[str]
    science: frozenset[str] | None

    def takes(self, which: str, name: str) -> bool:
        """Whether the object belongs to ``telluric``, ``science`` or ``all`` targets."""
        if which == "all":
            return True
        if which == "telluric":
            return name in self.telluric
        if self.science is None:
            return name not in self.telluric
        return name in self.science


@dataclass(frozen=True, slots=True)
class Selected:
    """Frames by the role they may play.  All in canonical order."""

    nights: tuple[str, ...]
    """Nights left by all night filters."""
    frames: tuple[RawFrame, ...]
    """Frames of those nights that pass the frame filters: what night and frame steps see."""
    unnamed: tuple[RawFrame, ...]
    """The same without the filter FILENAME, which does not concern explicit lines."""
    archive: tuple[RawFrame, ...]
    """Frames of the nights that archive-wide steps see, the master night included."""
    master: tuple[RawFrame, ...]
    """Frames of the master night."""
    master_night: str
    """Empty if none is known."""
    night_frames: Mapping[str, tuple[RawFrame, ...]]
    """All identified frames of every night, for its local midnight."""
    rejections: Mapping[str, Rejection]
    left_out: tuple[str, ...]
    """Sentences about frames left out, for the listing of the plan."""
    by_night: Mapping[str, list[RawFrame]] = field(init=False)
    """``frames`` by night."""
    master_by_night: Mapping[str, list[RawFrame]] = field(init=False)
    """``master`` under its night; empty without a usable frame."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_night", by_night(self.frames))
        object.__setattr__(self, "master_by_night", by_night(self.master))

    def forbids(self, identifier: str, use: str) -> bool:
        """Whether the reject list forbids the use ``telluric`` or ``velocity`` of a frame."""
        row = self.rejections.get(identifier)
        return row is not None and (row.everywhere or (row.telluric if use == "telluric" else row.velocity))


def by_night(frames: Iterable[RawFrame]) -> dict[str, list[RawFrame]]:
    """Frames by night; order kept."""
    table: dict[str, list[RawFrame]] = {}
    for frame in frames:
        table.setdefault(frame.obs_dir, []).append(frame)
    return table


def select(
    index: FrameIndex,
    settings: Settings,
    findings: Findings,
    rejections: Mapping[str, Rejection],
    master_night: str,
    has_master_step: bool,
    tree: str,
    has_sequence: bool = True,
) -> Selected:
    """Apply night and frame filters in their fixed order and report what cannot be meant.

    ``has_master_step``: the plan contains an active master step, so the master night must exist.
    ``has_sequence``: frames are looked for, so that an empty selection leaves nothing to do.
    """
    everything = by_night(frame for frame in index.frames if frame.dprtype != UNKNOWN)
    known = set(index.nights())
    left_out: list[str] = []
    _check_nights(settings, known, findings)

    engineering: set[str] = set()
    if not settings.use_engineering and not settings.trigger_run:
        for night, frames in everything.items():
            if night != master_night and not any(f.obstype == "OBJECT" for f in frames):
                engineering.add(night)
        if engineering:
            left_out.append(f"engineering nights without an object frame: {one_line(sorted(engineering))}")
    excluded = set(settings.exclude_obs_dirs or ())
    archive_nights = [n for n in everything if n not in engineering and n not in excluded]
    nights = [
        n for n in archive_nights if settings.include_obs_dirs is None or n in settings.include_obs_dirs
    ]
    _check_night_name(settings, known, engineering, excluded, findings)
    if settings.night_name is not None:
        nights = [n for n in nights if n == settings.night_name]
    if not nights and has_sequence:
        used = [
            name
            for name, given in (
                ("EXCLUDE_OBS_DIRS", settings.exclude_obs_dirs),
                ("INCLUDE_OBS_DIRS", settings.include_obs_dirs),
                ("NIGHT_NAME", settings.night_name),
                ("USE_ENGINEERING = False", engineering or None),
            )
            if given is not None
        ]
        findings.add("E-NO-NIGHT", filters=", ".join(used) or f"(no usable raw frame in {tree})")
    if has_master_step:
        _check_master(settings, master_night, everything, excluded, tree, findings)

    single, repeats = drop_duplicates(f for night in archive_nights for f in everything[night])
    findings.extend(repeats)
    if repeats:
        everything |= {night: [] for night in archive_nights} | by_night(single)
    dropped = {i for i, row in rejections.items() if row.everywhere} if settings.use_rejectlist else set()
    rejected = [f.identifier for frames in everything.values() for f in frames if f.identifier in dropped]
    if rejected:
        left_out.append(f"reject list: {one_line(rejected)}")
    kept = {night: [f for f in frames if f.identifier not in dropped] for night, frames in everything.items()}

    frames = [f for night in nights for f in kept[night]]
    if settings.pi_names is not None:
        wanted = {name.strip().lower() for name in settings.pi_names}
        before = len(frames)
        frames = [f for f in frames if f.obstype != "OBJECT" or f.pi_name.strip().lower() in wanted]
        if before > len(frames):
            left_out.append(f"PI_NAMES: {before - len(frames)} object frame(s) of other programmes")
    unnamed = tuple(frames)
    if settings.filename is not None:
        before = len(frames)
        stems = {n.rpartition("/")[2].removesuffix(".gz").removesuffix(".fits") for n in settings.filename}
        frames = [f for f in frames if f.identifier in stems or f.identifier[:-1] in stems]
        if not frames and before and has_sequence:
            findings.add("E-NO-FILES", filter=f"FILENAME = {', '.join(settings.filename)}", n=before)
        elif before > len(frames):
            left_out.append(f"FILENAME: {before - len(frames)} other frame(s)")
    archive = list(dict.fromkeys([*archive_nights, *([master_night] if master_night in kept else [])]))
    return Selected(
        nights=tuple(nights),
        frames=tuple(frames),
        unnamed=unnamed,
        archive=tuple(f for night in sorted(archive) for f in kept[night]),
        master=tuple(kept.get(master_night, ())),
        master_night=master_night,
        night_frames={night: tuple(found) for night, found in everything.items()},
        rejections=dict(rejections) if settings.use_rejectlist else {},
        left_out=tuple(left_out),
    )


def _check_nights(settings: Settings, known: set[str], findings: Findings) -> None:
    for key, nights in (
        ("EXCLUDE_OBS_DIRS", settings.exclude_obs_dirs),
        ("INCLUDE_OBS_DIRS", settings.include_obs_dirs),
        ("NIGHT_NAME", (settings.night_name,) if settings.night_name is not None else None),
    ):
        for night in nights or ():
            if night not in known:
                findings.add(
                    "W-NIGHT-UNKNOWN",
                    line=settings.lines.get(key, 0),
                    night=night,
                    key=key,
                    suggestion=closest(night, known),
                )
    both = sorted(set(settings.exclude_obs_dirs or ()) & set(settings.include_obs_dirs or ()))
    if both:
        findings.add("E-FILTER-CONFLICT", line=settings.lines.get("INCLUDE_OBS_DIRS", 0), list=one_line(both))


def _check_night_name(
    settings: Settings, known: set[str], engineering: set[str], excluded: set[str], findings: Findings
) -> None:
    night = settings.night_name
    if night is None or night not in known:
        return
    line = settings.lines.get("NIGHT_NAME", 0)
    if night in excluded:
        findings.add("E-NIGHT-CONFLICT", line=line, night=night, key="EXCLUDE_OBS_DIRS")
    elif settings.include_obs_dirs is not None and night not in settings.include_obs_dirs:
        findings.add("E-NIGHT-CONFLICT", line=line, night=night, key="INCLUDE_OBS_DIRS")
    elif night in engineering:
        findings.add("E-NIGHT-CONFLICT", line=line, night=night, key="USE_ENGINEERING = False")


def _check_master(
    settings: Settings,
    night: str,
    everything: Mapping[str, list[RawFrame]],
    excluded: set[str],
    tree: str,
    findings: Findings,
) -> None:
    line = settings.lines.get("MASTER_OBS_DIR", 0)
    if not night:
        return
    if night in excluded:
        findings.add("E-MASTER-EXCLUDED", line=settings.lines.get("EXCLUDE_OBS_DIRS", 0), night=night)
    if night not in everything:
        nights = sorted(everything) or ["none"]
        findings.add(
            "E-MASTER-MISSING",
            line=line,
            night=night,
            tree=tree,
            first=nights[0],
            last=nights[-1],
            n=len(everything),
        )


def targets(
    index: FrameIndex, settings: Settings, findings: Findings, names: ObjectNames, limited: bool
) -> Targets:
    """Telluric and science targets by cleaned name.

    ``limited``: some sequence of the plan uses the target lists, so that names in them are checked.
    """
    observed = sorted({frame.frame_class for frame in index.frames if frame.is_object})
    hot = {names.resolve(n) for n in TELLURIC_STARS} - {names.resolve(n) for n in TELLURIC_EXCLUDED}
    telluric, science = hot, None
    for key, given in (
        ("TELLURIC_TARGETS", settings.telluric_targets),
        ("SCIENCE_TARGETS", settings.science_targets),
    ):
        if given is None or not limited:
            continue
        line = settings.lines.get(key, 0)
        resolved = {name: names.resolve(name) for name in given}
        found = {n for n in resolved.values() if n in observed}
        for name, cleaned in resolved.items():
            if cleaned not in observed and found:
                findings.add(
                    "W-OBJ-UNKNOWN", line=line, key=key, name=name, suggestion=closest(cleaned, observed)
                )
        if not found:
            findings.add("E-NO-OBJ", line=line, key=key, list=one_line(given), n=len(observed))
        if key == "TELLURIC_TARGETS":
            telluric = found
            for name in sorted(found - hot):
                findings.add("W-NOT-HOT", line=line, name=name)
        else:
            science = frozenset(found)
    return Targets(frozenset(telluric), science)


def is_calibration(frame: RawFrame) -> bool:
    """Frame of the class that PP_CAL preprocesses: not a star and not sky, or marked as calibration."""
    return frame.frame_class == CALIB or frame.calibration_field


def takes(targets: Targets, row: Row, frame: RawFrame) -> bool:
    """Whether a row is about this frame."""
    if row.targets == "calib":
        return is_calibration(frame)
    if row.types and frame.dprtype not in row.types:
        return False
    if row.only and frame.frame_class != row.only:
        return False
    if row.targets:
        return frame.is_object and targets.takes(row.targets, frame.frame_class)
    return True
