"""Carries a plan out: shards that are not there yet are made, finished ones are left alone."""

import contextlib
import errno
import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from vprep.build.assemble import finish, is_finished, reopen
from vprep.build.estimate import shard_count
from vprep.build.lock import only_writer
from vprep.build.plan import Plan, Planned, divide, freeze, keys_of, mixed, planned_videos, thaw
from vprep.build.progress import Progress
from vprep.build.shard_writer import WORK, ShardWriter, load
from vprep.build.worker_pool import in_order
from vprep.errors import UsageError, WorkError
from vprep.format import DATASET, PLAN, missing_set, read_dataset
from vprep.layouts.listing import Entry, Listing
from vprep.settings import Settings
from vprep.video.failures import Failure
from vprep.video.ffmpeg import Ffmpeg
from vprep.video.transcode import Video, transcode

Result = Video | Failure
# A folder that holds nothing but these is as good as empty.
HARMLESS = {"README.md", ".gitignore", ".gitkeep", ".DS_Store", ".lock", WORK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """How a plan is carried out; nothing here decides about the bytes."""

    out: Path
    root: Path
    ffmpeg: Ffmpeg
    workers: int
    timeout: float
    stop: threading.Event = field(default_factory=threading.Event)


def shard(job: Job, read_listing: Callable[[], Listing], settings: Settings) -> dict[str, Any]:
    """Make the set that `settings` ask for, or go on with it."""
    with _writing(job.out):
        plan = _settle(job, read_listing, settings)
        if (job.out / DATASET).exists():
            if is_finished(job.out):
                shutil.rmtree(job.out / WORK, ignore_errors=True)
                return read_dataset(job.out)
            reopen(job.out)
        pending = {name for name in plan.shards if load(job.out, name) is None}
        _make(job, plan, pending, lambda _, planned: _transcode(job, plan.settings, planned))
        return finish(job.out, plan)


def retry(job: Job, cause: str | None) -> dict[str, Any]:
    """Try again the videos that failed, all or those of one cause; the others are carried over as they are."""
    with _writing(job.out):
        plan = thaw(job.out)
        if plan is None or not (job.out / DATASET).exists():
            raise UsageError(missing_set(job.out))
        if not is_finished(job.out):
            raise UsageError(f"{job.out} misses some of its files; vprep verify {job.out} tells which")
        _refuse_settings(job.out, plan.settings, replace(plan.settings, ffmpeg=job.ffmpeg.version))
        reopen(job.out)
        chosen = {name for name in plan.shards if _has_failed(job.out, name, cause)}
        carried = lru_cache(maxsize=4)(lambda name: _carried_over(job.out, name, cause))

        def again(name: str, planned: Planned) -> Result:
            return carried(name).get(planned.key) or _transcode(job, plan.settings, planned)

        _make(job, plan, chosen, again)
        return finish(job.out, plan)


def _settle(job: Job, read_listing: Callable[[], Listing], settings: Settings) -> Plan:
    """The set's plan: the frozen one, if it is what is asked for, else a new one. The listing lives only here."""
    listing = read_listing()
    settings = replace(settings, layout=listing.layout, ffmpeg=job.ffmpeg.version)
    plan = thaw(job.out)
    if plan is not None:
        _refuse_settings(job.out, plan.settings, settings)
        _refuse_listing(job.out, listing)
        return plan
    _refuse_foreign(job.out)
    keys = keys_of(listing.entries)
    ordered = mixed(map(Planned, keys, listing.entries), settings.seed)
    entries = [video.entry for video in ordered]
    shards = settings.shards or shard_count(
        entries, job.root, settings, job.ffmpeg, workers=job.workers, timeout=job.timeout
    )
    return freeze(job.out, settings, job.root, listing.classes, divide(ordered, shards))


def _make(job: Job, plan: Plan, names: set[str], result_of: Callable[[str, Planned], Result]) -> None:
    """Make the named shards one after the other, several videos at once."""
    (job.out / WORK).mkdir(exist_ok=True)
    items = ((name, planned) for name, videos in planned_videos(job.out, names) for planned in videos)
    results = in_order(lambda item: (*item, result_of(*item)), items, workers=job.workers, size=_size, stop=job.stop)
    done = plan.videos - sum(plan.shards[name] for name in names)
    with contextlib.closing(results), Progress(plan.videos, done) as progress:
        for name, triples in itertools.groupby(results, key=lambda triple: triple[0]):
            _make_one(job.out, name, triples, progress)


def _make_one(out: Path, name: str, triples: Iterator[tuple[str, Planned, Result]], progress: Progress) -> None:
    writer = ShardWriter(out, name)
    try:
        for _, planned, result in triples:
            writer.add(planned, result)
            progress.video(result.cause if isinstance(result, Failure) else None)
        writer.finish()
    finally:
        writer.drop()


def _transcode(job: Job, settings: Settings, planned: Planned) -> Result:
    result = transcode(job.root, planned.entry, settings, job.ffmpeg, timeout=job.timeout, stop=job.stop)
    if (isinstance(result, Failure) or result.facts["damaged"]) and not _is_there(job.root):
        raise WorkError(f"{job.root} is gone or empty; bring it back and run the same command again to go on")
    return result


def _is_there(root: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(True for _ in root.iterdir())
    return False


def _size(triple: tuple[str, Planned, Result]) -> int:
    result = triple[2]
    return len(result.mjpeg) if isinstance(result, Video) else 0


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    """The folder of a set, ours alone; what the disk refuses becomes one sentence."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = contextlib.ExitStack()
        lock.enter_context(only_writer(out))
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {_said(error)}; choose another --out") from None
    with lock:
        try:
            yield
        except OSError as error:
            advice = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend that"
            raise WorkError(
                f"{out}: {_said(error)}; finished shards stay: {advice} and run the same command again to go on"
            ) from error


def _said(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _refuse_foreign(out: Path) -> None:
    """What is in the folder already and is not ours is not touched."""
    others = sorted(path.name for path in out.iterdir() if path.name not in HARMLESS)
    if others:
        raise UsageError(f"{out} holds '{others[0]}' and no {PLAN} of a set; choose an empty folder for --out")


def _refuse_settings(out: Path, old: Settings, new: Settings) -> None:
    before, now = old.as_dict(), new.as_dict()
    for name, value in before.items():
        if now[name] == value:
            continue
        what = name.replace("_", "-")
        if name == "ffmpeg":
            raise UsageError(
                f"{out} was made with ffmpeg {value}, this one is {now[name]}; use the same (VPREP_FFMPEG names it), "
                f"or choose another --out"
            )
        raise UsageError(f"{out} was made with {what} {value}, asked is {now[name]}; choose another --out")


def _refuse_listing(out: Path, listing: Listing) -> None:
    """A set is made from one list. Videos that have gone since fail on their own; new ones cannot be slipped in."""
    listed = {_identity(entry): entry for entry in listing.entries}
    for _, videos in planned_videos(out):
        for old in (video.entry for video in videos):
            entry = listed.pop(_identity(old), old)
            if (entry.label, entry.class_name, entry.splits) != (old.label, old.class_name, old.splits):
                raise UsageError(
                    f"the label or split of '{entry.source}' is not the one in {out}; choose another --out, "
                    f"or give the lists that the set was made with"
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


def _carried_over(out: Path, name: str, cause: str | None) -> dict[str, Result]:
    """What a shard holds already, by key, and its failures that are not tried again."""
    found = load(out, name)
    if found is None:
        raise WorkError(f"{out / name} changed while it was read; run vprep shard again")
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
