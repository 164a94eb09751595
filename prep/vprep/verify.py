"""Check that a set is as it was written, at one of three depths; each includes those before it.

sizes    every file exists with its size, and the index fits the shards
hashes   every byte of every file is as it was written; damage is narrowed down to the videos
frames   every JPEG decodes to the size in the index
"""

import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pyarrow as pa

from vprep.errors import UsageError
from vprep.format import DATASET, INDEX, INDEX_SCHEMA, PER_FRAME, member, read_dataset, sample_json, tables_by_shard
from vprep.hashing import hash_file, hash_of
from vprep.sharding.worker_pool import in_order

DEPTHS = ("sizes", "hashes", "frames")


@dataclass(frozen=True, slots=True)
class Problem:
    """One difference from what was written; `key` names the video when it concerns a single one."""

    file: str
    key: str | None
    what: str


def verify(folder: Path, depth: str = "hashes", *, workers: int = 1) -> dict[str, Any]:
    """Check a set and return the result; its `wrong` lists the problems."""
    if depth not in DEPTHS:
        raise UsageError(f"--depth is '{depth}'; it must be one of {', '.join(DEPTHS)}")
    try:
        info = read_dataset(folder)
    except UsageError as error:
        if not (folder / DATASET).exists():
            raise
        unreadable = Problem(DATASET, None, str(error))
        return {"set": str(folder), "depth": depth, "shards": 0, "videos": 0, "wrong": [asdict(unreadable)]}
    level = DEPTHS.index(depth)
    problems = [*_files(folder, info, level), *_unknown_shards(folder, info)]
    found = in_order(
        lambda pair: _shard(folder, *pair, level),
        _shards_with_rows(folder, info, level, problems),
        workers=workers,
        size=lambda _: 0,
        stop=threading.Event(),
    )
    problems += [problem for problems_of_shard in found for problem in problems_of_shard]
    return {
        "set": str(folder),
        "depth": depth,
        "shards": len(info["shards"]),
        "videos": info["videos"],
        "wrong": [asdict(problem) for problem in problems],
    }


def _files(folder: Path, info: dict[str, Any], level: int) -> Iterator[Problem]:
    for file in info["files"]:
        path = folder / file["name"]
        if not path.exists():
            yield Problem(file["name"], None, f"is missing; vprep index {folder} makes it again")
        elif path.stat().st_size != file["bytes"] or (level and hash_file(path) != file["hash"]):
            yield Problem(file["name"], None, f"is not the file that {DATASET} lists (stale or altered)")


def _unknown_shards(folder: Path, info: dict[str, Any]) -> Iterator[Problem]:
    known = {shard["name"] for shard in info["shards"]}
    for path in sorted(folder.glob("*.tar")):
        if path.name not in known:
            yield Problem(path.name, None, f"is a shard that {DATASET} does not list")


def _shards_with_rows(
    folder: Path, info: dict[str, Any], level: int, problems: list[Problem]
) -> Iterator[tuple[dict[str, Any], pa.Table | None]]:
    """Yield each shard with its rows of the index, or with None when the index cannot be used."""
    shards = {shard["name"]: shard for shard in info["shards"]}
    columns = None if level else [name for name in INDEX_SCHEMA.names if name not in PER_FRAME]
    # An altered index may hold anything, so it is not read; damage is then reported by shard only.
    usable = (folder / INDEX).exists() and not (level and any(problem.file == INDEX for problem in problems))
    if usable:
        try:
            for name, table in tables_by_shard(folder / INDEX, columns):
                if name in shards:
                    yield shards.pop(name), table
                else:
                    problems.append(Problem(INDEX, None, f"has rows of '{name}', which {DATASET} does not list"))
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            problems.append(Problem(INDEX, None, f"cannot be read: {str(error).splitlines()[0]}"))
    for shard in shards.values():
        yield shard, INDEX_SCHEMA.empty_table() if usable else None


def _shard(folder: Path, shard: dict[str, Any], table: pa.Table | None, level: int) -> list[Problem]:
    name, path = shard["name"], folder / shard["name"]
    if not path.exists():
        return [Problem(name, None, "is missing; run vprep shard again: only this shard is made again")]
    problems = []
    size = path.stat().st_size
    if table is not None and table.num_rows != shard["videos"]:
        problems.append(Problem(INDEX, None, f"has {table.num_rows} rows of {name}, and {DATASET} {shard['videos']}"))
    if size != shard["bytes"]:
        problems.append(Problem(name, None, f"has {size} bytes, and was written with {shard['bytes']}"))
    elif level and hash_file(path) != shard["hash"]:
        problems.append(Problem(name, None, "has bytes that differ from what was written"))
    if table is not None and (level or problems):
        problems += _videos(path, table, level, damaged=bool(problems))
    return problems


def _videos(path: Path, table: pa.Table, level: int, *, damaged: bool) -> Iterator[Problem]:
    """Yield the damage of single videos in a shard; frames are decoded at the last depth."""
    size = path.stat().st_size
    with path.open("rb") as tar:
        for row in table.to_pylist():
            if row["offset"] + row["size"] > size:
                yield Problem(path.name, row["key"], "is cut off")
                continue
            if not level:
                continue
            tar.seek(row["offset"])
            mjpeg = tar.read(row["size"])
            if hash_of(mjpeg) != row["hash"]:
                yield Problem(path.name, row["key"], "has frames that differ from what was written")
            elif damaged and row["source_hash"] and not _json_is_intact(tar, row):
                yield Problem(path.name, row["key"], "has a json or a tar header that differs from what was written")
            elif level == DEPTHS.index("frames") and (what := _undecodable(mjpeg, row)):
                yield Problem(path.name, row["key"], what)


def _json_is_intact(tar: IO[bytes], row: dict[str, Any]) -> bool:
    json = sample_json(row)
    header, padding = member(f"{row['key']}.json", json)
    frames_header, _ = member(f"{row['key']}.mjpeg", bytes(row["size"]))
    expected = header + json + padding + frames_header
    tar.seek(max(0, row["offset"] - len(expected)))
    return bool(tar.read(len(expected)) == expected)


def _undecodable(mjpeg: bytes, row: dict[str, Any]) -> str | None:
    offsets = row["frame_offsets"]
    if len(offsets) != row["frames"] + 1 or offsets[-1] != row["size"]:
        return "has frame offsets that do not fit its frames"
    for number in range(row["frames"]):
        jpeg = np.frombuffer(mjpeg, np.uint8, offsets[number + 1] - offsets[number], offsets[number])
        picture = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
        if picture is None:
            return f"has a frame {number} that does not decode"
        if picture.shape[:2] != (row["height"], row["width"]):
            return f"has a frame {number} of {picture.shape[0]}x{picture.shape[1]}, not {row['height']}x{row['width']}"
    return None
