"""Products of all ended runs of an invocation, kept in little memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass

from apero_dask.core.outcome import Marker, OutputRecord
from apero_dask.core.plan import Node, Plan, Task

_RECORD = struct.Struct("<q32s32s")
"""Size, digest of the file, digest of the content."""
_HEX = 64


@dataclass(frozen=True, slots=True)
class Finished:
    """Products of a run that may be used."""

    identity: str
    tier: str
    obs_dir: str
    time: float
    outputs: tuple[OutputRecord, ...]

    @classmethod
    def of_marker(cls, marker: Marker) -> Finished:
        """Products of an earlier run."""
        return cls(marker.identity, marker.tier, marker.obs_dir, marker.time, marker.outputs)

    @classmethod
    def of_run(cls, item: Task | Node, identity: str, outputs: tuple[OutputRecord, ...]) -> Finished:
        """Products of a run of the plan."""
        if isinstance(item, Task):
            return cls(identity, item.step.tier, item.obs_dir, item.time, outputs)
        return cls(identity, "night", "", 0.0, outputs)


class Made(MutableMapping[str, Finished]):
    """:class:`Finished` by run key.

    Names follow from the plan, so that only sizes and digests are kept (72 bytes a file); a large archive has
    millions of files.  A record that does not follow from the plan is kept as it is.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._kept: dict[str, Finished | tuple[str, bytes]] = {}

    def __setitem__(self, key: str, done: Finished) -> None:
        packed = self._pack(key, done)
        self._kept[key] = done if packed is None else (done.identity, packed)

    def __getitem__(self, key: str) -> Finished:
        kept = self._kept[key]
        if isinstance(kept, Finished):
            return kept
        identity, packed = kept
        item = self._plan.by_key[key]
        outputs = tuple(
            OutputRecord(kind, fibre, path, size, digest.hex(), content.hex())
            for (kind, fibre, path), (size, digest, content) in zip(
                item.outputs(), _RECORD.iter_unpack(packed), strict=True
            )
        )
        return Finished.of_run(item, identity, outputs)

    def __delitem__(self, key: str) -> None:
        del self._kept[key]

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def _pack(self, key: str, done: Finished) -> bytes | None:
        item = self._plan.by_key[key]
        names = [(o.kind, o.fibre, o.path) for o in done.outputs]
        if names != item.outputs() or done != Finished.of_run(item, done.identity, done.outputs):
            return None
        digests = [text for o in done.outputs for text in (o.digest, o.content)]
        if any(len(text) != _HEX or text.strip("0123456789abcdef") for text in digests):
            return None
        return b"".join(
            _RECORD.pack(o.size, bytes.fromhex(o.digest), bytes.fromhex(o.content)) for o in done.outputs
        )
