"""Products found damaged while the plan runs: which runs are computed again, and who waits for them."""

from __future__ import annotations

from collections.abc import Collection

from apero_dask.core.plan import Plan


class Repairs:
    """Book of products that are made again.

    Parameters
    ----------
    plan : Plan
        The plan; a file can be made again if one of its runs makes it.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._makers: dict[str, str] | None = None
        self._made: dict[str, int] = {}
        self._waits: dict[str, set[str]] = {}
        self.redo: set[str] = set()
        """Runs that have ended and are computed once more."""

    def makers(self, paths: Collection[str]) -> set[str] | None:
        """Keys of the runs that make these files; None if the plan does not make all of them."""
        if self._makers is None:
            self._makers = {
                path: key for key, item in self._plan.by_key.items() for _, _, path in item.outputs()
            }
        found = {self._makers.get(path, "") for path in paths}
        return None if "" in found else found

    def fresh(self, maker: str, sent: int) -> bool:
        """Whether ``maker`` was repaired after submission ``sent``: a complaint is about the file before."""
        return self._made.get(maker, -1) >= sent

    def wait(self, key: str, makers: Collection[str]) -> None:
        """Let a run wait for the repair of its inputs."""
        self._waits[key] = set(makers)

    def waiting(self, key: str) -> bool:
        """Whether a run waits for a repair."""
        return key in self._waits

    def done(self, maker: str, number: int) -> list[str]:
        """Note a repair, ``number`` = latest submission; returns the runs that wait for nothing else."""
        self.redo.discard(maker)
        self._made[maker] = number
        free = []
        for key, makers in list(self._waits.items()):
            makers.discard(maker)
            if not makers:
                del self._waits[key]
                free.append(key)
        return free

    def failed(self, maker: str) -> list[str]:
        """Give a repair up; returns the runs that waited for it."""
        self.redo.discard(maker)
        lost = [key for key, makers in self._waits.items() if maker in makers]
        for key in lost:
            del self._waits[key]
        return lost
