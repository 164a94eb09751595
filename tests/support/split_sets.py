"""Copies of a set in which the videos have other splits."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vprep.format import write_dataset
from vprep.hashing import hash_file


def with_splits(shards: Path, folder: Path, split: Callable[[int], str | None], folds: tuple[int, ...] = (1,)) -> Path:
    """Copy the set to `folder`, and give the video of each row the split `split(row)` in these folds alone."""
    shutil.copytree(shards, folder)
    rows = pq.read_table(folder / "index.parquet")
    values = [split(row) for row in range(len(rows))]
    for fold in (1, 2, 3):
        column = pa.array(values if fold in folds else [None] * len(rows), pa.string())
        rows = rows.set_column(rows.schema.get_field_index(f"split{fold}"), f"split{fold}", column)
    pq.write_table(rows, folder / "index.parquet")
    info = json.loads((folder / "dataset.json").read_text())
    counts = {word: values.count(word) for word in values if word is not None}
    info["splits"] = {f"split{fold}": counts for fold in folds} if counts else {}
    for file in info["files"]:
        path = folder / file["name"]
        file |= {"bytes": path.stat().st_size, "hash": hash_file(path)}
    (folder / "dataset.json").write_bytes(write_dataset(info))
    return folder
