"""Write one shard: its tar, first as a draft, and the record of its content."""

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from vprep.atomic import atomic_write, draft_of, move_into_place, open_draft, remove_left
from vprep.errors import UsageError
from vprep.format import FAILURES_SCHEMA, INDEX_SCHEMA, TRAILER, member, sample_json
from vprep.json_text import parse_json
from vprep.row_check import row_faults
from vprep.sharding.plan import Planned, known_columns
from vprep.tables import opened
from vprep.video.failures import Failure
from vprep.video.transcode import Video

WORK = ".work"  # in the set's folder, until the set is finished


def make_work_folder(folder: Path) -> None:
    """Make the folder of drafts and records in a set's folder; a link to another folder is refused."""
    work = folder / WORK
    if work.is_symlink():
        raise UsageError(f"{work} is a link to another folder; remove it")
    work.mkdir(exist_ok=True)


@dataclass(slots=True)
class Record:
    """The content of one finished shard."""

    name: str
    bytes: int
    hash: str
    failures: list[dict[str, Any]] = field(default_factory=list)


class ShardWriter:
    """Writes a draft of `folder/name`; `finish` gives it that name."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.draft = draft_of(folder / WORK / name)
        self.record = Record(name, 0, "")
        self._rows: list[dict[str, Any]] = []
        remove_left(folder / WORK / name)
        self._file = open_draft(self.draft)
        self._state = xxhash.xxh3_128()

    def add(self, planned: Planned, result: Video | Failure) -> None:
        """Add the next video of the shard, or the reason why it failed."""
        row = known_columns(planned)
        if isinstance(result, Failure):
            failure = row | {"shard": self.record.name, "cause": result.cause, "detail": result.detail}
            self.record.failures.append(failure)
            return
        row |= result.columns
        self._member(f"{planned.key}.json", sample_json(row))
        at = self._member(f"{planned.key}.mjpeg", result.mjpeg)
        self._rows.append(row | {"shard": self.record.name, "offset": at, "size": len(result.mjpeg)})

    def finish(self) -> Record:
        """Move the shard into place and return its record, saved first: a shard without a record is made again."""
        self._write(TRAILER)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.record.hash = self._state.hexdigest()
        save(self.folder, self.record, pa.Table.from_pylist(self._rows, schema=INDEX_SCHEMA))
        move_into_place(self.draft, self.folder / self.record.name)
        return self.record

    def discard(self) -> None:
        """Remove the draft, if it still exists."""
        with contextlib.suppress(OSError):  # a full disk refuses the bytes that are still buffered
            self._file.close()
        self.draft.unlink(missing_ok=True)

    def _member(self, name: str, data: bytes) -> int:
        header, padding = member(name, data)
        self._write(header)
        at = self.record.bytes
        self._write(data)
        self._write(padding)
        return at

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._state.update(data)
        self.record.bytes += len(data)


def save(folder: Path, record: Record, table: pa.Table) -> None:
    """Save the record of a shard; `table` holds its rows of the index."""
    info = {"bytes": record.bytes, "hash": record.hash, "failures": record.failures}
    with_record = table.cast(INDEX_SCHEMA.with_metadata({"shard": json.dumps(info, ensure_ascii=False)}))
    with atomic_write(_path(folder, record.name)) as file:
        pq.write_table(with_record, file, compression="zstd")


def load(folder: Path, name: str) -> tuple[Record, pa.Table] | None:
    """Return the record of a finished shard and its rows of the index; None when the shard is not complete."""
    try:
        with opened(_path(folder, name), INDEX_SCHEMA, "") as table:
            info, rows = parse_json(table.metadata[b"shard"]), table.read(INDEX_SCHEMA.names)
        record = Record(name, info["bytes"], info["hash"], info["failures"])
        pa.Table.from_pylist(record.failures, schema=FAILURES_SCHEMA)
        if (folder / name).stat().st_size != record.bytes or any(row_faults(rows, record.bytes)):
            return None
    except (UsageError, OSError, pa.ArrowException, AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None
    return record, rows


def _path(folder: Path, name: str) -> Path:
    return folder / WORK / f"{name.removesuffix('.tar')}.parquet"
