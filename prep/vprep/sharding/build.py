"""Make the shards of a set that are not there yet, and retry the videos that failed."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from vprep.atomic import DRAFT
from vprep.errors import UsageError, WorkError, about, advice, reason, writing
from vprep.format import DATASET, LOCK, PLAN, missing_set
from vprep.layouts.alike import refuse_alike
from vprep.layouts.listing import Listing
from vprep.printing import note
from vprep.settings import Settings
from vprep.sharding.assemble import finish, finished, is_finished, reopen
from vprep.sharding.destination import WORK, Destination
from vprep.sharding.engines import Engine
from vprep.sharding.engines.local import Result, make_shards, transcode_shards, transcoded
from vprep.sharding.estimate import shard_count
from vprep.sharding.job import Job
from vprep.sharding.lock import only_writer
from vprep.sharding.plan import Plan, Planned, divide, interleaved, keys_of, plan_of, write_plan
from vprep.sharding.progress import VideoProgress
from vprep.sharding.same_plan import refuse_listing, refuse_settings
from vprep.sharding.shard_writer import load
from vprep.video.failures import Failure
from vprep.video.transcode import Video

Lock = Callable[[Path], contextlib.AbstractContextManager[None]]
SEEN_LATE = 60.0  # seconds for which a file system may remember that a file was not there
# A folder that holds only these, and drafts, counts as empty.
HARMLESS = {"README.md", ".gitignore", ".gitkeep", ".DS_Store", LOCK, WORK}


def shard(
    job: Job, read_listing: Callable[[], Listing], settings: Settings, engine: Engine = transcode_shards
) -> dict[str, Any]:
    """Make the set of `settings`, or continue it; return the content of its dataset.json."""
    with locked(job.out, only_writer):
        plan = new_or_same_plan(job, read_listing, settings)
        if job.out.fetch(DATASET).exists():
            if is_finished(job.out):
                return finished(job.out)
            reopen(job.out)
        pending = pending_shards(job.out, plan.shards)
        with progress_of(plan, set(plan.shards), pending) as progress:
            engine(job, plan, pending, progress)
        return finish(job.out, plan)


def retry(job: Job, cause: str | None) -> dict[str, Any]:
    """Retry the videos that failed, or those of one cause; the other videos are copied as they are."""
    with locked(job.out, only_writer):
        plan = plan_of(job.out)
        if plan is None or not job.out.fetch(DATASET).exists():
            raise UsageError(missing_set(job.out.folder))
        if not is_finished(job.out):
            raise UsageError(f"{job.out} lacks some of its files; vprep verify {job.out} lists them")
        refuse_settings(str(job.out), plan.settings, replace(plan.settings, ffmpeg=job.ffmpeg.version))
        reopen(job.out)
        chosen = {name for name in plan.shards if _has_failed(job.out, name, cause)}
        if not chosen:
            note(f"nothing to retry: no video failed{f' by {cause}' if cause else ''}")
        reading = threading.Lock()
        kept = lru_cache(maxsize=4)(lambda name: _kept_results(job.out, name, cause))

        def kept_or_retried(name: str, planned: Planned) -> Result:
            now = Planned(planned.key, replace(planned.entry, etag=None))  # as it is by now
            with reading:  # several videos of a shard come at once
                found = kept(name).get(planned.key)
            return found or transcoded(job, plan.settings, now)

        with progress_of(plan, set(plan.shards), chosen) as progress:
            make_shards(job, chosen, kept_or_retried, progress, replace=True)
        return finish(job.out, plan)


def new_or_same_plan(job: Job, read_listing: Callable[[], Listing], settings: Settings) -> Plan:
    """Return the set's plan, or make one; refuse a plan of other settings or lists.

    The listing, which may be large, is in memory only here. Where several parts make a plan at the same moment, the
    first one's becomes the set's, and the others compare.
    """
    listing = read_listing()
    settings = replace(settings, layout=listing.layout, ffmpeg=job.ffmpeg.version)
    plan = plan_of(job.out)
    if plan is None:
        with contextlib.suppress(FileExistsError):
            return _new_plan(job, listing, settings)
        plan = _plan_of_another(job.out)
    refuse_settings(str(job.out), plan.settings, settings)
    refuse_listing(job.out, listing)
    return plan


def pending_shards(out: Destination, names: Iterable[str]) -> set[str]:
    """Return those of the named shards that are not complete."""
    there = out.sizes()
    return {name for name in names if name not in there or load(out, name) is None}


def progress_of(plan: Plan, names: set[str], pending: set[str]) -> VideoProgress:
    """Return the progress of making the shards `names`, of which only `pending` are not complete."""
    videos = sum(plan.shards[name] for name in names)
    return VideoProgress(videos, videos - sum(plan.shards[name] for name in pending))


@contextlib.contextmanager
def locked(out: Destination, lock: Lock) -> Iterator[None]:
    """Lock the folder of a set for this process, and turn an error of the disk into one sentence."""
    stack = contextlib.ExitStack()
    with writing(out.folder):
        out.folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(lock(out.folder))
    with stack:
        try:
            yield
        except OSError as error:
            raise WorkError(
                f"{out}: {reason(error)}; finished shards stay: {advice(error)} and run the same command again to "
                "continue"
            ) from error


def _new_plan(job: Job, listing: Listing, settings: Settings) -> Plan:
    _refuse_foreign(job.out)
    refuse_alike(listing.classes)
    keys = keys_of(listing.entries)
    ordered = interleaved(map(Planned, keys, listing.entries), settings.seed)
    entries = [video.entry for video in ordered]
    shards = settings.shards or shard_count(
        entries, job.videos, settings, job.ffmpeg, workers=job.workers, timeout=job.timeout
    )
    return write_plan(job.out, settings, str(job.videos), listing.classes, divide(ordered, shards))


def _plan_of_another(out: Destination) -> Plan:
    """Return the plan that another writer was first to write; a network file system may show it late."""
    until = time.monotonic() + SEEN_LATE
    while (plan := plan_of(out)) is None:
        if time.monotonic() > until:
            raise WorkError(f"{out}/{PLAN} is gone; run the same command again")
        time.sleep(0.5)
    return plan


def _refuse_foreign(out: Destination) -> None:
    """Refuse a folder with files that do not belong to a set."""
    others = [name for name in out.names() if name not in HARMLESS and not (name[0] == "." and name.endswith(DRAFT))]
    if others and out.size(PLAN) is None:  # another part may have made the plan meanwhile
        raise UsageError(f"{out} holds '{others[0]}' and is no set; choose an empty folder for --out")


def _has_failed(out: Destination, name: str, cause: str | None) -> bool:
    found = load(out, name)
    return found is not None and any(cause in (None, failure["cause"]) for failure in found[0].failures)


def _kept_results(out: Destination, name: str, cause: str | None) -> dict[str, Result]:
    """Return the videos of a finished shard by their keys, and its failures that are not retried."""
    found = load(out, name)
    if found is None:
        raise WorkError(f"{out}/{name} changed while it was being read; run vprep shard again")
    record, table = found
    results: dict[str, Result] = {
        failure["key"]: Failure(failure["cause"], failure["detail"])
        for failure in record.failures
        if cause not in (None, failure["cause"])
    }
    path = out.fetch(name)
    with about(path), path.open("rb") as tar:
        for row in table.to_pylist():
            tar.seek(row["offset"])
            results[row["key"]] = Video(row, tar.read(row["size"]))
    out.forget(name)
    return results
