"""What earlier invocations left: the frozen view of disk and databases that a plan is made against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from apero_dask.core.collector import collector_paused
from apero_dask.core.outcome import Marker, OutputRecord, State
from apero_dask.core.products import KINDS

_DATABASES = {key: kind.database for key, kind in KINDS.items() if kind.database}

Outputs = dict[str, tuple[Marker, OutputRecord]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Markers of finished runs, and the few facts about files that planning needs."""

    markers: Mapping[str, Marker] = field(default_factory=dict)
    """By run identity."""
    damaged: frozenset[str] = frozenset()
    """Paths of marked outputs that are missing or differ from their marker."""
    code: Mapping[str, str] = field(default_factory=dict)
    """Digest of code, kernels and static tables by recipe, as installed now."""
    masks: tuple[str, ...] = ()
    """Names in the mask folder."""
    listing: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Base names by folder (below the data root), for the folders that explicit lines name."""
    tree: str = "raw"
    """Name of the raw tree, for messages."""
    outputs: Outputs = field(default_factory=dict)
    """Intact output and its marker by path."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Content digest of further files that runs may read: products without a marker by path, calibrations
    named on a recipe line by their name as written.  A run that reads an unknown file is never skipped."""
    _calibrations: list[Marker] = field(default_factory=list, repr=False, compare=False)
    _by_kind: dict[str, list[tuple[Marker, OutputRecord]]] = field(
        default_factory=dict, repr=False, compare=False
    )
    """Passed and intact telluric products."""

    @classmethod
    def of(
        cls,
        markers: Iterable[Marker] = (),
        *,
        damaged: Iterable[str] = (),
        code: Mapping[str, str] | None = None,
        masks: Iterable[str] = (),
        listing: Mapping[str, Iterable[str]] | None = None,
        tree: str = "raw",
        files: Mapping[str, str] | None = None,
    ) -> Snapshot:
        """Snapshot from the markers of all finished runs.

        Of several markers that claim the same file only the one it belongs to may be given: the others are
        about files that were overwritten since.
        """
        bad = frozenset(damaged)
        table = {marker.identity: marker for marker in markers}
        outputs: Outputs = {}
        calibrations: list[Marker] = []
        by_kind: dict[str, list[tuple[Marker, OutputRecord]]] = {}
        with collector_paused():
            for marker in table.values():
                passed = marker.state is State.DONE
                calibrates = False
                for output in marker.outputs:
                    database = _DATABASES.get(output.kind)
                    calibrates = calibrates or database == "calib"
                    if output.path in bad:
                        continue
                    pair = outputs[output.path] = (marker, output)
                    if passed and database == "tellu":
                        by_kind.setdefault(output.kind, []).append(pair)
                if passed and calibrates:
                    calibrations.append(marker)
            for pairs in by_kind.values():
                pairs.sort(key=lambda pair: (pair[0].obs_dir, pair[0].time, pair[0].stem, pair[1].path))
        return cls(
            markers=table,
            damaged=bad,
            code=dict(code or {}),
            masks=tuple(sorted(masks)),
            listing={folder: frozenset(names) for folder, names in (listing or {}).items()},
            tree=tree,
            outputs=outputs,
            files=dict(files or {}),
            _calibrations=sorted(calibrations, key=lambda m: (m.obs_dir, m.time, m.identity)),
            _by_kind=by_kind,
        )

    def has(self, path: str) -> bool:
        """Whether a usable product is there: its run passed and the file is intact."""
        found = self.outputs.get(path)
        return found is not None and found[0].state is State.DONE

    def on_disk(self, path: str) -> bool:
        """Whether a file is there, made by this engine or not."""
        if path in self.outputs:
            return True
        folder, _, name = path.rpartition("/")
        return name in self.listing.get(folder, frozenset())

    def content(self, path: str) -> str | None:
        """Content digest of an intact output or other known file, None if it is not known."""
        found = self.outputs.get(path)
        return found[1].content if found else self.files.get(path)

    def calibrations(self) -> list[Marker]:
        """Markers of passed runs that made a calibration, in a fixed order."""
        return self._calibrations

    def of_kind(self, kind: str) -> list[tuple[Marker, OutputRecord]]:
        """Passed and intact telluric products of one kind in canonical order (night, time, stem, path)."""
        return self._by_kind.get(kind, [])
