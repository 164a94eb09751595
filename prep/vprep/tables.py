"""Read parquet tables that somebody else may have written: columns, types and sizes are checked before they are used.

A table of a few kilobytes can claim billions of rows, or one long text a million times. So the number of rows and the
bytes of a table are held against the size of its file, and texts are read as dictionaries and counted before they are
written out.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vprep.errors import UsageError
from vprep.text import brief

ROWS_AT_ONCE = 4096
ALWAYS_ROWS, ALWAYS_BYTES = 1_000_000, 512 << 20  # allowed for a file of any size
LEAST_ROW = 8  # bytes of a row in the file: a hash alone has 16 that cannot be compressed
MOST_RATIO = 64  # of the bytes of a table in memory to those of its file

_READ_ERRORS = (OSError, KeyError, TypeError, ValueError, OverflowError, MemoryError, pa.ArrowException)


class Table:
    """An open table whose columns are those of `schema`; `advice` ends the message of every error."""

    def __init__(self, path: Path, schema: pa.Schema, advice: str) -> None:
        self.path = path
        self._schema = schema
        self._advice = advice
        if not path.is_file():
            raise UsageError(f"{path} is missing or no file; {advice}")
        size = path.stat().st_size
        self._most = max(ALWAYS_BYTES, MOST_RATIO * size)
        with self._errors():
            with pq.ParquetFile(path) as file:
                metadata, names = file.metadata, set(file.schema_arrow.names)
            texts = [field.name for field in schema if pa.types.is_string(field.type) and field.name in names]
            self._file = pq.ParquetFile(path, metadata=metadata, read_dictionary=texts)
            self.metadata: dict[bytes, bytes] = dict(self._file.schema_arrow.metadata or {})
            self._check(max(ALWAYS_ROWS, size // LEAST_ROW))

    @property
    def rows(self) -> int:
        return int(self._file.metadata.num_rows)

    @property
    def names(self) -> set[str]:
        """The columns of the file; it may have more than were asked for."""
        return set(self._file.schema_arrow.names)

    @property
    def groups(self) -> int:
        return int(self._file.num_row_groups)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return columns of all rows."""
        with self._errors():
            # Arrow's threads would keep memory that `release_unused` cannot free, and each worker process inherits it.
            return self._plain(self._file.read(columns=list(columns), use_threads=False), columns)

    def group(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return columns of one group of rows."""
        names = list(columns or self._schema.names)
        with self._errors():
            return self._plain(self._file.read_row_group(number, columns=names), names)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield columns of all rows, a few thousand rows at a time."""
        names = list(columns or self._schema.names)
        batches = self._file.iter_batches(batch_size=ROWS_AT_ONCE, columns=names, use_threads=False)
        while True:
            with self._errors():
                batch = next(batches, None)
                table = None if batch is None else self._plain(pa.Table.from_batches([batch]), names)
            if table is None:
                return
            yield table

    def _check(self, most_rows: int) -> None:
        found = self._file.schema_arrow
        for field in self._schema:
            if found.names.count(field.name) != 1:
                raise ValueError(f"it has no column '{field.name}'")
            kind = found.field(field.name).type
            if not _same(field.type, kind):
                raise ValueError(f"its column '{field.name}' is {kind}, not {field.type}")
        if self.rows > most_rows:
            raise ValueError(f"it claims {self.rows} rows, more than a file of its size can hold")
        claimed = sum(self._file.metadata.row_group(number).total_byte_size for number in range(self.groups))
        if claimed > self._most:
            raise ValueError(f"it claims {claimed} bytes, more than a file of its size can hold")

    def _plain(self, table: pa.Table, names: Sequence[str]) -> pa.Table:
        """Return a table with the types of the schema."""
        size = sum(map(_most_text_bytes, table.columns))
        if size > self._most and (size := sum(map(_text_bytes, table.columns))) > self._most:
            raise ValueError(f"its texts take {size} bytes, more than a file of its size can hold")
        schema = pa.schema([self._schema.field(name) for name in names])
        plain = table.select(list(names)).cast(schema)
        plain.validate(full=True)
        return plain

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn an error of Arrow into one sentence."""
        try:
            yield
        except _READ_ERRORS as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(f"{self.path} cannot be read ({brief(reason)}); {self._advice}") from None


@contextlib.contextmanager
def opened(path: Path, schema: pa.Schema, advice: str) -> Iterator[Table]:
    """Open a table for the length of a block."""
    table = Table(path, schema, advice)
    try:
        yield table
    finally:
        table.close()


def by_shard(batches: Iterator[pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    """Yield the name and the rows of each shard in an index or a plan, with at most one shard and batch in memory."""
    held: list[pa.Table] = []
    name = None
    for table in batches:
        begin = 0
        for row in _changes(table["shard"]):
            shard = table["shard"][row].as_py()
            if shard == name:
                continue
            if name is not None:
                yield name, pa.concat_tables([*held, table.slice(begin, row - begin)])
            held, begin, name = [], row, shard
        held.append(table.slice(begin))
    if name is not None:
        yield name, pa.concat_tables(held)


def _changes(column: pa.ChunkedArray) -> list[int]:
    """Return the rows whose value differs from that of the row before, and the first row; no value differs always."""
    changed = pc.fill_null(pc.not_equal(column.slice(1), column.slice(0, max(0, len(column) - 1))), True)
    return [0, *(np.flatnonzero(changed.to_numpy()) + 1).tolist()][: len(column)]


def _same(wanted: pa.DataType, found: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_list(wanted) and pa.types.is_list(found):
        wanted, found = wanted.value_type, found.value_type  # the name of an element differs among writers
    return bool(wanted.equals(found))


def _most_text_bytes(column: pa.ChunkedArray) -> int:
    """Return a quick upper bound of `_text_bytes`: each row could have the longest text."""
    if not pa.types.is_dictionary(column.type):
        return 0
    return sum(len(chunk) * (pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0) for chunk in column.chunks)


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Return how many bytes the texts of a dictionary column take when each row has its own."""
    if not pa.types.is_dictionary(column.type):
        return 0
    found: Any = 0
    for chunk in column.chunks:
        found += pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices).cast(pa.int64())).as_py() or 0
    return int(found)
