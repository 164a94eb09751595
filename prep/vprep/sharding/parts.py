"""Make a part of a set's shards, while other processes make the other parts, and the set of them at the end.

Nothing is agreed on but the plan, which the first process writes. A shard's bytes follow from the plan, so a part that
is started twice does no harm, and whoever finds all shards complete may write the index.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vprep.errors import UsageError, WorkError
from vprep.format import DATASET, missing_set
from vprep.layouts.listing import Listing
from vprep.printing import note
from vprep.settings import Settings
from vprep.sharding.assemble import finish, finished, is_finished
from vprep.sharding.build import locked, new_or_same_plan, pending_shards, progress_of
from vprep.sharding.destination import WORK, Destination
from vprep.sharding.engines.local import transcode_shards
from vprep.sharding.job import Job
from vprep.sharding.lock import one_of_many
from vprep.sharding.plan import Plan, plan_of
from vprep.sharding.shard_writer import make_work_folder
from vprep.summary import MOST, counted

_COUNT = ".parts"  # a file with this ending in WORK tells into how many parts the shards were divided


@dataclass(frozen=True, slots=True)
class Part:
    """One of `count` parts of a plan: every `count`-th shard, from shard `number` on."""

    number: int
    count: int

    def shards(self, plan: Plan) -> list[str]:
        return list(plan.shards)[self.number :: self.count]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def read_part(text: str) -> Part:
    """Return the part that `I/N` names; I counts from 0."""
    found = re.fullmatch(r"(\d{1,7})/(\d{1,7})", text)
    if not found:
        raise UsageError(f"--part is '{text}'; it must be I/N, as in 0/100 for the first of 100 parts")
    part = Part(int(found[1]), int(found[2]))
    if part.number >= part.count:
        raise UsageError(
            f"--part is '{text}'; parts count from 0, so the last of {part.count} is {max(part.count - 1, 0)}"
            f"/{part.count} (a job array of them is --array=0-{max(part.count - 1, 0)})"
        )
    return part


def shard_part(job: Job, read_listing: Callable[[], Listing], settings: Settings, part: Part) -> dict[str, Any] | None:
    """Make the shards of a part; return the content of dataset.json if all others are there, too, else None."""
    with locked(job.out, one_of_many):
        plan = new_or_same_plan(job, read_listing, settings)
        try:
            if not job.out.fetch(DATASET).exists():
                _make_part(job, plan, part)
            return _assembled(job.out, plan)
        except (OSError, WorkError):
            if is_finished(job.out):  # by a second start of this part, which also removes the drafts
                return finished(job.out)
            raise


def assemble(out: Destination) -> dict[str, Any]:
    """Write the index and dataset.json of a set whose parts are all made; return the content of dataset.json."""
    if plan_of(out) is None:
        raise UsageError(missing_set(out.folder))
    with locked(out, one_of_many):
        plan = plan_of(out)
        if plan is None:
            raise UsageError(missing_set(out.folder))
        info = _assembled(out, plan)
        if info is None:
            raise WorkError(_missing_sentence(out, plan))
        return info


def part_info(out: Destination, part: Part) -> dict[str, Any]:
    """Return the state of a part and of the set that it belongs to, for printing."""
    plan = plan_of(out)
    if plan is None:
        raise UsageError(missing_set(out.folder))
    missing = _missing(out, plan)
    return {
        "out": str(out),
        "part": str(part),
        "part_shards": len(part.shards(plan)),
        "complete": len(plan.shards) - len(missing),
        "shards": len(plan.shards),
    }


def part_text(info: dict[str, Any]) -> str:
    """Return a line about a part of a set that is not finished yet."""
    return (
        f"{info['out']}: part {info['part']} is made, {counted(info['part_shards'], 'shard')}; "
        f"{info['complete']} of {info['shards']} are complete, and the part that ends last writes the index"
    )


def _make_part(job: Job, plan: Plan, part: Part) -> None:
    names = part.shards(plan)
    if not names:
        note(f"part {part} is empty: the plan has {counted(len(plan.shards), 'shard')}; --shards sets their number")
    make_work_folder(job.out.folder)
    (job.out.folder / WORK / f"{part.count}{_COUNT}").touch()
    job.out.keep(f"{WORK}/{part.count}{_COUNT}")
    pending = pending_shards(job.out, names)
    with progress_of(plan, set(names), pending) as progress:
        transcode_shards(job, plan, pending, progress)


def _assembled(out: Destination, plan: Plan) -> dict[str, Any] | None:
    """Return the content of dataset.json, written now if it is not there; None when shards are missing."""
    if out.fetch(DATASET).exists():
        if not is_finished(out):
            raise UsageError(f"{out} lacks some of its files; run vprep shard on it, without --part or --assemble")
        return finished(out)
    return None if _missing(out, plan) else finish(out, plan)


def _missing(out: Destination, plan: Plan) -> list[int]:
    """Return the numbers of the shards that are not there."""
    there = out.names()
    return [number for number, name in enumerate(plan.shards) if name not in there]


def _missing_sentence(out: Destination, plan: Plan) -> str:
    missing = _missing(out, plan)
    names = list(plan.shards)
    what = f"{len(missing)} of {len(names)} shards in {out} are missing ({_some([names[n] for n in missing])})"
    stems = [name.removesuffix(_COUNT) for name in out.names(WORK) if name.endswith(_COUNT)]
    counts = sorted(int(stem) for stem in stems if stem.isdecimal())
    if len(counts) != 1 or not counts[0]:
        return f"{what}; run the parts that make them, or vprep shard without --part, and assemble again"
    parts = sorted({number % counts[0] for number in missing})
    return f"{what}; run again --part {_some([str(Part(number, counts[0])) for number in parts])}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
