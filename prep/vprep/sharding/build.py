"""Make the shards of a set that are not there yet, and retry the videos that failed."""

import contextlib
import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from vprep.errors import UsageError, WorkError, advice, reason, writing
from vprep.format import DATASET, missing_set, read_dataset
from vprep.layouts.alike import refuse_alike
from vprep.layouts.listing import Entry, Listing
from vprep.printing import note
from vprep.settings import Settings
from vprep.sharding.assemble import finish, is_finished, reopen
from vprep.sharding.estimate import shard_count
from vprep.sharding.lock import only_writer
from vprep.sharding.plan import Plan, Planned, divide, interleaved, keys_of, planned_videos, read_plan, write_plan
from vprep.sharding.progress import VideoProgress
from vprep.sharding.shard_writer import WORK, ShardWriter, load, make_work_folder
from vprep.sharding.worker_pool import in_order
from vprep.video.failures import Failure
from vprep.video.ffmpeg import Ffmpeg
from vprep.video.transcode import Video, transcode

Result = Video | Failure
# A folder that holds only these counts as empty.
HARMLESS = {"README.md", ".gitignore", ".gitkeep", ".DS_Store", ".lock", WORK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Where and how a set is made; its bytes depend on none of this."""

    out: Path
    root: Path
    ffmpeg: Ffmpeg
    workers: int
    timeout: float
    stop: threading.Event = field(default_factory=threading.Event)


def shard(job: Job, read_listing: Callable[[], Listing], settings: Settings) -> dict[str, Any]:
    """Make the set of `settings`, or continue it; return the content of its dataset.json."""
    with _writing(job.out):
        plan = _new_or_same_plan(job, read_listing, settings)
        if (job.out / DATASET).exists():
            if is_finished(job.out):
                shutil.rmtree(job.out / WORK, ignore_errors=True)
                return read_dataset(job.out)
            reopen(job.out)
        pending = {name for name in plan.shards if load(job.out, name) is None}
        _make_shards(job, plan, pending, lambda _, planned: _transcode(job, plan.settings, planned))
        return finish(job.out, plan)


def retry(job: Job, cause: str | None) -> dict[str, Any]:
    """Retry the videos that failed, or those of one cause; the other videos are copied as they are."""
    with _writing(job.out):
        plan = read_plan(job.out)
        if plan is None or not (job.out / DATASET).exists():
            raise UsageError(missing_set(job.out))
        if not is_finished(job.out):
            raise UsageError(f"{job.out} lacks some of its files; vprep verify {job.out} lists them")
        _refuse_settings(job.out, plan.settings, replace(plan.settings, ffmpeg=job.ffmpeg.version))
        reopen(job.out)
        chosen = {name for name in plan.shards if _has_failed(job.out, name, cause)}
        if not chosen:
            note(f"nothing to retry: no video failed{f' by {cause}' if cause else ''}")
        kept = lru_cache(maxsize=4)(lambda name: _kept_results(job.out, name, cause))

        def kept_or_retried(name: str, planned: Planned) -> Result:
            return kept(name).get(planned.key) or _transcode(job, plan.settings, planned)

        _make_shards(job, plan, chosen, kept_or_retried)
        return finish(job.out, plan)


def _new_or_same_plan(job: Job, read_listing: Callable[[], Listing], settings: Settings) -> Plan:
    """Return the set's plan, or make one; refuse a plan of other settings or lists.

    The listing, which may be large, is in memory only here.
    """
    listing = read_listing()
    settings = replace(settings, layout=listing.layout, ffmpeg=job.ffmpeg.version)
    plan = read_plan(job.out)
    if plan is not None:
        _refuse_settings(job.out, plan.settings, settings)
        _refuse_listing(job.out, listing)
        return plan
    _refuse_foreign(job.out)
    refuse_alike(listing.classes)
    keys = keys_of(listing.entries)
    ordered = interleaved(map(Planned, keys, listing.entries), settings.seed)
    entries = [video.entry for video in ordered]
    shards = settings.shards or shard_count(
        entries, job.root, settings, job.ffmpeg, workers=job.workers, timeout=job.timeout
    )
    return write_plan(job.out, settings, job.root, listing.classes, divide(ordered, shards))


def _make_shards(job: Job, plan: Plan, names: set[str], result_of: Callable[[str, Planned], Result]) -> None:
    """Make the named shards one after the other, with several videos at once."""
    make_work_folder(job.out)
    items = ((name, planned) for name, videos in planned_videos(job.out, names) for planned in videos)
    results = in_order(lambda item: (*item, result_of(*item)), items, workers=job.workers, size=_size, stop=job.stop)
    done = plan.videos - sum(plan.shards[name] for name in names)
    with contextlib.closing(results), VideoProgress(plan.videos, done) as progress:
        for name, triples in itertools.groupby(results, key=lambda triple: triple[0]):
            _make_shard(job.out, name, triples, progress)


def _make_shard(out: Path, name: str, triples: Iterator[tuple[str, Planned, Result]], progress: VideoProgress) -> None:
    writer = ShardWriter(out, name)
    try:
        for _, planned, result in triples:
            writer.add(planned, result)
            progress.video(result.cause if isinstance(result, Failure) else None)
        writer.finish()
    finally:
        writer.discard()


def _transcode(job: Job, settings: Settings, planned: Planned) -> Result:
    result = transcode(job.root, planned.entry, settings, job.ffmpeg, timeout=job.timeout, stop=job.stop)
    if (isinstance(result, Failure) or result.columns["damaged"]) and not _has_files(job.root):
        raise WorkError(f"{job.root} is gone or empty; restore it and run the same command again to continue")
    return result


def _has_files(root: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(True for _ in root.iterdir())
    return False


def _size(triple: tuple[str, Planned, Result]) -> int:
    result = triple[2]
    return len(result.mjpeg) if isinstance(result, Video) else 0


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Lock the folder of a set for this process, and turn an error of the disk into one sentence."""
    lock = contextlib.ExitStack()
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        lock.enter_context(only_writer(out))
    with lock:
        try:
            yield
        except OSError as error:
            raise WorkError(
                f"{out}: {reason(error)}; finished shards stay: {advice(error)} and run the same command again to "
                "continue"
            ) from error


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder with files that do not belong to a set."""
    others = sorted(path.name for path in out.iterdir() if path.name not in HARMLESS)
    if others:
        raise UsageError(f"{out} holds '{others[0]}' and is no set; choose an empty folder for --out")


def _refuse_settings(out: Path, old: Settings, new: Settings) -> None:
    before, now = old.as_dict(), new.as_dict()
    for name, value in before.items():
        if now[name] == value:
            continue
        what = name.replace("_", "-")
        if name == "ffmpeg":
            raise UsageError(
                f"{out} was made with ffmpeg {value}, and this is ffmpeg {now[name]}; name the same one in "
                f"VPREP_FFMPEG, or choose another --out"
            )
        made, here = ("none" if each is None else each for each in (value, now[name]))
        raise UsageError(f"{out} was made with {what} {made}, and this command has {here}; choose another --out")


def _refuse_listing(out: Path, listing: Listing) -> None:
    """Refuse lists that differ from the plan's. Videos that have disappeared since fail when their turn comes."""
    listed = {_identity(entry): entry for entry in listing.entries}
    for _, videos in planned_videos(out):
        for old in (video.entry for video in videos):
            entry = listed.pop(_identity(old), old)
            if (entry.label, entry.class_name, entry.splits) != (old.label, old.class_name, old.splits):
                raise UsageError(
                    f"the label or split of '{entry.source}' is not the one in {out}; choose another --out, "
                    f"or name the lists that the set was made with"
                )
    for entry in listed.values():
        raise UsageError(
            f"the source has {len(listed)} videos that the plan in {out} lacks ('{entry.source}'); "
            f"choose another --out for them"
        )


def _identity(entry: Entry) -> tuple[str, float | None, float | None]:
    return entry.source, entry.start, entry.end


def _has_failed(out: Path, name: str, cause: str | None) -> bool:
    found = load(out, name)
    return found is not None and any(cause in (None, failure["cause"]) for failure in found[0].failures)


def _kept_results(out: Path, name: str, cause: str | None) -> dict[str, Result]:
    """Return the videos of a finished shard by their keys, and its failures that are not retried."""
    found = load(out, name)
    if found is None:
        raise WorkError(f"{out / name} changed while it was being read; run vprep shard again")
    record, table = found
    results: dict[str, Result] = {
        failure["key"]: Failure(failure["cause"], failure["detail"])
        for failure in record.failures
        if cause not in (None, failure["cause"])
    }
    with (out / name).open("rb") as tar:
        for row in table.to_pylist():
            tar.seek(row["offset"])
            results[row["key"]] = Video(row, tar.read(row["size"]))
    return results
