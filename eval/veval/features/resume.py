"""Work on many videos, of which each finished part is a file: it can be stopped at any time, and shared by processes.

out.parts/facts.json        of what the parts are
out.parts/train-00000.parquet ...

Each process makes the parts of its own range; the first one waits for all and puts them together. Nobody talks to
anybody: what is there is what is done. The folder goes when `out` has taken its place.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from os import environ
from pathlib import Path
from typing import Any

from vprep.atomic import atomic_write
from vprep.errors import UsageError, WorkError

FACTS = "facts.json"
BESIDE = ("path", "shards", "subset", "name")  # where something lies and how it is called; hashes tell what it is
POLL = 0.1  # seconds between two looks for what another process makes
Facts = dict[str, Any]


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
    facts: Facts

    def mine(self, rank: int, world: int) -> Iterator[list[Part]]:
        """What is missing of one process' range, in runs without a gap; a split is never crossed."""
        first, last = (len(self.all) * number // world for number in (rank, rank + 1))
        missing = [(number, part) for number, part in enumerate(self.all[first:last]) if not part.path.exists()]
        runs = groupby(enumerate(missing), lambda item: (item[1][0] - item[0], item[1][1].split))
        for _, run in runs:
            yield [part for _, (_, part) in run]

    def missing(self) -> int:
        return sum(not part.path.exists() for part in self.all)

    def wait(self, patience: float) -> None:
        """Until all are there; for as long as others go on making them."""
        before, since = self.missing(), time.monotonic()
        while before:
            time.sleep(POLL)
            now = self.missing()
            if now < before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > patience:
                raise WorkError(
                    f"{now} of {len(self.all)} parts in {self.folder} are missing, and no process has made one for "
                    f"{patience:g} s; what is there stays: run the same command again to go on"
                )

    def remove(self) -> None:
        """The facts go first: without them, nobody takes what is left for parts."""
        (self.folder / FACTS).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def plan_parts(out: Path, videos: Mapping[str, int], size: int, facts: Facts) -> Parts:
    """Parts of at most `size` videos; `videos` counts those of each split."""
    folder = out.with_name(f"{out.name}.parts")
    planned = [
        Part(folder / f"{split}-{number:05}.parquet", split, begin, min(begin + size, count))
        for split, count in videos.items()
        for number, begin in enumerate(range(0, count, size))
    ]
    return Parts(folder, planned, facts)


def open_parts(parts: Parts, rank: int, patience: float, done: Callable[[], bool]) -> None:
    """Make the folder, or find in it what is to be gone on with; parts of anything else are refused."""
    path = parts.folder / FACTS
    if rank == 0 and not path.exists():
        strangers = [file.name for file in parts.folder.glob("*") if not file.name.startswith(".")]
        if strangers:
            raise UsageError(
                f"{parts.folder} holds '{strangers[0]}' and no {FACTS}; remove it, or choose another --out"
            )
        parts.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(json.dumps(parts.facts, ensure_ascii=False, sort_keys=True).encode())
    since = time.monotonic()
    while not path.exists() and not done():
        if time.monotonic() - since > patience:
            raise WorkError(f"the first process has not made {path} within {patience:g} s; run all processes again")
        time.sleep(POLL)
    if not done():
        refuse_others(parts.folder, json.loads(path.read_bytes()), parts.facts)


def refuse_others(path: Path, found: Facts, wanted: Facts) -> None:
    """What was begun, or made, with other weights, videos or protocol is not what was asked for."""
    other = next(differences(found, wanted), None)
    if other is not None:
        name, there, asked = other
        raise UsageError(f"{path} is of {name} {there}, asked is {asked}; remove it, or choose another --out")


def differences(found: Facts, wanted: Facts, before: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The first word in which two facts differ, with both values."""
    for name in dict.fromkeys((*wanted, *found)):
        if name in BESIDE:
            continue
        there, asked = found.get(name), wanted.get(name)
        if isinstance(there, dict) and isinstance(asked, dict):
            yield from differences(there, asked, f"{before}{name} ")
        elif there != asked:
            yield f"{before}{name}", there, asked


def place_among_processes() -> tuple[int, int]:
    """This process' number, and how many there are: as torchrun says."""
    return int(environ.get("RANK", 0)), int(environ.get("WORLD_SIZE", 1))
