"""Read rows of a set's index, a group at a time and only the needed columns."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vprep.errors import UsageError
from vprep.format import DATASET, INDEX, ROWS_PER_GROUP, missing_set


def batches(folder: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield all rows of the index of the set in `folder`, batch by batch."""
    with _opened(folder) as file:
        yield from file.iter_batches(batch_size=ROWS_PER_GROUP, columns=list(columns))


def with_key(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the row of one video, None when there is none; only the group that holds it is read in full."""
    with _opened(folder) as file:
        for group in range(file.num_row_groups):
            at = file.read_row_group(group, columns=["key"])["key"].index(key).as_py()
            if at >= 0:
                return dict(file.read_row_group(group).slice(at, 1).to_pylist()[0])
    return None


def first_key(folder: Path) -> str:
    """Return the key of the video that is stored first."""
    for batch in batches(folder, ["key"]):
        for key in batch["key"].to_pylist():
            return str(key)
    raise UsageError(f"the set in {folder} holds no video; there is nothing to show")


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[pq.ParquetFile]:
    path = folder / INDEX
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        missing = f"{path} is missing; make it again with: vprep index {folder}"
        raise UsageError(missing if (folder / DATASET).exists() else missing_set(folder)) from None
    except (OSError, KeyError, pa.ArrowException) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"{path} cannot be read ({first}); make it again with: vprep index {folder}") from None
