"""Carries out a campaign: every frame once, over several processes, resumable."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any

from apero_dask.simulator.archive import (
    Archive,
    StorageError,
    check_carry_on,
    frame_digest,
    object_table,
    write_file,
    write_record,
)
from apero_dask.simulator.campaign import Campaign, CampaignConfig, build_campaign
from apero_dask.simulator.config import SimulatorConfig, document
from apero_dask.simulator.headers import Camera
from apero_dask.simulator.observatory import camera_of
from apero_dask.simulator.rawfile import frame_bytes
from apero_dask.simulator.spec import FrameSpec

Progress = Callable[[int, int, str], None]
"""Called with frames finished, frames in all, and the name of the last one."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a call of :func:`run_campaign` did."""

    frames: int
    written: int
    kept: int
    """Found finished from an earlier call."""


def campaign_of(config: SimulatorConfig, velocities: bool = True) -> Campaign:
    """All exposures of the campaign of a configuration; see :func:`build_campaign`.

    Raises
    ------
    ConfigError
        The campaign cannot be laid out.
    """
    camera = camera_of(config)
    return build_campaign(
        config.campaign, config.epochs, config.seed, camera.frame_time_s, camera.site, velocities
    )


def worked_campaign(
    instrument: str = "SPIROU", seed: int = 1, nights: int = 0, frames: int = 0, extra_night: bool = False
) -> list[FrameSpec]:
    """Exposures of the worked example in memory: three nights, 146 frames, unless scaled."""
    config = SimulatorConfig(
        instrument=instrument,
        seed=seed,
        campaign=CampaignConfig(name="worked", nights=nights, frames=frames, extra_night=extra_night),
    )
    return list(campaign_of(config).frames)


def run_headers(config: SimulatorConfig, archive: Archive, workers: int, progress: Progress) -> Summary:
    """Write a campaign as files of one header each: enough to plan with.

    Raises
    ------
    ConfigError
        The campaign cannot be laid out.
    StorageError
        The folder cannot be written, or holds something else.
    """
    campaign = campaign_of(config, velocities=False)
    camera = camera_of(config)
    base = _base_digest(config, "headers")
    todo, kept = _prepare(config, archive, campaign, base)
    # One task per night: a header takes less time than handing it to another process.
    nights: dict[str, list[FrameSpec]] = {}
    for spec in todo:
        nights.setdefault(spec.obs_dir, []).append(spec)
    done = kept
    for count in _parallel(_write_headers, [(archive, camera, night) for night in nights.values()], workers):
        done += count
        progress(done, len(campaign.frames), "headers")
    return Summary(len(campaign.frames), len(todo), kept)


def _write_headers(archive: Archive, camera: Camera, specs: Sequence[FrameSpec]) -> int:
    for spec in specs:
        write_file(archive.raw(spec), frame_bytes(spec, camera))
    return len(specs)


def _base_digest(config: SimulatorConfig, kind: str) -> str:
    """Digest of everything that decides the pixels apart from the list of exposures itself."""
    plain = replace(config, campaign=CampaignConfig(), epochs=type(config.epochs)())
    return f"{kind} {plain.digest()}"


def _prepare(
    config: SimulatorConfig, archive: Archive, campaign: Campaign, base: str
) -> tuple[list[FrameSpec], int]:
    """Check the folder, leave the record, and return what is still to be written."""
    digests = [frame_digest(base, spec) for spec in campaign.frames]
    check_carry_on(archive, campaign.frames, digests)
    write_record(archive, campaign.frames, digests, document(config))
    if not archive.objects.exists():
        write_file(archive.objects, [object_table(campaign.stars).encode()])
    present = {
        night: _names(archive, night) for night in dict.fromkeys(spec.obs_dir for spec in campaign.frames)
    }
    todo = [spec for spec in campaign.frames if archive.raw(spec).name not in present[spec.obs_dir]]
    return todo, len(campaign.frames) - len(todo)


def _names(archive: Archive, night: str) -> set[str]:
    try:
        return {path.name for path in (archive.root / "raw" / night).iterdir()}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise StorageError(
            f"Cannot read {archive.root / 'raw' / night}: {error.strerror}; choose another folder with --out."
        ) from error


def _ignore_interrupt() -> None:
    # Ctrl-C reaches the whole group; only the parent decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _parallel(function: Callable[..., Any], tasks: Sequence[tuple], workers: int) -> Iterable[Any]:
    """Yield results as they come; with one worker everything happens in this process.

    The first exception ends it: tasks not yet begun are dropped, running ones finish.
    """
    if workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            yield function(*task)
        return
    # Spawned processes: forking one that has threads (numba, BLAS) may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_ignore_interrupt)
    try:
        queue = iter(tasks)
        running: set[Future] = set()
        while True:
            # A short queue: a failure is met before thousands of frames have been handed out.
            while len(running) < 2 * workers and (task := next(queue, None)) is not None:
                running.add(pool.submit(function, *task))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except BrokenProcessPool:
        raise StorageError(
            "a worker process was killed, most likely for want of memory; use fewer --workers and give the "
            "same command again: finished frames are kept."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
