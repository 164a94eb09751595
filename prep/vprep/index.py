"""Rebuild the index of a set from its tars, or make one for other WebDataset tars.

A sample by another program is indexed when it holds JPEG pictures: one packed member (.mjpeg), or one member per
frame. In the latter case `offset` and `size` span all of them, and a frame's bytes reach to the start of the next
one: a JPEG decoder stops at the end marker and does not read the tar header behind it.
"""

import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from vprep.atomic import atomic_write
from vprep.errors import UsageError, WorkError
from vprep.format import (
    DATASET,
    FAILURES,
    FAILURES_SCHEMA,
    INDEX,
    INDEX_SCHEMA,
    JSON_FIELDS,
    PLAN,
    SCHEMA,
    TRAILER,
    checks_of,
    jpeg_size,
    read_dataset,
    split_frames,
    unfinished_set,
    write_dataset,
)
from vprep.hashing import hash_file, hash_of
from vprep.sharding.assemble import IndexWriter, Totals, dataset_info
from vprep.sharding.lock import only_writer
from vprep.sharding.plan import read_plan
from vprep.sharding.shard_writer import WORK

FRAME = re.compile(r"(?:^|.*\.)(?:jpg|jpeg)$")
DEFAULT_FPS = 25.0


@dataclass(slots=True)
class Sample:
    """The members of one key in the order of the tar, each with its extension, first byte and size."""

    key: str
    members: list[tuple[str, int, int]] = field(default_factory=list)


def index(folder: Path) -> dict[str, Any]:
    """Write index.parquet and dataset.json for the tars in `folder`."""
    tars = sorted(folder.glob("*.tar")) if folder.is_dir() else []
    if not tars:
        raise UsageError(f"no tars in {folder}; name a folder that holds shards")
    if (folder / WORK).exists():
        raise UsageError(unfinished_set(folder))
    with only_writer(folder, "make the folder writable, or index a copy of it"):
        return _index(folder, tars)


def _index(folder: Path, tars: list[Path]) -> dict[str, Any]:
    hashes = _known_hashes(folder)
    plan = read_plan(folder)
    totals, shards, classes, skipped = Totals(), [], set(), Counter[str]()
    with atomic_write(folder / INDEX) as file, IndexWriter(file) as writer:
        for tar in tars:
            digest = hash_file(tar)
            if hashes.get(tar.name, digest) != digest:
                raise WorkError(
                    f"{tar} is not the file that {DATASET} lists; vprep verify {folder} says what is wrong with it"
                )
            rows = list(_rows(tar, skipped))
            table = pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)
            writer.add(table)
            totals.add(table)
            classes |= {row["class_name"] for row in rows if row["class_name"]}
            shards.append({"name": tar.name, "bytes": tar.stat().st_size, "hash": digest, "videos": len(rows)})
        if not totals.counts["videos"]:
            raise UsageError(
                f"no sample in {folder} holds JPEG frames ({_members(skipped)}); vprep shard makes such tars"
            )
    if plan is not None and not (folder / FAILURES).exists():
        _rebuild_failures(folder)
    settings = plan.settings.as_dict() if plan else {"layout": "webdataset"}
    info = dataset_info(folder, settings, plan.classes if plan else sorted(classes), shards, totals)
    with atomic_write(folder / DATASET) as file:
        file.write(write_dataset(info))
    return info | {"skipped": dict(skipped)}


def _known_hashes(folder: Path) -> dict[str, str]:
    """Return the hashes of the shards when they were written; empty when dataset.json is lost."""
    try:
        return {shard["name"]: shard["hash"] for shard in read_dataset(folder)["shards"]}
    except UsageError:
        return {}


