"""Groups of frames: nightly sets, exposure sequences, archive lists even in time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from apero_dask.core.declare import Argument
from apero_dask.core.frames import RawFrame

FEWEST_IN_SUBGROUP = 3
"""Fabry-Perot sets with fewer frames are not used for the reference image."""


@dataclass(frozen=True, slots=True)
class FrameGroup:
    """Frames of one run by argument, in canonical order, and what the limit cut off."""

    obs_dir: str
    files: tuple[tuple[str, tuple[RawFrame, ...]], ...]
    cut: tuple[tuple[str, int, int], ...] = ()
    """(frame types, frames found, frames used) of every argument over the limit."""

    @property
    def leading(self) -> tuple[RawFrame, ...]:
        """Frames of the argument that products are named after."""
        return self.files[0][1]


def mean_time(frames: Sequence[RawFrame]) -> float:
    """Product time: mean mid-exposure, MJD.

    The sum is rounded once, so it does not depend on the order in which the frames were found.
    """
    return fmean(frame.mjdmid for frame in frames)


def canonical(frames: Iterable[RawFrame]) -> list[RawFrame]:
    """Frames in canonical order: night, mid-exposure, identifier."""
    return sorted(frames, key=lambda frame: frame.order_key)


def exposure_sequences(frames: Sequence[RawFrame]) -> list[list[RawFrame]]:
    """Frames of one night split by type and wherever the exposure counter does not go up by one.

    Groups come in canonical order of (type order of appearance, time).
    """
    groups: list[list[RawFrame]] = []
    last: dict[str, list[RawFrame]] = {}
    for frame in frames:
        group = last.get(frame.dprtype)
        if group is None or frame.cmpltexp != group[-1].cmpltexp + 1:
            group = []
            groups.append(group)
            last[frame.dprtype] = group
        group.append(frame)
    return groups


def nightly_groups(
    frames: Sequence[RawFrame],
    arguments: Sequence[Argument],
    types: tuple[str, ...],
    limit: int,
    by_sequence: bool,
) -> tuple[list[FrameGroup], str]:
    """Runs of one night: groups, or no group and the missing type.

    ``frames`` are those of the night in canonical order; ``types`` narrows an argument that takes several.
    """
    wanted = [tuple(t for t in argument.types if not types or t in types) for argument in arguments]
    found = [[f for f in frames if f.dprtype in want] for want in wanted]
    for want, have in zip(wanted, found, strict=True):
        if not have:
            return [], " or ".join(want)
    if not by_sequence:
        return [_limited(frames[0].obs_dir, arguments, wanted, found, limit)], ""
    groups = []
    others = [exposure_sequences(have) for have in found[1:]]
    for leading in exposure_sequences(found[0]):
        lists = [leading]
        for sequences, argument in zip(others, arguments[1:], strict=True):
            lists.append(_nearest(leading, sequences, argument.one_type))
        groups.append(_limited(frames[0].obs_dir, arguments, wanted, lists, limit))
    return groups, ""


def _nearest(leading: list[RawFrame], sequences: list[list[RawFrame]], one_type: bool) -> list[RawFrame]:
    """Sub-group nearest in mean time; of every type where the argument mixes types."""
    centre = mean_time(leading)

    def nearest(candidates: list[list[RawFrame]]) -> list[RawFrame]:
        return min(candidates, key=lambda g: (abs(mean_time(g) - centre), g[0].order_key))

    if one_type:
        return nearest(sequences)
    kinds = dict.fromkeys(group[0].dprtype for group in sequences)
    return canonical(f for kind in kinds for f in nearest([g for g in sequences if g[0].dprtype == kind]))


def _limited(
    obs_dir: str,
    arguments: Sequence[Argument],
    wanted: Sequence[tuple[str, ...]],
    found: Sequence[list[RawFrame]],
    limit: int,
) -> FrameGroup:
    cut = tuple(
        (" + ".join(want), len(have), limit)
        for want, have in zip(wanted, found, strict=True)
        if len(have) > limit
    )
    files = tuple(
        (argument.name, tuple(have[-limit:])) for argument, have in zip(arguments, found, strict=True)
    )
    return FrameGroup(obs_dir, files, cut)


def even_in_time(frames: Sequence[RawFrame], most: int) -> list[RawFrame]:
    """At most ``most`` frames: the one nearest to a neighbour is dropped until few enough are left.

    On ties the earlier frame goes.  The result is even in time and does not depend on the input order.
    """
    ordered = sorted(frames, key=lambda f: (f.mjdmid, f.identifier))
    left = len(ordered)

    def drop(number: int) -> int:
        return 1

    kept = _thin([f.mjdmid for f in ordered], left - most, drop)
    return canonical(ordered[i] for i in kept)


def _thin(times: Sequence[float], surplus: int, drop: Callable[[int], int]) -> list[int]:
    """Positions that stay when those nearest to a neighbour in time go, one after the other.

    ``times`` are sorted; ``drop`` says by how much dropping a position lowers ``surplus``, 0 if it must stay.
    """
    n = len(times)
    before, after = list(range(-1, n - 1)), list(range(1, n + 1))
    alive = [True] * n

    def distance(i: int) -> float:
        left = times[i] - times[before[i]] if before[i] >= 0 else float("inf")
        right = times[after[i]] - times[i] if after[i] < n else float("inf")
        return min(left, right)

    heap = [(distance(i), i) for i in range(n)]
    heapq.heapify(heap)
    while surplus > 0 and heap:
        gap, i = heapq.heappop(heap)
        if not alive[i] or gap != distance(i):
            continue
        gain = drop(i)
        if not gain:
            continue
        alive[i] = False
        surplus -= gain
        if before[i] >= 0:
            after[before[i]] = after[i]
            heapq.heappush(heap, (distance(before[i]), before[i]))
        if after[i] < n:
            before[after[i]] = before[i]
            heapq.heappush(heap, (distance(after[i]), after[i]))
    return [i for i in range(n) if alive[i]]


def subgroups(frames: Sequence[RawFrame], hours: float) -> list[list[RawFrame]]:
    """Frames sorted by time; a new sub-group starts ``hours`` after the first frame of the last one."""
    groups: list[list[RawFrame]] = []
    for frame in sorted(frames, key=lambda f: (f.mjdmid, f.identifier)):
        if not groups or (frame.mjdmid - groups[-1][0].mjdmid) * 24.0 > hours:
            groups.append([])
        groups[-1].append(frame)
    return groups


def fp_archive_list(frames: Sequence[RawFrame], most: int, hours: float, master_night: str) -> list[RawFrame]:
    """Fabry-Perot frames of the reference image: sub-groups of at least three, at most ``most`` frames.

    Thinning single frames would leave one frame of each set and hence no usable set in a large archive; so
    frames are dropped only while their set keeps three, then whole sets, nearest neighbours first.
    The sets of the master night stay: products are named after its frames and registered to them.
    """
    sets = [group for group in subgroups(frames, hours) if len(group) >= FEWEST_IN_SUBGROUP]
    owner = [number for number, group in enumerate(sets) for _ in group]
    left = [len(group) for group in sets]

    def drop_frame(i: int) -> int:
        if left[owner[i]] <= FEWEST_IN_SUBGROUP:
            return 0
        left[owner[i]] -= 1
        return 1

    ordered = [frame for group in sets for frame in group]
    kept = _thin([f.mjdmid for f in ordered], len(ordered) - most, drop_frame)

    def drop_set(number: int) -> int:
        return 0 if sets[number][0].obs_dir == master_night else left[number]

    remaining = set(_thin([group[0].mjdmid for group in sets], len(kept) - most, drop_set))
    return canonical(ordered[i] for i in kept if owner[i] in remaining)
