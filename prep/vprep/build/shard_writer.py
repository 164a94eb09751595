"""One shard: its tar, written as a draft and placed whole, and the record of what is in it."""

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from vprep.atomic import place, whole
from vprep.build.plan import Planned, named
from vprep.format import INDEX_SCHEMA, TRAILER, member, sample_json
from vprep.video.failures import Failure
from vprep.video.transcode import Video

WORK = ".work"  # in the set's folder, until the set is finished


@dataclass(slots=True)
class Record:
    """What is in one finished shard."""

    name: str
    bytes: int
    hash: str
    failures: list[dict[str, Any]] = field(default_factory=list)


class ShardWriter:
    """Writes a draft of `folder/name`; nothing stands under that name before `finish`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.draft = folder / WORK / name
        self.record = Record(name, 0, "")
        self._rows: list[dict[str, Any]] = []
        self._file = self.draft.open("wb")
        self._state = xxhash.xxh3_128()

    def add(self, planned: Planned, result: Video | Failure) -> None:
        """The next video of the shard, or why there is none."""
        row = named(planned)
        if isinstance(result, Failure):
            failure = row | {"shard": self.record.name, "cause": result.cause, "detail": result.detail}
            self.record.failures.append(failure)
            return
        row |= result.facts
        self._member(f"{planned.key}.json", sample_json(row))
        at = self._member(f"{planned.key}.mjpeg", result.mjpeg)
        self._rows.append(row | {"shard": self.record.name, "offset": at, "size": len(result.mjpeg)})

    def finish(self) -> Record:
        """Put the shard in its place. The record goes first: a shard without one is made again."""
        self._write(TRAILER)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.record.hash = self._state.hexdigest()
        save(self.folder, self.record, pa.Table.from_pylist(self._rows, schema=INDEX_SCHEMA))
        place(self.draft, self.folder / self.record.name)
        return self.record

    def drop(self) -> None:
        """Leave nothing of the draft."""
        with contextlib.suppress(OSError):  # a full disk refuses what was still to be written
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
    """Write down what is in a shard; `table` holds its rows of the index."""
    facts = {"bytes": record.bytes, "hash": record.hash, "failures": record.failures}
    noted = table.cast(INDEX_SCHEMA.with_metadata({"shard": json.dumps(facts, ensure_ascii=False)}))
    with whole(_path(folder, record.name)) as file:
        pq.write_table(noted, file, compression="zstd")


def load(folder: Path, name: str) -> tuple[Record, pa.Table] | None:
    """The record of a finished shard, its rows as a table; None when the shard is not whole."""
    try:
        table = pq.read_table(_path(folder, name))
        facts = json.loads(table.schema.metadata[b"shard"])
        if (folder / name).stat().st_size != facts["bytes"]:
            return None
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    return Record(name, facts["bytes"], facts["hash"], facts["failures"]), table.cast(INDEX_SCHEMA)


def _path(folder: Path, name: str) -> Path:
    return folder / WORK / f"{name.removesuffix('.tar')}.parquet"