def samples(tar: Path) -> Iterator[Sample]:
    """Yield the samples of a tar by WebDataset's rule: the name up to its first dot is the key.

    Python's tarfile silently treats a damaged header as the end of the archive, so the end is checked.
    """
    sample = None
    try:
        with tarfile.open(tar) as archive:
            for info in archive:
                if not info.isreg():
                    continue
                key, extension = _key(info.name)
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample
                    sample = Sample(key)
                sample.members.append((extension, info.offset_data, info.size))
            end = archive.offset
    except tarfile.TarError as error:
        raise WorkError(f"{tar} is cut off or damaged ({error}); the rest of it cannot be read") from None
    with tar.open("rb") as file:
        if _read(file, end, len(TRAILER)) != TRAILER:
            raise WorkError(f"{tar} is cut off or damaged at byte {end}; the rest of it cannot be read")
    if sample is not None:
        yield sample


def _key(name: str) -> tuple[str, str]:
    folder, _, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}/{stem}" if folder else stem, extension.lower()


def _rows(tar: Path, skipped: Counter[str]) -> Iterator[dict[str, Any]]:
    with tar.open("rb") as file:
        for sample in samples(tar):
            row = _row(tar, file, sample)
            if row is None:
                skipped["+".join(sorted({extension for extension, _, _ in sample.members}))] += 1
            else:
                yield row


def _row(tar: Path, file: IO[bytes], sample: Sample) -> dict[str, Any] | None:
    info = _json_of(tar, file, sample)
    packed = [member for member in sample.members if member[0] == "mjpeg"]
    frames = packed or [member for member in sample.members if FRAME.match(member[0])]
    if not frames:
        return None
    begin = frames[0][1]
    size = frames[-1][1] + frames[-1][2] - begin
    data = _read(file, begin, size)
    own = info.get("schema") == SCHEMA
    if own and hash_of(data) != info["hash"]:
        raise WorkError(f"{tar}, video '{sample.key}': its frames differ from what was written")
    columns = {name: info.get(name) for name in JSON_FIELDS} if own else _columns_of(info, file, sample, frames, data)
    return columns | {"key": sample.key, "shard": tar.name, "offset": begin, "size": size}


def _columns_of(
    info: dict[str, Any], file: IO[bytes], sample: Sample, frames: list[tuple[str, int, int]], data: bytes
) -> dict[str, Any]:
    begin = frames[0][1]
    offsets = [at - begin for _, at, _ in frames] + [len(data)] if len(frames) > 1 else split_frames(data)
    height, width = jpeg_size(data) or (None, None)
    label = next((_read(file, at, size) for extension, at, size in sample.members if extension == "cls"), b"")
    number = info.get("label", label.decode("ascii", "replace").strip())
    return dict.fromkeys(JSON_FIELDS) | {
        "source": str(info.get("source", sample.key)),
        "label": int(number) if str(number).isdigit() else None,
        "class_name": info["class_name"] if isinstance(info.get("class_name"), str) else None,
        "frames": len(offsets) - 1,
        "fps": float(info["fps"]) if isinstance(info.get("fps"), int | float) else DEFAULT_FPS,
        "height": height,
        "width": width,
        "damaged": 0,
        "hash": hash_of(data),
        "frame_offsets": offsets,
        "frame_checks": checks_of(data, offsets),
    }


def _json_of(tar: Path, file: IO[bytes], sample: Sample) -> dict[str, Any]:
    for extension, at, size in sample.members:
        if extension == "json":
            try:
                info = json.loads(_read(file, at, size))
            except ValueError:
                raise WorkError(f"{tar}, video '{sample.key}': its json cannot be read") from None
            return info if isinstance(info, dict) else {}
    return {}


def _rebuild_failures(folder: Path) -> None:
    """Write the failures: the planned videos without a row. Their causes are no longer known."""
    there = set(pq.read_table(folder / INDEX, columns=["key"])["key"].to_pylist())
    rows = [
        row | {"cause": "unknown", "detail": f"{FAILURES} was lost"}
        for row in pq.read_table(folder / PLAN).to_pylist()
        if row["key"] not in there
    ]
    with atomic_write(folder / FAILURES) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=FAILURES_SCHEMA), file, compression="zstd")


def _read(file: IO[bytes], at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _members(skipped: Counter[str]) -> str:
    return "its members: " + ", ".join(sorted(skipped)[:3]) if skipped else "it is empty"
