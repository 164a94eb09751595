"""Check one shard of a set against its entry in dataset.json and its rows of the index."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pyarrow as pa

from vprep.errors import WorkError
from vprep.format import DATASET, INDEX, INDEX_SCHEMA, jpeg_size, member, sample_json
from vprep.hashing import hash_file, hash_of
from vprep.printable import printable
from vprep.row_check import row_faults
from vprep.sample_rows import SampleError, row_of
from vprep.tar_samples import Sample, samples

DEPTHS = ("sizes", "hashes", "frames")
FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


@dataclass(frozen=True, slots=True)
class Problem:
    """One difference from what was written; `key` names the video when it concerns a single one."""

    file: str
    key: str | None
    what: str


def shard_problems(
    folder: Path, shard: dict[str, Any], table: pa.Table | None, faulty: bool, level: int
) -> list[Problem]:
    """Return what is wrong with a shard; `table` holds its rows of the index, None when that cannot be used.

    Only where `faulty` says that they may have faults are the values of the rows checked.
    """
    name, path = shard["name"], folder / shard["name"]
    if not path.is_file():
        return [Problem(name, None, "is missing")]
    size, problems = path.stat().st_size, []
    if table is not None and table.num_rows != shard["videos"]:
        problems.append(Problem(INDEX, None, f"has {table.num_rows} rows of {name}, and {DATASET} {shard['videos']}"))
    if table is not None and faulty and (faults := list(row_faults(table))):
        return [*problems, *(Problem(INDEX, key, what) for key, what in faults)]
    if size != shard["bytes"]:
        problems.append(Problem(name, None, f"has {size} bytes, and was written with {shard['bytes']}"))
    elif level and hash_file(path) != shard["hash"]:
        problems.append(Problem(name, None, "has bytes that differ from what was written"))
    if table is None or not (level or problems):
        return problems
    if not problems:
        problems = list(_differences(path, table))
        if problems or level < DEPTHS.index("frames"):
            return problems
    return [*problems, *_damage(path, table, level, damaged=bool(problems))]


def _differences(path: Path, table: pa.Table) -> Iterator[Problem]:
    """Yield the rows that are not what the intact shard says, by what `vprep index` would read from it."""
    try:
        with path.open("rb") as tar:
            found = filter(None, (_row(tar, sample) for sample in samples(path)))
            for row, true in zip_longest(table.to_pylist(), found):
                if row is None or true is None or (row["key"] != true["key"]):
                    places = [f"'{printable(each['key'])}'" if each else "nothing" for each in (row, true)]
                    yield Problem(INDEX, None, f"has {places[0]} where {path.name} has {places[1]}")
                    return
                if "fault" in true:
                    yield Problem(path.name, row["key"], true["fault"])
                    continue
                yield from _different_columns(path, row, true | {"shard": path.name})
    except WorkError as error:
        yield Problem(path.name, None, str(error))


def _row(tar: IO[bytes], sample: Sample) -> dict[str, Any] | None:
    try:
        return row_of(tar, sample)
    except SampleError as error:
        return {"key": sample.key, "fault": str(error)}


def _different_columns(path: Path, row: dict[str, Any], true: dict[str, Any]) -> Iterator[Problem]:
    for name in INDEX_SCHEMA.names:
        if row[name] != true[name]:
            values = [ascii(value)[:40] for value in (row[name], true[name])]
            yield Problem(INDEX, row["key"], f"has {name} {values[0]}, and {path.name} has {values[1]}")
            return


def _damage(path: Path, table: pa.Table, level: int, *, damaged: bool) -> Iterator[Problem]:
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
    offsets = row["frame_offsets"] or []
    if len(offsets) != row["frames"] + 1 or offsets[-1] != row["size"]:
        return "has frame offsets that do not fit its frames"
    for number in range(row["frames"]):
        jpeg = mjpeg[offsets[number] : offsets[number + 1]]
        size = jpeg_size(jpeg)
        if size != (row["height"], row["width"]):
            claimed = "no size" if size is None else f"{size[0]}x{size[1]}"
            return f"has a frame {number} of {claimed}, not {row['height']}x{row['width']}"
        if not _decodes(jpeg):
            return f"has a frame {number} that does not decode"
    return None


def _decodes(jpeg: bytes) -> bool:
    try:
        return cv2.imdecode(np.frombuffer(jpeg, np.uint8), FLAGS) is not None
    except cv2.error:
        return False
