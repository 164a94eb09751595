"""Is a set what its maker wrote? Three depths, each with all of the one before.

sizes    every file is there with its size, and the index fits the shards
hashes   every byte of every file is the one that was written; damage is narrowed down to the videos
frames   every JPEG decodes to the size that the index tells
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
class Wrong:
    """One thing that is not as it should be; `key` names the video when it concerns one."""

    file: str
    key: str | None
    what: str


def verify(folder: Path, depth: str = "hashes", *, workers: int = 1) -> dict[str, Any]:
    """Look at a set; the result's `wrong` is empty when all is well."""
    if depth not in DEPTHS:
        raise UsageError(f"--depth is '{depth}'; there are {', '.join(DEPTHS)}")
    try:
        facts = read_dataset(folder)
    except UsageError as error:
        if not (folder / DATASET).exists():
            raise
        unread = Wrong(DATASET, None, str(error))
        return {"set": str(folder), "depth": depth, "shards": 0, "videos": 0, "wrong": [asdict(unread)]}
    level = DEPTHS.index(depth)
    wrong = [*_files(folder, facts, level), *_strangers(folder, facts)]
    found = in_order(
        lambda pair: _shard(folder, *pair, level),
        _pairs(folder, facts, level, wrong),
        workers=workers,
        size=lambda _: 0,
        stop=threading.Event(),
    )
    wrong += [item for items in found for item in items]
    return {
        "set": str(folder),
        "depth": depth,
        "shards": len(facts["shards"]),
        "videos": facts["videos"],
        "wrong": [asdict(item) for item in wrong],
    }


def _files(folder: Path, facts: dict[str, Any], level: int) -> Iterator[Wrong]:
    for file in facts["files"]:
        path = folder / file["name"]
        if not path.exists():
            yield Wrong(file["name"], None, f"is missing; vprep index {folder} makes it anew")
        elif path.stat().st_size != file["bytes"] or (level and hash_file(path) != file["hash"]):
            yield Wrong(file["name"], None, f"is not the file that {DATASET} tells of (stale or altered)")


def _strangers(folder: Path, facts: dict[str, Any]) -> Iterator[Wrong]:
    known = {shard["name"] for shard in facts["shards"]}
    for path in sorted(folder.glob("*.tar")):
        if path.name not in known:
            yield Wrong(path.name, None, f"is a shard that {DATASET} does not know")


def _pairs(
    folder: Path, facts: dict[str, Any], level: int, wrong: list[Wrong]
) -> Iterator[tuple[dict[str, Any], pa.Table | None]]:
    """Each shard with its rows, as far as the index can be read."""
    shards = {shard["name"]: shard for shard in facts["shards"]}
    columns = None if level else [name for name in INDEX_SCHEMA.names if name not in PER_FRAME]
    # What an altered index says may be anything, so nobody looks at it; damage is then told by shard only.
    usable = (folder / INDEX).exists() and not (level and any(item.file == INDEX for item in wrong))
    if usable:
        try:
            for name, table in tables_by_shard(folder / INDEX, columns):
                if name in shards:
                    yield shards.pop(name), table
                else:
                    wrong.append(Wrong(INDEX, None, f"has rows of '{name}', which {DATASET} does not know"))
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            wrong.append(Wrong(INDEX, None, f"cannot be read: {str(error).splitlines()[0]}"))
    for shard in shards.values():
        yield shard, INDEX_SCHEMA.empty_table() if usable else None


def _shard(folder: Path, shard: dict[str, Any], table: pa.Table | None, level: int) -> list[Wrong]:
    name, path = shard["name"], folder / shard["name"]
    if not path.exists():
        return [Wrong(name, None, "is missing; run vprep shard again: only this shard is made anew")]
    wrong = []
    size = path.stat().st_size
    if table is not None and table.num_rows != shard["videos"]:
        wrong.append(Wrong(INDEX, None, f"has {table.num_rows} rows of {name}, {DATASET} tells of {shard['videos']}"))
    if size != shard["bytes"]:
        wrong.append(Wrong(name, None, f"has {size} bytes, was written with {shard['bytes']}"))
    elif level and hash_file(path) != shard["hash"]:
        wrong.append(Wrong(name, None, "holds bytes that are not those that were written"))
    if table is not None and (level or wrong):
        wrong += _videos(path, table, level, damaged=bool(wrong))
    return wrong


def _videos(path: Path, table: pa.Table, level: int, *, damaged: bool) -> Iterator[Wrong]:
    """Which videos of a shard are damaged; their frames are decoded at the last depth."""
    size = path.stat().st_size
    with path.open("rb") as tar:
        for row in table.to_pylist():
            if row["offset"] + row["size"] > size:
                yield Wrong(path.name, row["key"], "is cut off")
                continue
            if not level:
                continue
            tar.seek(row["offset"])
            mjpeg = tar.read(row["size"])
            if hash_of(mjpeg) != row["hash"]:
                yield Wrong(path.name, row["key"], "has frames that are not those that were written")
            elif damaged and row["source_hash"] and not _json_is_whole(tar, row):
                yield Wrong(path.name, row["key"], "has a json or a tar header that is not the one that was written")
            elif level == DEPTHS.index("frames"):
                what = _undecodable(mjpeg, row)
                if what:
                    yield Wrong(path.name, row["key"], what)


def _json_is_whole(tar: IO[bytes], row: dict[str, Any]) -> bool:
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
