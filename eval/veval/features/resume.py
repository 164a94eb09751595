"""Divide work into parts, each of them a file: it can be stopped at any time, and several processes can share it.

out.parts/facts.json       everything that the parts depend on
out.parts/train-00000.parquet ...

Each process writes the parts of its own range; the first process waits for all parts and merges them. Processes
exchange no messages: a part that exists is finished. The folder is removed when `out` is complete.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from veval.evaluation import Info
from vprep.atomic import atomic_write
from vprep.errors import UsageError, WorkError
from vprep.hashing import hash_file

INFO = "facts.json"
# Paths, names and counts, which may differ or be missing: hashes identify the content.
BESIDE = ("path", "shards", "subset", "name", "classes", "failures", "like_recipe")
POLL = 0.1  # seconds between two checks for another process' parts


@dataclass(frozen=True, slots=True)
class Part:
    """Rows [begin, end) of the videos of a split."""

    path: Path
    split: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Parts:
    """All parts of an output, in order."""

    folder: Path
    all: list[Part]
    info: Info

    def missing_of(self, rank: int, world: int) -> Iterator[list[Part]]:
        """Yield the missing parts of one process, in runs without a gap; a run lies within one split."""
        first, last = (len(self.all) * number // world for number in (rank, rank + 1))
        missing = [(number, part) for number, part in enumerate(self.all[first:last]) if not part.path.exists()]
        runs = groupby(enumerate(missing), lambda item: (item[1][0] - item[0], item[1][1].split))
        for _, run in runs:
            yield [part for _, (_, part) in run]

    def count_missing(self) -> int:
        return sum(not part.path.exists() for part in self.all)

    def wait(self, patience: float) -> None:
        """Wait until all parts exist, as long as other processes continue to write them."""
        before, since = self.count_missing(), time.monotonic()
        while before:
            time.sleep(POLL)
            now = self.count_missing()
            if now < before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > patience:
                raise WorkError(
                    f"{now} of {len(self.all)} parts in {self.folder} are missing, and no process has written one for "
                    f"{patience:g} s; the finished parts stay: run the same command again to continue"
                )

    def remove(self) -> None:
        """Remove the folder, its description first: without that, files that are left do not count as parts."""
        (self.folder / INFO).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def plan_parts(out: Path, videos: Mapping[str, int], size: int, info: Info) -> Parts:
    """Return parts of at most `size` videos; `videos` holds the number of videos by split."""
    folder = out.with_name(f"{out.name}.parts")
    planned = [
        Part(folder / f"{split}-{number:05}.parquet", split, begin, min(begin + size, count))
        for split, count in videos.items()
        for number, begin in enumerate(range(0, count, size))
    ]
    return Parts(folder, planned, info)


def open_parts(parts: Parts, rank: int, patience: float, finished: Callable[[], bool]) -> None:
    """Make the folder, or continue with the parts in it; parts of other work are refused."""
    path = parts.folder / INFO
    if rank == 0 and not path.exists():
        strangers = [file.name for file in parts.folder.glob("*") if not file.name.startswith(".")]
        if strangers:
            raise UsageError(
                f"{parts.folder} holds '{strangers[0]}' but no {INFO}; remove the folder, or name another file"
            )
        parts.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(json.dumps(parts.info, ensure_ascii=False, sort_keys=True).encode())
    since = time.monotonic()
    while not path.exists() and not finished():
        if time.monotonic() - since > patience:
            raise WorkError(f"the first process has not written {path} within {patience:g} s; run all processes again")
        time.sleep(POLL)
    if not finished():
        refuse_others(parts.folder, _info_in(path), parts.info)


def _info_in(path: Path) -> Info:
    """Return what the parts in a folder depend on."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{path} is damaged; remove {path.parent}, or name another file")
    return found


def refuse_others(path: Path, found: Info, wanted: Info) -> None:
    """Refuse outputs that were computed with other weights, other videos or another protocol."""
    difference = next(differences(with_tensor_hash(found, wanted), wanted), None)
    if difference is not None:
        name, there, here = difference
        raise UsageError(f"{path} was made with {name} {there}, not {here}; remove it, or name another file")


def with_tensor_hash(found: Info, wanted: Info) -> Info:
    """Return `found` with the hash of the weights' tensors, where version 0.1 noted that of the same weights' file."""
    older, newer = found.get("weights"), wanted["weights"]
    if not isinstance(older, dict) or "hash_of" in older:
        return found
    file = Path(newer["path"])
    known = hash_file(file) if file.is_file() else newer["hash"]  # of random weights it always was of the tensors
    same = {name: newer[name] for name in ("hash", "hash_of")} if older.get("hash") == known else {}
    return {**found, "weights": {**older, **same}}


def differences(found: Info, wanted: Info, before: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each entry in which the two differ, with both values."""
    for name in dict.fromkeys((*wanted, *found)):
        if name in BESIDE:
            continue
        there, here = found.get(name), wanted.get(name)
        if isinstance(there, dict) and isinstance(here, dict):
            yield from differences(there, here, f"{before}{name} ")
        elif there != here:
            yield f"{before}{name}", there, here
