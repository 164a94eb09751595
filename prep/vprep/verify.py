"""Check that a set is as it was written, at one of three depths; each includes those before it.

sizes    every file exists with its size, and the index fits the shards
hashes   every byte of every file is as it was written; damage is narrowed down to the videos. The index says what the
         tars say: places, number, size and checks of the frames, rate, label, class and splits
frames   every JPEG decodes to the size in the index
"""

import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from vprep.duplicates import Seen
from vprep.errors import UsageError
from vprep.format import DATASET, FROM_INDEX, INDEX, INDEX_SCHEMA, PER_FRAME, PLAN, read_dataset
from vprep.hashing import hash_file
from vprep.index_rows import opened_index
from vprep.progress import tracked
from vprep.row_check import row_faults
from vprep.set_files import SetFiles
from vprep.sharding.plan import read_plan
from vprep.sharding.worker_pool import in_order
from vprep.store import Location
from vprep.tables import by_shard
from vprep.text import brief
from vprep.verify_shard import DEPTHS, Problem, shard_problems


def verify(folder: Path, depth: str = "hashes", *, workers: int = 1, files: SetFiles | None = None) -> dict[str, Any]:
    """Check a set and return the result; its `wrong` lists the problems, its `advice` says what to do.

    `files` brings the shards of a set in a store into `folder`, one at a time for each worker.
    """
    if depth not in DEPTHS:
        raise UsageError(f"--depth is '{depth}'; it must be one of {', '.join(DEPTHS)}")
    try:
        info = read_dataset(folder)
    except UsageError as error:
        if not (folder / DATASET).exists():
            raise
        return _result(folder, depth, None, Seen(), [Problem(DATASET, None, str(error))])
    level, seen = DEPTHS.index(depth), Seen()
    files = files or SetFiles(folder)
    problems = [*_files(folder, info, level), *_unknown_shards(folder, info)]
    found = in_order(
        lambda triple: _problems(files, *triple, level),
        _shards_with_rows(folder, info, level, problems, seen),
        workers=workers,
        size=lambda _: 0,
        stop=threading.Event(),
    )
    shown = tracked(found, len(info["shards"]), "shards")
    problems += [problem for problems_of_shard in shown for problem in problems_of_shard]
    twice = seen.key_twice()
    if twice is not None:
        problems.append(Problem(INDEX, brief(twice), "is the key of several videos"))
    return _result(folder, depth, info, seen, problems)


def _problems(
    files: SetFiles, shard: dict[str, Any], table: pa.Table | None, faulty: bool, level: int
) -> list[Problem]:
    with files.shard(shard["name"], content=bool(level)):
        return shard_problems(files.folder, shard, table, faulty, level)


def _result(
    folder: Path, depth: str, info: dict[str, Any] | None, seen: Seen, problems: list[Problem]
) -> dict[str, Any]:
    return {
        "set": str(folder),
        "depth": depth,
        "shards": len(info["shards"]) if info else 0,
        "videos": info["videos"] if info else 0,
        "same_content": seen.same_content(),
        "wrong": [asdict(problem) for problem in problems],
        "advice": _advice(folder, info, {problem.file for problem in problems}) if info else [],
    }


def _files(folder: Path, info: dict[str, Any], level: int) -> Iterator[Problem]:
    for file in info["files"]:
        path = folder / file["name"]
        if not path.is_file():
            again = f"vprep index {folder} makes it again"
            why = "vprep shard and vprep retry need it" if file["name"] == PLAN else again
            yield Problem(file["name"], None, f"is missing; {why}")
        elif path.stat().st_size != file["bytes"] or (level and hash_file(path) != file["hash"]):
            yield Problem(file["name"], None, f"is not the file that {DATASET} lists (stale or altered)")


def _unknown_shards(folder: Path, info: dict[str, Any]) -> Iterator[Problem]:
    known = {shard["name"] for shard in info["shards"]}
    for path in sorted(folder.glob("*.tar")):
        if path.name not in known:
            yield Problem(path.name, None, f"is a shard that {DATASET} does not list; move it to another folder")


def _advice(folder: Path, info: dict[str, Any], wrong: set[str]) -> list[str]:
    """Return what to do about shards that are missing or damaged: that depends on where the set came from."""
    names = [shard["name"] for shard in info["shards"] if shard["name"] in wrong]
    if not names:
        return [f"vprep index {folder} makes {INDEX} again from the tars"] if INDEX in wrong else []
    if info.get("settings", {}).get("layout") == FROM_INDEX:
        return [
            f"vprep index made this set from tars that were there: get {_few(names)} again from where they came;",
            f"to index the tars as they are now, remove {DATASET} and run vprep index {folder}",
        ]
    root = _root(folder)
    if root is None:
        return [f"{PLAN} is lost, so vprep shard cannot make shards again: get {_few(names)} from a copy of the set"]
    damaged = [name for name in names if (folder / name).exists()]
    remove = f"remove {_few(damaged)} and " if damaged else ""
    again = [f"{remove}run vprep shard again: only missing shards are made again"]
    return (
        again
        if isinstance(root, Location) or root.is_dir()
        else [f"the videos are no longer in {root}; only if they are elsewhere:", *again]
    )


def _root(folder: Path) -> Path | Location | None:
    """Return the place of the videos that a set was made from; None when its plan does not say."""
    try:
        plan = read_plan(folder)
    except UsageError:
        return None
    return None if plan is None else plan.root


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _shards_with_rows(
    folder: Path, info: dict[str, Any], level: int, problems: list[Problem], seen: Seen
) -> Iterator[tuple[dict[str, Any], pa.Table | None, bool]]:
    """Yield each shard with its rows of the index (None when that cannot be used), and whether they may have faults."""
    faulty: set[str | None] = set()
    shards = {shard["name"]: shard for shard in info["shards"]}
    columns = None if level else [name for name in INDEX_SCHEMA.names if name not in PER_FRAME]
    # An altered index may hold anything, so it is not read; damage is then reported by shard only.
    usable = (folder / INDEX).exists() and not (level and any(problem.file == INDEX for problem in problems))
    if usable:
        try:
            with opened_index(folder) as index:
                for name, table in by_shard(_checked(index.batches(columns), faulty)):
                    seen.add(table)
                    if name in shards:
                        yield shards.pop(name), table, name in faulty
                    else:
                        what = f"has rows of '{brief(str(name))}' which {DATASET} does not list in that place"
                        problems.append(Problem(INDEX, None, what))
        except UsageError as error:
            problems.append(Problem(INDEX, None, str(error)))
            usable = False
    for shard in shards.values():
        yield shard, INDEX_SCHEMA.empty_table() if usable else None, False


def _checked(batches: Iterator[pa.Table], faulty: set[str | None]) -> Iterator[pa.Table]:
    """Yield batches of rows, and put the shards of a batch with a fault into `faulty`: they are looked at singly."""
    for rows in batches:
        if any(row_faults(rows)):
            faulty.update(rows["shard"].to_pylist())
        yield rows
