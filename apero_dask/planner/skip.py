"""Which planned runs need not be executed because their products are there and up to date."""

from __future__ import annotations

from dataclasses import dataclass, field

from apero_dask.core.errors import Findings
from apero_dask.core.ids import digest
from apero_dask.core.outcome import ChoiceRecord, Marker, State
from apero_dask.core.plan import MISSING, STORED, Inputs, Node, Plan, Selection, Task
from apero_dask.core.settings import Settings
from apero_dask.core.snapshot import Snapshot
from apero_dask.planner.catalogue import DEFAULT, GIVEN

Expected = tuple[tuple[str, ...], str, tuple[str, str] | None]
"""(kinds, fibre, (source, content)) of a choice; None where it is not known before running."""
MODEL = "model"
"""Argument of the telluric fits that takes the residual model."""


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
    _predicted: dict[int, tuple[str, str] | None] = field(default_factory=dict)
    _contents: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)
    _expected: dict[int, list[Expected]] = field(default_factory=dict)
    """What runs with the same selections would choose now, by the identity of the selections."""

    def wanted(self, skip: bool, marker: Marker | None) -> bool:
        """Whether a finished run may be skipped: its switch, or the same interrupted invocation."""
        return skip or (marker is not None and bool(self.resume) and marker.invocation == self.resume)

    def usable(self, marker: Marker) -> bool:
        """Whether its products are intact and made by the code that is installed now."""
        damaged = self.snapshot.damaged
        if damaged and any(output.path in damaged for output in marker.outputs):
            return False
        return marker.code == self.snapshot.code.get(marker.recipe, marker.code)

    # -- runs -------------------------------------------------------------------------------

    def check(self, task: Task) -> None:
        """Mark one run as skipped if everything it depends on is unchanged."""
        if task.state is not State.PLANNED:
            return
        if self.settings.skip_check == "exists" and task.step.skip:
            self._check_existence(task)
            return
        if not task.step.skip and not self.resume:
            return
        paths = [inputs.paths() for inputs in task.inputs]
        marker = self.snapshot.markers.get(task.identity(paths))
        if marker is None or not self.wanted(task.step.skip, marker) or not self.usable(marker):
            return
        changed = self.changed_inputs(task, dict(marker.inputs), paths)
        same, only_choice = self.choices_unchanged(task, marker)
        if same and not changed:
            self.accept(task, marker, State.SKIPPED_EXISTS)
        elif only_choice and changed <= {MODEL} and self.keep_stale:
            # A model of more transmissions is to a fit what a better calibration is to an extraction.
            self.stale += 1
            self.accept(task, marker, State.SKIPPED_STALE)

    def accept(self, task: Task, marker: Marker, state: State) -> None:
        """Mark a run as skipped."""
        task.state, task.marker = state, marker.identity
        self.markers[task.key] = marker

    def _check_existence(self, task: Task) -> None:
        """The relaxed rule: every declared output is there, whatever it was made from."""
        paths = [path for _, _, path in task.outputs()]
        if not paths or any(p in self.snapshot.damaged or not self.snapshot.on_disk(p) for p in paths):
            return
        found = self.snapshot.outputs.get(paths[0])
        task.state = State.SKIPPED_EXISTS
        if found is not None:
            task.marker = found[0].identity
            self.markers[task.key] = found[0]

    def changed_inputs(self, task: Task, recorded: dict[str, str], paths: list[list[str]]) -> set[str]:
        """Arguments with an input other than the finished run saw, or that became usable since."""
        changed = set()
        for inputs, found in zip(task.inputs, paths, strict=True):
            if inputs.kind == "RAW":
                same = all(
                    recorded.get(path) == raw_content(frame.size, frame.digest)
                    for frame, path in zip(inputs.frames, found, strict=True)
                )
            else:
                same = self._files_unchanged(task, inputs, found, recorded)
            if not same:
                changed.add(inputs.argument)
        return changed

    def _files_unchanged(
        self, task: Task, inputs: Inputs, paths: list[str], recorded: dict[str, str]
    ) -> bool:
        content = self.snapshot.content
        width = len(inputs.fibres) if inputs.frames else 1
        split = len(inputs.frames)
        start = 0
        for number, producer in enumerate(inputs.producers):
            end = start + (width if number < split else 1)
            used = True
            if producer == MISSING:
                used = False
            elif producer != STORED:
                marker = self.markers.get(producer)
                if marker is None:
                    return False
                if marker.state is not State.DONE:
                    used = any(name == "no_in_qc" and value for name, value in task.options)
            for path in paths[start:end]:
                before = recorded.get(path)
                if before is None or not used:
                    if used or before is not None:
                        return False
                elif before != content(path):
                    return False
            start = end
        return True

    # -- choices ----------------------------------------------------------------------------

    def content(self, marker: Marker, kinds: tuple[str, ...]) -> str:
        """Content of a chosen calibration, see :func:`choice_content`."""
        key = (marker.identity, kinds)
        found = self._contents.get(key)
        if found is None:
            found = self._contents[key] = choice_content(marker, kinds, self.snapshot)
        return found

    def predicted(self, selection: Selection) -> tuple[str, str] | None:
        """(source identity, content) a run would choose now; None when that is not known before running."""
        if id(selection) not in self._predicted:
            # Every possible source comes before the first run that selects, so the answer is final.
            self._predicted[id(selection)] = self._predict(selection)
        return self._predicted[id(selection)]

    def _predict(self, selection: Selection) -> tuple[str, str] | None:
        for candidate in selection.candidates:
            if candidate.source:
                marker = self.markers.get(candidate.source)
                if marker is None:
                    return None
                if marker.state is not State.DONE:
                    continue
                return marker.identity, self.content(marker, candidate.kinds)
            if candidate.identity.startswith(DEFAULT):
                # Shipped files belong to the code, whose digest is compared.
                return candidate.identity, ""
            if candidate.identity.startswith(GIVEN):
                content = self.snapshot.files.get(candidate.identity.removeprefix(GIVEN))
                return None if content is None else (candidate.identity, content)
            marker = self.snapshot.markers.get(candidate.identity)
            if marker is not None:
                return candidate.identity, self.content(marker, candidate.kinds)
        return "", ""

    def choices_unchanged(self, task: Task, marker: Marker) -> tuple[bool, bool]:
        """Whether every choice would be the recorded one, and whether only choices differ."""
        expected = self._expected.get(id(task.selections))
        if expected is None:
            expected = self._expected[id(task.selections)] = [
                (s.kinds, s.fibre + s.applies_to, self.predicted(s)) for s in task.selections
            ]
        if _as_expected(expected, marker.choices):
            return True, True
        recorded: dict[tuple[tuple[str, ...], str], ChoiceRecord] = {
            (choice.kinds, choice.fibre): choice for choice in marker.choices
        }
        same = True
        for kinds, fibre, now in expected:
            choice = recorded.get((kinds, fibre))
            if now is None or choice is None:
                return False, False
            source, content = now
            if source != choice.source:
                same = False
            elif content != choice.content:
                return False, False
        return same, True

    @property
    def keep_stale(self) -> bool:
        """Finished runs that would now choose otherwise are kept."""
        if self.settings.stale is None:
            return self.settings.trigger_run
        return self.settings.stale == "keep"

    # -- nodes ------------------------------------------------------------------------------

    def check_node(self, node: Node) -> None:
        """A model is up to date when its set of transmissions is; other nodes have nothing to execute."""
        if node.kind != "model":
            return
        marker = self.snapshot.markers.get(node_identity(node, self.plan))
        if marker is None or not self.usable(marker):
            return
        now: dict[str, str | None] = {}
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
        if now == dict(marker.inputs):
            node.state, node.marker = State.SKIPPED_EXISTS, marker.identity
            self.markers[node.key] = marker


def _as_expected(expected: list[Expected], choices: tuple[ChoiceRecord, ...]) -> bool:
    """Whether the recorded choices are those expected, in the same order: the usual case, found quickly."""
    if len(expected) != len(choices):
        return False
    for (kinds, fibre, now), choice in zip(expected, choices, strict=True):
        if now is None or choice.source != now[0] or choice.content != now[1]:
            return False
        if choice.kinds != kinds or choice.fibre != fibre:
            return False
    return True


def mark_skipped(
    plan: Plan, order: list[str], settings: Settings, snapshot: Snapshot, findings: Findings, resume: str = ""
) -> None:
    """Set the state of every run that need not be executed.

    ``order``: keys with every producer before its consumers.
    """
    if not snapshot.markers and not snapshot.listing:
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
