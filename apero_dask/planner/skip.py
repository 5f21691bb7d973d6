"""Which planned runs need not be executed because their products are there and up to date."""

from __future__ import annotations

from dataclasses import dataclass, field

from apero_dask.core.errors import Findings
from apero_dask.core.ids import digest
from apero_dask.core.outcome import ChoiceRecord, Marker, State
from apero_dask.core.plan import MISSING, STORED, Node, Plan, Selection, Task
from apero_dask.core.settings import Settings
from apero_dask.core.snapshot import Snapshot
from apero_dask.planner.catalogue import DEFAULT, GIVEN


def choice_content(marker: Marker, kinds: tuple[str, ...], snapshot: Snapshot) -> str:
    """Digest over the content digests of the files of ``kinds`` that a run wrote; empty if one is damaged."""
    found = [o for o in marker.outputs if o.kind in kinds]
    if any(o.path in snapshot.damaged for o in found):
        return ""
    return digest([[o.path, o.content] for o in sorted(found, key=lambda o: o.path)])


@dataclass(slots=True)
class Skipper:
    """Walks the plan in an order in which producers come first and marks what is up to date."""

    plan: Plan
    settings: Settings
    snapshot: Snapshot
    resume: str
    """Invocation that was interrupted and is continued, or empty."""
    markers: dict[str, Marker] = field(default_factory=dict)
    """Marker of every run and node that is skipped, by key."""
    stale: int = 0

    def usable_marker(self, task: Task | Node, identity: str) -> Marker | None:
        """Marker that may stand for the run: switch on or same interrupted invocation, code and files unchanged."""
        marker = self.snapshot.markers.get(identity)
        if marker is None:
            return None
        resumed = bool(self.resume) and marker.invocation == self.resume
        wanted = resumed or (isinstance(task, Node) or task.step.skip)
        if not wanted:
            return None
        if any(output.path in self.snapshot.damaged for output in marker.outputs):
            return None
        if self.settings.skip_check == "exists":
            return marker
        if marker.code != self.snapshot.code.get(marker.recipe, marker.code):
            return None
        return marker

    def current(self, key: str, path: str) -> str | None:
        """Content digest an input has now, or None when its producer is to be executed or it is not there."""
        if key == STORED:
            return self.snapshot.content(path)
        if key == MISSING:
            return None
        marker = self.markers.get(key)
        if marker is None:
            return None
        return next((o.content for o in marker.outputs if o.path == path), "")

    def inputs_unchanged(self, task: Task, marker: Marker) -> bool:
        """Whether every input that the finished run used has the recorded content, and no more became usable."""
        recorded = dict(marker.inputs)
        for inputs in task.inputs:
            paths = inputs.paths()
            if inputs.kind == "RAW":
                for frame, path in zip(inputs.frames, paths, strict=True):
                    if recorded.get(path) != raw_content(frame.size, frame.digest):
                        return False
                continue
            per_frame = len(inputs.fibres) if inputs.frames else 1
            for number, path in enumerate(paths):
                in_frames = number < len(inputs.frames) * per_frame
                position = (
                    number // per_frame
                    if in_frames
                    else (len(inputs.frames) + number - len(inputs.frames) * per_frame)
                )
                key = inputs.producers[position]
                now = self.current(key, path)
                if now is None:
                    if key == MISSING and path not in recorded:
                        continue
                    return False
                passed = key not in self.markers or self.markers[key].state is State.DONE
                if passed != (path in recorded) or (passed and recorded[path] != now):
                    return False
        return True

    def predicted(self, selection: Selection) -> tuple[str, str, int] | None:
        """(source identity, content, rank) a run would choose now; None when that is not known before running."""
        for candidate in selection.candidates:
            if candidate.source:
                marker = self.markers.get(candidate.source)
                if marker is None:
                    return None
                if marker.state is not State.DONE:
                    continue
                return marker.identity, choice_content(marker, candidate.kinds, self.snapshot), candidate.rank
            if candidate.identity.startswith((DEFAULT, GIVEN)):
                return candidate.identity, "", candidate.rank
            marker = self.snapshot.markers.get(candidate.identity)
            if marker is not None:
                content = choice_content(marker, candidate.kinds, self.snapshot)
                return candidate.identity, content, candidate.rank
        return "", "", 0

    def choices_unchanged(self, task: Task, marker: Marker) -> tuple[bool, bool]:
        """Whether every choice would be the recorded one, and whether only the choice differs."""
        recorded: dict[tuple[tuple[str, ...], str], ChoiceRecord] = {
            (choice.kinds, choice.fibre): choice for choice in marker.choices
        }
        for selection in task.selections:
            now = self.predicted(selection)
            if now is None:
                return False, False
            choice = recorded.get((selection.kinds, selection.fibre + selection.applies_to))
            if choice is None:
                return False, False
            source, content, _ = now
            if source != choice.source:
                return False, True
            if content != choice.content:
                return False, False
        return True, True

    def check(self, task: Task) -> None:
        """Mark one run as skipped if everything it depends on is unchanged."""
        if task.state is not State.PLANNED:
            return
        marker = self.usable_marker(task, task.identity())
        if marker is None:
            return
        if self.settings.skip_check == "exists":
            self.accept(task, marker, State.SKIPPED_EXISTS)
            return
        if any(key not in self.markers for key in task.depends):
            return
        if not self.inputs_unchanged(task, marker):
            return
        same, only_choice = self.choices_unchanged(task, marker)
        if same:
            self.accept(task, marker, State.SKIPPED_EXISTS)
        elif only_choice and self.keep_stale:
            self.stale += 1
            self.accept(task, marker, State.SKIPPED_STALE)

    @property
    def keep_stale(self) -> bool:
        """Finished runs that would now choose otherwise are kept."""
        if self.settings.stale is None:
            return self.settings.trigger_run
        return self.settings.stale == "keep"

    def check_node(self, node: Node) -> None:
        """A model is up to date when its set of transmissions is; a gate has nothing to execute."""
        if node.kind == "gate":
            return
        marker = self.usable_marker(node, node_identity(node, self.plan))
        if marker is None:
            return
        recorded = dict(marker.inputs)
        now: dict[str, str] = {}
        for members, stored in ((node.members, node.stored), (node.fallback, node.fallback_stored)):
            for key in members:
                found = self.markers.get(key)
                if found is None:
                    return
                if found.state is State.DONE:
                    now |= {o.path: o.content for o in found.outputs}
            now |= {path: self.snapshot.content(path) for path in stored}
            if now:
                break
        if now == recorded:
            node.state, node.marker = State.SKIPPED_EXISTS, marker.identity
            self.markers[node.key] = marker

    def accept(self, task: Task, marker: Marker, state: State) -> None:
        """Mark a run as skipped."""
        task.state, task.marker = state, marker.identity
        self.markers[task.key] = marker


def raw_content(size: int, header_digest: str) -> str:
    """Content digest of a raw frame: its size and the digest of its primary header."""
    return f"{size}:{header_digest}"


def node_identity(node: Node, plan: Plan) -> str:
    """Run identity of a model node: its product and the paths of its set."""
    paths = [
        output[2]
        for key in (*node.members, *node.fallback)
        if isinstance(task := plan.by_key[key], Task)
        for output in task.outputs()
    ]
    return digest([node.product, sorted([*paths, *node.stored, *node.fallback_stored])])


def mark_skipped(
    plan: Plan, order: list[str], settings: Settings, snapshot: Snapshot, findings: Findings, resume: str = ""
) -> None:
    """Set the state of every run that need not be executed.

    ``order``: keys with every producer before its consumers.
    """
    if not snapshot.markers:
        return
    skipper = Skipper(plan, settings, snapshot, resume)
    for key in order:
        item = plan.by_key[key]
        if isinstance(item, Task):
            skipper.check(item)
        else:
            skipper.check_node(item)
    if skipper.stale:
        findings.add("W-STALE-KEPT", n=skipper.stale)
