"""Carries out a campaign: every frame once, over several processes, resumable."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from apero_dask.simulator.archive import (
    CONFIGURATION,
    RECORD,
    Archive,
    StorageError,
    check_carry_on,
    frame_digest,
    object_table,
    raw_name,
    remove_leftovers,
    short_record,
    write_file,
)
from apero_dask.simulator.campaign import Campaign, CampaignConfig, build_campaign
from apero_dask.simulator.config import SimulatorConfig, document
from apero_dask.simulator.detector import static_detector
from apero_dask.simulator.epochs import EpochConfig
from apero_dask.simulator.expose import RawFrame, afterglow_rate, expose
from apero_dask.simulator.headers import Camera
from apero_dask.simulator.observatory import camera_of
from apero_dask.simulator.rawfile import frame_bytes
from apero_dask.simulator.spec import FrameSpec
from apero_dask.simulator.tables import load_instrument
from apero_dask.simulator.truth import (
    campaign_table,
    star_table,
    write_detector_truth,
    write_frame_truth,
)

if TYPE_CHECKING:
    from apero_dask.simulator.paint import Painted

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
        The campaign cannot be laid out, or the folder holds another one.
    StorageError
        The folder cannot be written.
    """
    campaign = campaign_of(config, velocities=False)
    camera = camera_of(config)
    digests = _digests(config, campaign, "headers")
    record = short_record(campaign.frames, digests)
    todo = _prepare(config, archive, campaign, digests, record)
    # One task per night: a header takes less time than handing it to another process.
    nights: dict[str, list[FrameSpec]] = {}
    for spec in todo:
        nights.setdefault(spec.obs_dir, []).append(spec)
    kept = done = len(campaign.frames) - len(todo)
    for count in _parallel(_write_headers, [(archive, camera, night) for night in nights.values()], workers):
        done += count
        progress(done, len(campaign.frames), "headers")
    return Summary(len(campaign.frames), len(todo), kept)


def _write_headers(archive: Archive, camera: Camera, specs: Sequence[FrameSpec]) -> int:
    for spec in specs:
        write_file(archive.raw(spec), frame_bytes(spec, camera))
    return len(specs)


def run_campaign(config: SimulatorConfig, archive: Archive, workers: int, progress: Progress) -> Summary:
    """Simulate every frame of a campaign that is not there yet.

    Parameters
    ----------
    config : the whole configuration
    archive : output folder; frames finished by an earlier call of the same configuration are kept
    workers : processes; the files do not depend on their number
    progress : told after every frame

    Raises
    ------
    ConfigError
        The campaign cannot be laid out, a table cannot be used, or the folder holds another campaign.
    StorageError
        The folder cannot be written.
    """
    campaign = campaign_of(config)
    geometry, _ = load_instrument(config.instrument, config.geometry)
    digests = _digests(config, campaign, "frames")
    record = campaign_table(campaign.frames, digests)
    todo = _prepare(config, archive, campaign, digests, record)
    if config.output.truth:
        write_file(archive.truth_folder / "stars.csv", [star_table(campaign.stars).encode()])
        detector = archive.truth_folder / "detector.fits"
        if todo and not detector.exists():
            static = static_detector(config.detector, geometry, config.seed)
            write_detector_truth(detector, static, config.output.truth_images)
    before = _previous(campaign.frames) if config.detector.persistence else {}
    digest_of = dict(zip(map(_key, campaign.frames), digests, strict=True))
    tasks = [(config, archive, spec, digest_of[_key(spec)], before.get(_key(spec))) for spec in todo]
    kept = done = len(campaign.frames) - len(todo)
    if min(workers, len(tasks)) > 1:
        # Once here instead of in every worker: compiled loops are kept on disk, where the workers find them.
        from apero_dask.simulator.paint import warm_up

        warm_up(config)
    for name in _parallel(simulate_frame, tasks, workers):
        done += 1
        progress(done, len(campaign.frames), name)
    return Summary(len(campaign.frames), len(todo), kept)


