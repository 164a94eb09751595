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

from vprep.atomic import atomic_write, draft_of, open_draft, remove_left
from vprep.errors import UsageError
from vprep.format import FAILURES_SCHEMA, INDEX_SCHEMA, TRAILER, member, sample_json
from vprep.json_text import parse_json
from vprep.row_check import row_faults
from vprep.sharding.destination import WORK, Destination
from vprep.sharding.plan import Planned, known_columns
from vprep.store import MissingError
from vprep.tables import opened
from vprep.video.failures import Failure
from vprep.video.transcode import Video


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
    """Writes a draft of the shard `name`; `finish` makes it a part of the set."""

    def __init__(self, out: Destination, name: str, *, replaces: bool = False) -> None:
        self.out = out
        self._replaces = replaces
        self.draft = draft_of(out.folder / WORK / name)
        self.record = Record(name, 0, "")
        self._rows: list[dict[str, Any]] = []
        remove_left(out.folder / WORK / name)
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
        """Move the shard into place and return its record, saved first: a shard without a record is made again.

        Where another writer was first, the shard stays as that one made it, unless it is damaged or replaced.
        """
        self._write(TRAILER)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.record.hash = self._state.hexdigest()
        save(self.out, self.record, pa.Table.from_pylist(self._rows, schema=INDEX_SCHEMA))
        name = self.record.name
        first = self.out.place(self.draft, name, create=not self._replaces)
        if not first and load(self.out, name) is None:
            self.out.place(self.draft, name)
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


def save(out: Destination, record: Record, table: pa.Table) -> None:
    """Save the record of a shard; `table` holds its rows of the index."""
    info = {"bytes": record.bytes, "hash": record.hash, "failures": record.failures}
    with_record = table.cast(INDEX_SCHEMA.with_metadata({"shard": json.dumps(info, ensure_ascii=False)}))
    name = out.record_name(record.name, record.hash)
    path = out.folder / name
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as file:
        pq.write_table(with_record, file, compression="zstd")
    out.keep(name, create=True)


def load(out: Destination, name: str) -> tuple[Record, pa.Table] | None:
    """Return the record of a finished shard and its rows of the index; None when the shard is not complete."""
    try:
        size = out.size(name)
        pairs = [] if size is None else [_read(path, name) for path in out.records(name)]
        found = [pair for pair in pairs if pair is not None and pair[0].bytes == size]
        if len(found) > 1:  # of several writers
            content = out.hash(name)
            found = [pair for pair in found if pair[0].hash == content]
    except (OSError, MissingError):
        return None
    return found[0] if found else None


def _read(path: Path, name: str) -> tuple[Record, pa.Table] | None:
    try:
        with opened(path, INDEX_SCHEMA, "") as table:
            info, rows = parse_json(table.metadata[b"shard"]), table.read(INDEX_SCHEMA.names)
        record = Record(name, info["bytes"], info["hash"], info["failures"])
        pa.Table.from_pylist(record.failures, schema=FAILURES_SCHEMA)
        if any(row_faults(rows, record.bytes)):
            return None
    except (UsageError, OSError, pa.ArrowException, AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None
    return record, rows
