"""Read files of features, which anyone may have written: what does not fit is refused before it takes memory.

V videos, R clips and crops of a video, D feature
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from veval.evaluation import Info
from vprep.errors import UsageError
from vprep.json_text import parse_json
from vtrain.torch_file.archive import bounded_zip

METADATA_KEY = b"veval"  # of the JSON in the schema of a .parquet file
INFO = "facts"  # the JSON in an .npz file
COLUMNS = ("key", "label", "split")  # all others are features
ROWS, LABELS = 10_000_000, 1_000_000  # at most
TIMES, ROOM = 8, 1 << 30  # features may take so many times their file, as compressed ones do, and so many bytes more

Array = npt.NDArray[Any]
Columns = dict[str, Array]


@contextmanager
def readable(path: Path, advice: str = "make them again with: veval features") -> Iterator[None]:
    """Turn whatever a damaged file raises into one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise UsageError(f"there is no {path}; make features with: veval features --out {path}") from None
    except UsageError:
        raise
    except Exception as error:  # pyarrow, NumPy and zipfile raise errors of any kind
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path} holds no features of veval ({reason}); {advice}") from None


def info_in(text: str | bytes) -> Info:
    """Return the JSON that describes features."""
    found = parse_json(text)
    if not isinstance(found, dict) or not isinstance(found.get("dropped"), list):
        raise ValueError("its description lists no dropped videos")
    return found


def info_of_parquet(path: Path) -> Info:
    """Return the description in a .parquet file."""
    return info_in((pq.read_schema(path).metadata or {})[METADATA_KEY])


def read_parquet(path: Path) -> Columns:
    """Return the columns of a .parquet file as arrays."""
    with pq.ParquetFile(path) as file:
        rows, schema = file.metadata.num_rows, file.schema_arrow
        if sorted(set(schema.names)) != sorted(schema.names) or not set(COLUMNS) < set(schema.names):
            raise ValueError(f"its columns are {', '.join(schema.names)}")
        _demand_types(schema)
        shapes = {name: shape_of(schema.field(name).type) for name in schema.names if name not in COLUMNS}
        refuse_large(path, rows, shapes)
        named = file.read(columns=list(COLUMNS))
        if any(named[name].null_count for name in COLUMNS):
            raise ValueError("a key, label or split is missing")
        arrays = {pool: np.empty((rows, *shape), np.float32) for pool, shape in shapes.items()}
        at = 0
        for number in range(file.metadata.num_row_groups):
            group = file.read_row_group(number, columns=list(arrays))
            for pool, array in arrays.items():
                array[at : at + len(group)] = as_array(group[pool], shapes[pool])
            at += len(group)
    key, split = (np.array(named[name].to_pylist(), str) for name in ("key", "split"))
    return {"key": key, "label": named["label"].to_numpy().astype(np.int64), "split": split, **arrays}


def read_npz(path: Path) -> tuple[Columns, Info]:
    """Return the arrays and the description in an .npz file."""
    found: Columns = {}
    with bounded_zip(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > TIMES * path.stat().st_size + ROOM:
            raise ValueError("it would take far more memory than the file")
        for member in archive.infolist():
            found[member.filename.removesuffix(".npy")] = _array_in(archive.read(member))
    info = info_in(str(found.pop(INFO)))
    if not set(COLUMNS) < found.keys():
        raise ValueError(f"its arrays are {', '.join(found)}")
    return found, info


def _array_in(data: bytes) -> Array:
    """Return the array in an .npy file, whose header must say how much follows it."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, in_columns, kind = read(file)
    begin = file.tell()
    if kind.hasobject or not kind.itemsize or in_columns or len(data) - begin != kind.itemsize * prod(shape):
        raise ValueError("an array is not as long as its header says")
    return np.frombuffer(data, kind, offset=begin).reshape(shape).copy()  # which can be written to


def refuse_unfit(columns: Columns) -> None:
    """Refuse columns that are not a key, a label and a split for each video, and features of it."""
    rows = len(columns["key"])
    if not len({len(column) if column.ndim else -1 for column in columns.values()}) == 1 or rows > ROWS:
        raise ValueError(f"its columns have different lengths, or more than {ROWS} rows")
    label = columns["label"]
    if label.ndim != 1 or label.dtype.kind != "i" or (rows and not -1 <= label.min() <= label.max() < LABELS):
        raise ValueError(f"its labels are not whole numbers from -1 to {LABELS}")
    if any(columns[name].ndim != 1 or columns[name].dtype.kind != "U" for name in ("key", "split")):
        raise ValueError("its keys or splits are no texts")
    for pool, array in columns.items():
        if pool not in COLUMNS and (array.ndim not in (2, 3) or array.dtype != np.float32 or 0 in array.shape[1:]):
            raise ValueError(f"its '{pool}' are no features: {array.dtype} of shape {array.shape}")


def _demand_types(schema: pa.Schema) -> None:
    kinds = {name: schema.field(name).type for name in COLUMNS}
    if not (pa.types.is_integer(kinds["label"]) and all(pa.types.is_string(kinds[name]) for name in ("key", "split"))):
        raise ValueError(f"its columns are of types {', '.join(map(str, kinds.values()))}")


def refuse_large(path: Path, rows: int, shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse arrays that the file cannot hold honestly."""
    size = rows * sum(4 * prod(shape) for shape in shapes.values())
    if rows > ROWS or size > TIMES * path.stat().st_size + ROOM:
        raise ValueError(f"its {rows} videos would take {size} bytes")


def shape_of(kind: pa.DataType) -> tuple[int, ...]:
    """Return the lengths of nested lists, the outermost first."""
    if pa.types.is_fixed_size_list(kind):
        return (kind.list_size, *shape_of(kind.value_type))
    if not pa.types.is_float32(kind):
        raise ValueError(f"its features are {kind}")
    return ()


def as_array(column: pa.ChunkedArray, shape: tuple[int, ...]) -> Array:
    """Return a column of lists of fixed length as one array."""
    flat = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    for _ in shape:
        flat = flat.flatten()
    return flat.to_numpy(zero_copy_only=False).reshape(len(column), *shape)  # type: ignore[no-any-return]