def simulate_frame(
    config: SimulatorConfig, archive: Archive, spec: FrameSpec, digest: str, previous: FrameSpec | None = None
) -> str:
    """Paint, record and write one exposure; return its identifier and type.

    The truth file comes first, so that a raw frame is never there without it.

    Parameters
    ----------
    digest : of configuration and exposure, for the truth file
    previous : exposure before it in the same night, whose afterglow is seen; None without persistence
    """
    if not {"zero_bytes", "not_fits"}.isdisjoint(spec.faults):
        write_file(archive.raw(spec), frame_bytes(spec, camera_of(config)))
        return f"{spec.identifier} {spec.dprtype}"
    painted, frame = record_frame(config, spec, previous)
    if config.output.truth:
        write_frame_truth(
            archive.truth(spec), spec, config.seed, digest, painted, frame, config.output.truth_images
        )
    write_file(archive.raw(spec), frame_bytes(spec, camera_of(config), frame.planes))
    return f"{spec.identifier} {spec.dprtype}"


def record_frame(
    config: SimulatorConfig, spec: FrameSpec, previous: FrameSpec | None = None
) -> tuple[Painted, RawFrame]:
    """Light and raw planes of one exposure, in memory."""
    from apero_dask.simulator.paint import paint

    geometry, _ = load_instrument(config.instrument, config.geometry)
    painted = paint(config, spec)
    afterglow = None
    if previous is not None:
        waited = (spec.mjd_end - previous.mjd_end) * 86400.0 - spec.exptime_s
        fluence = paint(config, previous).rate * previous.exptime_s
        afterglow = afterglow_rate(config.detector, fluence, max(waited, 0.0), spec.exptime_s)
    return painted, expose(config.detector, geometry, config.seed, spec, painted.rate, afterglow)


def _key(spec: FrameSpec) -> tuple[str, str]:
    return spec.obs_dir, spec.identifier


def _previous(specs: Sequence[FrameSpec]) -> dict[tuple[str, str], FrameSpec]:
    """The exposure before each one in the same night."""
    ordered = sorted(specs, key=lambda spec: (spec.obs_dir, spec.mjd_start))
    return {_key(b): a for a, b in itertools.pairwise(ordered) if a.obs_dir == b.obs_dir}


def _digests(config: SimulatorConfig, campaign: Campaign, kind: str) -> list[str]:
    """Digest of every frame: of all that decides its pixels apart from the list of exposures it stands in."""
    plain = replace(config, campaign=CampaignConfig(), epochs=EpochConfig())
    base = f"{kind} {plain.digest()}"
    return [frame_digest(base, spec) for spec in campaign.frames]


def _prepare(
    config: SimulatorConfig, archive: Archive, campaign: Campaign, digests: Sequence[str], record: str
) -> list[FrameSpec]:
    """Check the folder, leave the record, and return the exposures still to be written."""
    check_carry_on(archive, campaign.frames, digests)
    write_file(archive.truth_folder / CONFIGURATION, [document(config).encode()])
    write_file(archive.truth_folder / RECORD, [record.encode()])
    if not archive.objects.exists():
        write_file(archive.objects, [object_table(campaign.stars).encode()])
    nights = list(dict.fromkeys(spec.obs_dir for spec in campaign.frames))
    for night in nights:
        remove_leftovers(archive.root / "raw" / night)
        remove_leftovers(archive.truth_folder / night)
    present = {f"raw/{night}/{name}" for night in nights for name in _names(archive, night)}
    return [spec for spec in campaign.frames if raw_name(spec) not in present]


def _names(archive: Archive, night: str) -> set[str]:
    try:
        return {path.name for path in (archive.root / "raw" / night).iterdir()}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise StorageError(
            f"Cannot read {archive.root / 'raw' / night}: {error.strerror}; choose another folder with --out."
        ) from error


def _start_worker(threads: int) -> None:
    # Ctrl-C reaches the whole group; only the parent decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Set before numba is imported: processes share the cores among them.
    os.environ.setdefault("NUMBA_NUM_THREADS", str(threads))


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
    workers = min(workers, len(tasks))
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(threads,))
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
