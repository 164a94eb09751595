"""What a node of a Ray cluster does: make one shard, and check that it can.

Ray imports these functions on the node by their names. Their arguments and their results are names and numbers; the
plan, the videos and the shards are read and written where they are.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from vprep import versions
from vprep.errors import UsageError, WorkError, advice, reason
from vprep.format import PLAN
from vprep.hashing import hash_file
from vprep.sharding.destination import opened as opened_set
from vprep.sharding.engines.local import transcode_shards
from vprep.sharding.job import Job
from vprep.sharding.plan import plan_of
from vprep.sharding.progress import VideoProgress
from vprep.sharding.shard_writer import load
from vprep.sharding.videos import opened as opened_videos
from vprep.store import is_url, place
from vprep.video import ffmpeg


class Order(TypedDict):
    """What a node must know to make a shard, and what it must see to make the same bytes."""

    out: str
    root: str
    scratch: str  # folder for files on their way to a store; empty for TMPDIR
    workers: int
    timeout: float
    package: str  # versions of playspeed and of ffmpeg
    ffmpeg: str
    plan: str  # hash of the plan's file
    video: str  # a video below `root`, and its size; empty when there is none
    video_bytes: int


class Made(TypedDict):
    """What became of a shard on a node: how many videos failed by each cause, or the fault that stopped the work."""

    node: str
    causes: dict[str, int]
    fault: str


def make_shard(order: Order, name: str) -> Made:
    """Make one shard of the plan, unless it is complete."""
    fault, causes = fault_of(order), Counter[str]()
    try:
        if not fault:
            with _opened(order) as job:
                causes = _failures(job, name)
    except (UsageError, WorkError) as error:
        fault = str(error)
    except OSError as error:
        fault = f"{error.filename or order['out']}: {reason(error)}; {advice(error)}"
    return Made(node=os.uname().nodename, causes=dict(causes), fault=fault)


def fault_of(order: Order) -> str:
    """Return why this node cannot make shards of the plan; empty when it can."""
    package = versions.installed("playspeed")
    if package != order["package"]:
        return f"playspeed is {package} there and {order['package']} here; install the same version"
    try:
        found = ffmpeg.find()
        if found.version != order["ffmpeg"]:
            return f"ffmpeg is {found.version} there and {order['ffmpeg']} here; name the same one in {ffmpeg.VARIABLE}"
        return _unseen(order)
    except (UsageError, WorkError, OSError) as error:
        return str(error)


@contextlib.contextmanager
def _opened(order: Order) -> Iterator[Job]:
    """Open the places of the set and of its videos on this node."""
    scratch = Path(order["scratch"]) if order["scratch"] else None
    with opened_set(place(order["out"]), scratch) as out, opened_videos(place(order["root"]), scratch) as videos:
        yield Job(
            out=out,
            videos=videos,
            ffmpeg=ffmpeg.find(),
            workers=order["workers"],
            timeout=order["timeout"],
            scratch=scratch,
        )


def _failures(job: Job, name: str) -> Counter[str]:
    """Make one shard, unless it is complete, and return how many of its videos failed by each cause."""
    plan = plan_of(job.out)
    if plan is None:
        raise WorkError(f"{job.out}/{PLAN} is gone")
    if found := load(job.out, name):  # of a task whose node was lost when it had finished
        return Counter(failure["cause"] for failure in found[0].failures)
    progress = VideoProgress(plan.shards[name], visible=False)
    transcode_shards(job, plan, {name}, progress)
    return progress.failures


def _unseen(order: Order) -> str:
    """Return the sentence for a folder that this node does not see, or sees with another content."""
    with _opened(order) as job:
        plan = job.out.fetch(PLAN)
        if not plan.is_file() or hash_file(plan) != order["plan"]:
            return _elsewhere(order["out"])
        if job.videos.are_gone():
            return f"{order['root']} is gone or empty there"
        if order["video"] and job.videos.size(order["video"]) != order["video_bytes"]:
            return _elsewhere(order["root"])
    return ""


def _elsewhere(folder: str) -> str:
    if is_url(folder):
        return f"{folder} is not the same there; set the variables of the store (AWS_*, ...) alike on all nodes"
    return f"{folder} is not the folder that it is here; put it on a file system that all nodes share"
