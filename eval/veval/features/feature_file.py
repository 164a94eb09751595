"""Read and write files with features.

.parquet   a row for each video: key, label (-1: none), split, and for each pool a list of numbers of fixed length, or
           at the level of clips a list of such lists; `veval` in the schema's metadata is JSON that describes them
.npz       the same as arrays, with that JSON as the text `facts`; it opens without pickle

V videos, R clips and crops of a video, D feature
"""

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from veval.evaluation import Info
from veval.features.reading import (
    COLUMNS,
    INFO,
    METADATA_KEY,
    Array,
    as_array,
    info_of_parquet,
    read_npz,
    read_parquet,
    readable,
    refuse_unfit,
)
from veval.features.table import Features
from vprep.atomic import DRAFT, atomic_write
from vprep.errors import UsageError

KINDS = (".parquet", ".npz")

Shapes = dict[str, tuple[int, ...]]  # by pool: (D,) or (R, D)


@dataclass(frozen=True, slots=True)
class FeatureTables:
    """Features of videos by pool, for all splits."""

    keys: list[str]
    label: npt.NDArray[np.int64]
    split: npt.NDArray[np.str_]
    arrays: dict[str, npt.NDArray[np.float32]]  # by pool: [V, D] or [V, R, D]
    info: Info

    def of(self, split: str, pool: str | None = None) -> Features:
        """Return the videos of a split with the features of `pool`, by default of the first pool."""
        rows = np.flatnonzero(self.split == split)
        pool = pool or next(iter(self.arrays))
        if not len(rows) or pool not in self.arrays:
            there = f"splits {', '.join(np.unique(self.split))} and pools {', '.join(self.arrays)}"
            raise UsageError(f"there are no features of split '{split}' and pool '{pool}'; there are {there}")
        array = self.arrays[pool]
        # The rows of a split are usually contiguous: then large features need no copy in memory.
        chosen = array[rows[0] : rows[-1] + 1] if rows[-1] - rows[0] + 1 == len(rows) else array[rows]
        return Features(keys=[self.keys[row] for row in rows], label=self.label[rows], features=chosen)


def refuse_kind(out: Path) -> None:
    if out.suffix not in KINDS:
        raise UsageError(f"the name of a feature file ends in {' or '.join(KINDS)}, and that of {out} does not")


def schema_of(shapes: Shapes, info: Info) -> pa.Schema:
    fields = [pa.field("key", pa.string()), pa.field("label", pa.int32()), pa.field("split", pa.string())]
    for pool, shape in shapes.items():
        kind = pa.float32()
        for length in reversed(shape):
            kind = pa.list_(kind, length)
        fields.append(pa.field(pool, kind))
    return pa.schema(fields, {METADATA_KEY: json.dumps(info, ensure_ascii=False)})


def write_part(
    path: Path, keys: Sequence[str], label: Array, split: str, arrays: dict[str, Array], dropped: list[Info]
) -> None:
    """Write the features of videos, completely or not at all; `dropped` lists videos that could not be read."""
    schema = schema_of({pool: array.shape[1:] for pool, array in arrays.items()}, {"dropped": dropped})
    columns = [
        pa.array(list(keys), pa.string()),
        pa.array(label, pa.int32()),
        pa.array([split] * len(keys), pa.string()),
        *(_as_lists(array) for array in arrays.values()),
    ]
    with atomic_write(path) as file, _writer(file, schema) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def merge(paths: Sequence[Path], shapes: Shapes, info: Info, out: Path) -> None:
    """Write one file from all parts, with one part in memory at a time."""
    for draft in out.parent.glob(f".{out.name}.*{DRAFT}"):
        draft.unlink()  # of a process that was killed while it merged
    dropped: list[Info] = []
    for path in paths:
        with readable(path, f"remove {path.parent}, and run the same command again"):
            dropped += info_of_parquet(path)["dropped"]
            refuse_unfit(read_parquet(path))
    info = {**info, "dropped": dropped}
    with atomic_write(out) as file:
        if out.suffix == ".npz":
            _write_npz(file, paths, shapes, info)
            return
        schema = schema_of(shapes, info)
        with _writer(file, schema) as writer:
            for path in paths:
                writer.write_table(pq.read_table(path).cast(schema))


def read_info(path: Path) -> Info:
    """Return the JSON in a file of features: everything that the features depend on."""
    with readable(path):
        return read_npz(path)[1] if path.suffix == ".npz" else info_of_parquet(path)


def read(path: Path) -> FeatureTables:
    """Read a file of features."""
    refuse_kind(path)
    with readable(path):
        columns, info = read_npz(path) if path.suffix == ".npz" else (read_parquet(path), info_of_parquet(path))
        refuse_unfit(columns)
    arrays = {name: column for name, column in columns.items() if name not in COLUMNS}
    label = columns["label"].astype(np.int64)
    return FeatureTables(columns["key"].tolist(), label, columns["split"], arrays, info)


def _writer(file: IO[bytes], schema: pa.Schema) -> Any:  # noqa: ANN401  pyarrow ships no types
    """Return a writer without compression, which would not make features smaller."""
    return pq.ParquetWriter(file, schema, compression="NONE", use_dictionary=["split"], write_statistics=False)


def _as_lists(array: Array) -> pa.Array:
    lists = pa.array(np.ascontiguousarray(array, np.float32).reshape(-1))
    for length in reversed(array.shape[1:]):
        lists = pa.FixedSizeListArray.from_arrays(lists, length)
    return lists


def _write_npz(file: IO[bytes], paths: Sequence[Path], shapes: Shapes, info: Info) -> None:
    """Write the arrays one after another, each of them part by part."""
    named = [pq.read_table(path, columns=list(COLUMNS)) for path in paths]
    columns = {name: [value for table in named for value in table[name].to_pylist()] for name in COLUMNS}
    with zipfile.ZipFile(file, "w") as archive:
        for name, kind in (("key", str), ("label", np.int32), ("split", str)):
            array = np.array(columns[name], kind)
            _add(archive, name, array.dtype, array.shape, iter([array]))
        text = np.array(json.dumps(info, ensure_ascii=False))
        _add(archive, INFO, text.dtype, (), iter([text]))
        for pool, shape in shapes.items():
            rows = (len(columns["key"]), *shape)
            _add(archive, pool, np.dtype(np.float32), rows, _pool_of(paths, pool, shape))


def _pool_of(paths: Sequence[Path], pool: str, shape: tuple[int, ...]) -> Iterator[Array]:
    for path in paths:
        yield as_array(pq.read_table(path, columns=[pool])[pool], shape)


def _add(
    archive: zipfile.ZipFile,
    name: str,
    kind: np.dtype[Any],
    shape: tuple[int, ...],
    arrays: Iterator[Array],
) -> None:
    """Add an array as NumPy's savez does, but always with the same bytes."""
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    size = kind.itemsize * prod(shape)
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=size > 1 << 30) as member:
        np.lib.format.write_array_header_2_0(member, header)
        for array in arrays:
            member.write(np.ascontiguousarray(array).tobytes())
