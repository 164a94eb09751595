"""Read rows of a set's index, a group at a time and only the needed columns."""

import contextlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vprep.errors import UsageError
from vprep.format import DATASET, FAILURES, FAILURES_SCHEMA, INDEX, INDEX_SCHEMA, missing_set
from vprep.row_check import row_faults
from vprep.tables import Table, opened


def batches(folder: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield all rows of the index of the set in `folder`, batch by batch."""
    with opened_index(folder, columns) as table:
        for rows in table.batches(columns):
            _refuse(folder, rows)
            yield rows


def with_key(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the row of one video, None when there is none; only the group that holds it is read in full."""
    with opened_index(folder) as table:
        for group in range(table.groups):
            at = pc.index(table.group(group, ["key"])["key"], key).as_py()
            if at >= 0:
                found = table.group(group).slice(at, 1)
                _refuse(folder, found)
                return dict(found.to_pylist()[0])
    return None


def with_keys(folder: Path, keys: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of videos, in the order of the index, with one of its groups in memory at a time."""
    wanted = pa.array(sorted(set(keys)), pa.string())
    with opened_index(folder) as table:
        for group in range(table.groups):
            mask = pc.is_in(table.group(group, ["key"])["key"], wanted)
            if pc.any(mask).as_py():
                found = table.group(group).filter(mask)
                _refuse(folder, found)
                yield from found.to_pylist()


def failures(folder: Path, columns: Sequence[str]) -> pa.Table:
    """Return columns of all failures of the set in `folder`."""
    again = f"remove it and make it again with: vprep index {folder}"
    with opened(folder / FAILURES, FAILURES_SCHEMA, again) as table:
        return table.read(columns)


def first_key(folder: Path) -> str:
    """Return the key of the video that is stored first."""
    for batch in batches(folder, ["key"]):
        for key in batch["key"].to_pylist():
            return str(key)
    raise UsageError(f"the set in {folder} holds no video; there is nothing to show")


@contextlib.contextmanager
def opened_index(folder: Path, columns: Sequence[str] = INDEX_SCHEMA.names) -> Iterator[Table]:
    """Open the index of a set, which must have these columns, for the length of a block."""
    path = folder / INDEX
    if not path.exists():
        missing = f"{path} is missing; make it again with: vprep index {folder}"
        raise UsageError(missing if (folder / DATASET).exists() else missing_set(folder))
    schema = pa.schema([INDEX_SCHEMA.field(name) for name in columns])
    with opened(path, schema, f"make it again with: vprep index {folder}") as table:
        yield table


def _refuse(folder: Path, rows: pa.Table) -> None:
    """Refuse rows with values that cannot be true."""
    for key, what in row_faults(rows):
        raise UsageError(
            f"{folder / INDEX}, video '{key}': {what}; make it again with: vprep index {folder}",
        )
