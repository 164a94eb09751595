"""Make shards on this machine, one after the other, with several videos at once."""

import contextlib
import itertools
from collections.abc import Callable, Iterator

from vprep.errors import WorkError
from vprep.settings import Settings
from vprep.sharding.job import Job
from vprep.sharding.plan import Plan, Planned, planned_videos
from vprep.sharding.progress import VideoProgress
from vprep.sharding.shard_writer import ShardWriter, make_work_folder
from vprep.sharding.worker_pool import in_order
from vprep.store import ChangedError
from vprep.video.failures import Failure
from vprep.video.transcode import Video, transcode

Result = Video | Failure


def transcode_shards(job: Job, plan: Plan, names: set[str], progress: VideoProgress) -> None:
    """Make the named shards from their videos."""
    make_shards(job, names, lambda _, planned: transcoded(job, plan.settings, planned), progress)


def make_shards(
    job: Job,
    names: set[str],
    result_of: Callable[[str, Planned], Result],
    progress: VideoProgress,
    *,
    replace: bool = False,
) -> None:
    """Make the named shards from what `result_of` returns for a shard's name and each of its videos."""
    make_work_folder(job.out.folder)
    items = ((name, planned) for name, videos in planned_videos(job.out.folder, names) for planned in videos)
    results = in_order(lambda item: (*item, result_of(*item)), items, workers=job.workers, size=_size, stop=job.stop)
    with contextlib.closing(results):
        for name, triples in itertools.groupby(results, key=lambda triple: triple[0]):
            _make_shard(ShardWriter(job.out, name, replaces=replace), triples, progress)


def transcoded(job: Job, settings: Settings, planned: Planned) -> Result:
    """Return the frames of a video, or why it has none; raise WorkError when all videos are gone."""
    try:
        with job.videos.at_hand(planned.entry) as (root, entry):
            result = transcode(root, entry, settings, job.ffmpeg, timeout=job.timeout, stop=job.stop)
    except ChangedError:
        return Failure("changed", "it was overwritten after the set was planned")
    if (isinstance(result, Failure) or result.columns["damaged"]) and job.videos.are_gone():
        raise WorkError(f"{job.videos} is gone or empty; restore it and run the same command again to continue")
    return result


def _make_shard(writer: ShardWriter, triples: Iterator[tuple[str, Planned, Result]], progress: VideoProgress) -> None:
    try:
        for _, planned, result in triples:
            writer.add(planned, result)
            progress.video(result.cause if isinstance(result, Failure) else None)
        writer.finish()
    finally:
        writer.discard()


def _size(triple: tuple[str, Planned, Result]) -> int:
    result = triple[2]
    return len(result.mjpeg) if isinstance(result, Video) else 0
