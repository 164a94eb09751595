"""The shard format, schema 1. data_shards/README.md describes it for readers in other programs.

000.tar ...       <key>.json, <key>.mjpeg for each video
index.parquet     one row for each video: everything in its json, and where its bytes are
failures.parquet  one row for each video that could not be used
plan.parquet      one row for each video that was planned, in order
dataset.json      settings, classes, sizes and hashes of the files above; written last
"""

import itertools
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from vprep.dataset_check import dataset_fault
from vprep.errors import UsageError
from vprep.hashing import hash_of
from vprep.json_text import parse_json
from vprep.limits import MOST_DATASET

SCHEMA = 1
DATASET, INDEX, FAILURES, PLAN = "dataset.json", "index.parquet", "failures.parquet", "plan.parquet"
FROM_INDEX = "webdataset"  # the layout in the settings of a set that vprep index made
BLOCK = 512  # tar's unit: headers are one block, contents are padded to full blocks
TRAILER = bytes(2 * BLOCK)
PER_FRAME = ("frame_offsets", "frame_checks")  # the large columns: a reader that lists videos omits them
CHECK_DIGITS = 8  # per frame in frame_checks
JPEG_BEGIN = b"\xff\xd8\xff"
WITHOUT_LENGTH = (0x01, *range(0xD0, 0xDA))  # markers of a JPEG that stand alone
ROWS_PER_GROUP = 4096  # of the index, so that a reader can hold a part of it in memory

_FROM_LISTS = [
    ("source", pa.string()),
    ("start", pa.float64()),
    ("end", pa.float64()),
    ("label", pa.int32()),
    ("class_name", pa.string()),
    ("split1", pa.string()),
    ("split2", pa.string()),
    ("split3", pa.string()),
]
_FROM_VIDEO = [
    ("frames", pa.int32()),
    ("fps", pa.float64()),
    ("height", pa.int32()),
    ("width", pa.int32()),
    ("codec", pa.string()),
    ("source_fps", pa.float64()),
    ("source_seconds", pa.float64()),
    ("source_height", pa.int32()),
    ("source_width", pa.int32()),
    ("source_bytes", pa.int64()),
    ("source_hash", pa.string()),
    ("rotation", pa.int32()),
    ("variable_rate", pa.bool_()),
    ("audio", pa.bool_()),
    ("damaged", pa.int32()),
    ("hash", pa.string()),
    ("frame_offsets", pa.list_(pa.uint32())),
    ("frame_checks", pa.string()),
]
_IN_SHARD = [("key", pa.string()), ("shard", pa.string()), ("offset", pa.int64()), ("size", pa.int64())]

INDEX_SCHEMA = pa.schema([*_IN_SHARD, *_FROM_LISTS, *_FROM_VIDEO])
PLAN_SCHEMA = pa.schema([("key", pa.string()), ("shard", pa.string()), *_FROM_LISTS, ("source_bytes", pa.int64())])
FAILURES_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("cause", pa.string()),
        ("detail", pa.string()),
        ("key", pa.string()),
        ("shard", pa.string()),
        *_FROM_LISTS[1:],
    ]
)
JSON_FIELDS = ("key", *(name for name, _ in _FROM_LISTS), *(name for name, _ in _FROM_VIDEO))


def check_of(frame: bytes | memoryview) -> str:
    """Return the check of one frame, the lower 32 bits of its XXH3-64; a reader of a few frames compares only these."""
    return xxhash.xxh3_64_hexdigest(frame)[-CHECK_DIGITS:]


def checks_of(mjpeg: bytes, offsets: list[int]) -> str:
    """Return the checks of all frames in one string."""
    view = memoryview(mjpeg)
    return "".join(check_of(view[begin:end]) for begin, end in itertools.pairwise(offsets))


def shard_name(number: int, count: int) -> str:
    """Return the name of a shard, as in `007.tar`; all shards of a set have the same number of digits, at least 3."""
    return f"{number:0{max(3, len(str(count - 1)))}d}.tar"


