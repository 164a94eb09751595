"""Make shards on the nodes of a Ray cluster, a task for each shard."""

import os
import time
from collections.abc import Iterator
from typing import Any

from vprep import signals, versions
from vprep.errors import UsageError, WorkError
from vprep.format import PLAN
from vprep.hashing import hash_file
from vprep.sharding.engines import Engine
from vprep.sharding.engines.ray_cluster import RETRIES, connected, first_line, nodes_with, require_able, require_cluster
from vprep.sharding.engines.ray_task import Made, Order, make_shard
from vprep.sharding.job import Job
from vprep.sharding.plan import Plan, planned_videos
from vprep.sharding.progress import VideoProgress
from vprep.sharding.shard_writer import make_work_folder

POLL = 0.2  # seconds between looks at a signal
LOOK = 5.0  # seconds between looks at the nodes
PATIENCE = 60.0  # seconds without a node that could run a task
ENDING = 5.0  # seconds for cancelled tasks to remove their drafts
AGAIN = "run the same command again to continue"


def on_cluster(address: str | None) -> Engine:
    """Return the engine of the cluster at `address`; without an address, of a cluster of this machine alone.

    An address without a cluster is refused now.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    require_cluster(address)

    def transcode_shards(job: Job, plan: Plan, names: set[str], progress: VideoProgress) -> None:
        make_work_folder(job.out.folder)
        if not names:
            return
        with connected(address) as ray, signals.deferred() as asked:
            _make(ray, _order(job, names), {name: plan.shards[name] for name in sorted(names)}, progress, asked)

    return transcode_shards


def _make(ray: Any, order: Order, shards: dict[str, int], progress: VideoProgress, asked: list[int]) -> None:  # noqa: ANN401
    """Make each of `shards`, which are numbers of videos by name."""
    nodes = nodes_with(ray, order["workers"])
    if not nodes:
        raise UsageError(
            f"no node of the cluster has {order['workers']} processors for a task; ask for fewer --workers"
        )
    require_able(ray, nodes, order)
    task = ray.remote(num_cpus=order["workers"], max_retries=RETRIES, scheduling_strategy="SPREAD")(make_shard)
    tasks = {task.remote(order, name): name for name in shards}
    lost: dict[str, str] = {}
    try:
        for reference in _finished(ray, list(tasks), order["workers"], asked):
            try:
                made: Made = ray.get(reference)
            except ray.exceptions.RayError as error:
                lost[tasks[reference]] = first_line(error)
            else:
                _refuse_fault(made)
                progress.videos(shards[tasks[reference]], made["causes"])
    finally:
        _cancel(ray, list(tasks))
    if lost:
        name, why = min(lost.items())
        raise WorkError(
            f"{len(lost)} of {len(shards)} shards were not made, each tried {RETRIES + 1} times: {name} ({why}), ...; "
            f"finished shards stay: {AGAIN}"
        )


def _finished(ray: Any, tasks: list[Any], workers: int, asked: list[int]) -> Iterator[Any]:  # noqa: ANN401
    """Yield each task when it is done; raise `Stop` when a signal asks for it."""
    looked = able = time.monotonic()
    while tasks:
        done, tasks = ray.wait(tasks, num_returns=1, timeout=POLL)
        yield from done
        now = time.monotonic()
        if asked:
            raise signals.Stop(asked[0])
        if now - looked > LOOK:
            looked = now
            able = now if nodes_with(ray, workers) else able
        if now - able > PATIENCE:
            raise WorkError(f"no node of the cluster is left to make shards; finished shards stay: {AGAIN}")


def _refuse_fault(made: Made) -> None:
    if made["fault"]:
        raise WorkError(f"node {made['node']}: {made['fault']}; finished shards stay: {AGAIN}")


def _cancel(ray: Any, tasks: list[Any]) -> None:  # noqa: ANN401
    """Cancel the tasks that are not done, and wait a little for the running ones to remove their drafts."""
    _, running = ray.wait(tasks, num_returns=len(tasks), timeout=0)
    for task in running:
        ray.cancel(task)
    ray.wait(running, num_returns=len(running), timeout=ENDING) if running else None


def _order(job: Job, names: set[str]) -> Order:
    video, size = _seen_video(job, names)
    return Order(
        out=job.out.address,
        root=str(job.videos),
        scratch=str(job.scratch or ""),
        workers=job.workers,
        timeout=job.timeout,
        package=versions.installed("playspeed"),
        ffmpeg=job.ffmpeg.version,
        plan=hash_file(job.out.fetch(PLAN)),
        video=video,
        video_bytes=size,
    )


def _seen_video(job: Job, names: set[str]) -> tuple[str, int]:
    """Return a video of these shards that is there, and its size; an empty name when none is."""
    for _, videos in planned_videos(job.out.folder, names):
        for planned in videos:
            size = job.videos.size(planned.entry.source)
            if size is not None:
                return planned.entry.source, size
    return "", 0