def member(name: str, data: bytes) -> tuple[bytes, bytes]:
    """Return the tar header before `data` and the padding behind it; they depend on name and size alone."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    header.mode = 0o644
    return header.tobuf(tarfile.USTAR_FORMAT), bytes(-len(data) % BLOCK)


def sample_json(row: Mapping[str, Any]) -> bytes:
    """Return the `<key>.json` member: the row of the index without its position in the shards."""
    info = {"schema": SCHEMA} | {name: row[name] for name in JSON_FIELDS}
    return json.dumps(info, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def split_frames(mjpeg: bytes) -> list[int]:
    """Return the offset at which each JPEG of a stream begins, and the end of the stream as the last one.

    An end marker directly before a start marker occurs only between two pictures: inside a picture, a byte 0xFF of
    its data is always followed by 0x00 or a restart marker.
    """
    if not mjpeg:
        return [0]
    offsets = [0]
    while (at := mjpeg.find(b"\xff\xd9\xff\xd8", offsets[-1])) >= 0:
        offsets.append(at + 2)
    return [*offsets, len(mjpeg)]


def jpeg_size(jpeg: bytes | memoryview) -> tuple[int, int] | None:
    """Return height and width from a JPEG's frame header; None when a decoder would find no such header.

    The header is read before a picture is decoded, since a few bytes can claim 65,535 x 65,535 pixels.
    """
    if jpeg[:3] != JPEG_BEGIN:
        return None
    at = 2
    while at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(jpeg[at + 5 : at + 7], "big"), int.from_bytes(jpeg[at + 7 : at + 9], "big")
        if marker == 0xFF:  # fills up
            at += 1
        elif marker in WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + max(2, int.from_bytes(jpeg[at + 2 : at + 4], "big"))
    return None


def write_dataset(info: dict[str, Any]) -> bytes:
    """Return the text of dataset.json with a hash of itself, so that a change of any byte is noticed."""
    info = {name: value for name, value in info.items() if name != "hash"}
    return _text(info | {"hash": hash_of(_text(info))})


def read_dataset(folder: Path) -> dict[str, Any]:
    """Return the content of a finished set's dataset.json."""
    path = folder / DATASET
    if not path.is_file():
        raise UsageError(missing_set(folder))
    if path.stat().st_size > MOST_DATASET:
        raise UsageError(f"{path} has {path.stat().st_size} bytes and is not the dataset.json of a set")
    text = path.read_bytes()
    again = f"make it again with: vprep index {folder}"
    try:
        info = parse_json(text)
        schema = info["schema"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is not the dataset.json of a set; {again}") from None
    if type(schema) is not int or schema != SCHEMA:
        raise UsageError(f"{path} has schema {str(schema)[:40]}; this version reads schema {SCHEMA}")
    if not _has_own_hash(info, text):
        raise UsageError(f"{path} was altered: its hash does not match; {again}")
    if fault := dataset_fault(info):
        raise UsageError(f"{path} cannot be used: {fault}; {again}")
    return {**_DEFAULTS, **info}


_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("failures", "frames", "damaged", "bytes"), 0),
    "files": [],
    "splits": {},
    "settings": {},
}


def _has_own_hash(info: dict[str, Any], text: bytes) -> bool:
    try:
        return write_dataset(info) == text
    except (ValueError, RecursionError):  # text that is no Unicode, or brackets in brackets, which vprep never writes
        return False


def missing_set(folder: Path) -> str:
    """Return the sentence for a folder without a finished set: what it lacks, and the command that makes it."""
    if not folder.is_dir():
        return f"no folder '{folder}'; a set is made with: vprep shard VIDEOS --out {folder}"
    if (folder / PLAN).exists():
        return unfinished_set(folder)
    tars = sum(1 for _ in folder.glob("*.tar"))
    if tars:
        return f"{folder} holds {tars} tars and no {DATASET}; make it with: vprep index {folder}"
    return f"no set in {folder}; one is made with: vprep shard VIDEOS --out {folder}"


def unfinished_set(folder: Path) -> str:
    """Return the sentence for a set that was interrupted."""
    return f"the set in {folder} is not finished; run vprep shard again with the same options to finish it"


def _text(info: dict[str, Any]) -> bytes:
    return json.dumps(info, ensure_ascii=False, indent=1).encode() + b"\n"
