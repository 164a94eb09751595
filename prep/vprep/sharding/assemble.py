"""Turn the records of the shards into the three files that make them a set, and back.

finish   turns .work/*.parquet into index.parquet, failures.parquet and dataset.json
reopen   does the reverse, when shards of a finished set have to be made again
"""

from collections import Counter, defaultdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vprep.atomic import atomic_write
from vprep.errors import UsageError, WorkError
from vprep.format import (
    DATASET,
    FAILURES,
    FAILURES_SCHEMA,
    INDEX,
    INDEX_SCHEMA,
    PER_FRAME,
    PLAN,
    ROWS_PER_GROUP,
    SCHEMA,
    read_dataset,
    write_dataset,
)
from vprep.hashing import hash_file
from vprep.index_rows import failures, opened_index
from vprep.sharding.destination import Destination
from vprep.sharding.plan import Plan
from vprep.sharding.shard_writer import Record, load, make_work_folder, save
from vprep.tables import by_shard

_OFFSETS, _ = PER_FRAME
_OTHERS = [name for name in INDEX_SCHEMA.names if name not in PER_FRAME]


class IndexWriter:
    """Writes rows to an index in groups of a fixed size; no more than one group is held in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._writer = pq.ParquetWriter(
            file,
            INDEX_SCHEMA,
            compression="zstd",
            use_dictionary=_OTHERS,
            column_encoding={f"{_OFFSETS}.list.element": "DELTA_BINARY_PACKED"},
        )
        self._held: list[pa.Table] = []
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        self._held.append(table)
        self._rows += table.num_rows
        while self._rows >= ROWS_PER_GROUP:
            held = pa.concat_tables(self._held)
            self._write(held.slice(0, ROWS_PER_GROUP))
            self._held = [held.slice(ROWS_PER_GROUP)]
            self._rows -= ROWS_PER_GROUP

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rows and error is None:
            self._write(pa.concat_tables(self._held))
        self._writer.close()

    def _write(self, table: pa.Table) -> None:
        self._writer.write_table(table.combine_chunks(), row_group_size=ROWS_PER_GROUP)


class Totals:
    """The counts of a set, added up row by row."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.splits: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, table: pa.Table) -> None:
        self.counts["videos"] += table.num_rows
        for column in ("frames", "damaged"):
            self.counts[column] += pc.sum(table[column]).as_py() or 0
        for fold in ("split1", "split2", "split3"):
            for value in table[fold].value_counts().to_pylist():
                if value["values"] is not None:
                    self.splits[fold][value["values"]] += value["counts"]


def finish(out: Destination, plan: Plan) -> dict[str, Any]:
    """Write the files that make shards a set; return the content of dataset.json.

    In a store, another writer may have done so in the meantime, and removed the records of the shards.
    """
    try:
        return _finish(out, plan)
    except (OSError, WorkError):
        if is_finished(out):
            return finished(out)
        raise


def _finish(out: Destination, plan: Plan) -> dict[str, Any]:
    """Write index, failures and dataset.json of a set whose shards all exist; return the content of dataset.json."""
    folder = out.folder
    totals, shards, lost = Totals(), [], [FAILURES_SCHEMA.empty_table()]
    with atomic_write(folder / INDEX) as file, IndexWriter(file) as index:
        for name in plan.shards:
            found = load(out, name)
            if found is None:
                raise WorkError(f"{out}/{name} changed while the set was being made; run vprep shard again")
            record, table = found
            index.add(table)
            totals.add(table)
            shards.append({"name": name, "bytes": record.bytes, "hash": record.hash, "videos": table.num_rows})
            lost.append(pa.Table.from_pylist(record.failures, schema=FAILURES_SCHEMA))
    with atomic_write(folder / FAILURES) as file:
        pq.write_table(pa.concat_tables(lost).combine_chunks(), file, compression="zstd")
    info = dataset_info(folder, plan.settings.as_dict(), plan.classes, shards, totals)
    with atomic_write(folder / DATASET) as file:
        file.write(write_dataset(info))
    for name in (INDEX, FAILURES, DATASET):
        out.keep(name)
    out.remove_work()
    return info


def dataset_info(
    folder: Path, settings: dict[str, Any], classes: list[str], shards: list[dict[str, Any]], totals: Totals
) -> dict[str, Any]:
    """Return the content of dataset.json."""
    beside = [folder / name for name in (INDEX, FAILURES, PLAN)]
    files = [
        {"name": path.name, "bytes": path.stat().st_size, "hash": hash_file(path)} for path in beside if path.exists()
    ]
    return {
        "schema": SCHEMA,
        "videos": totals.counts["videos"],
        "failures": len(failures(folder, ["cause"])) if (folder / FAILURES).exists() else 0,
        "frames": totals.counts["frames"],
        "damaged": totals.counts["damaged"],
        "bytes": sum(shard["bytes"] for shard in shards),
        "splits": {fold: dict(sorted(counts.items())) for fold, counts in sorted(totals.splits.items())},
        "settings": settings,
        "classes": classes,
        "files": files,
        "shards": shards,
    }


def is_finished(out: Destination) -> bool:
    """Return whether all files of the set exist with their sizes."""
    if not out.fetch(DATASET).exists():
        return False
    info, sizes = read_dataset(out.folder), out.sizes()
    return all(sizes.get(file["name"]) == file["bytes"] for file in [*info["files"], *info["shards"]])


def finished(out: Destination) -> dict[str, Any]:
    """Return the content of a finished set's dataset.json, and remove what its writers have left."""
    out.remove_work()
    out.fetch(FAILURES)
    return read_dataset(out.folder)


def reopen(out: Destination) -> None:
    """Turn a finished set back into shards with records, so that some of them can be made again."""
    folder = out.folder
    info = read_dataset(folder)
    for file in info["files"]:
        path = out.fetch(file["name"])
        if not path.exists() or hash_file(path) != file["hash"]:
            raise UsageError(f"{path} is not the file that {DATASET} lists; make it again with: vprep index {folder}")
    lost_rows = _failures_by_shard(folder)
    make_work_folder(folder)
    with opened_index(folder) as index:
        tables = by_shard(index.batches())
        held = next(tables, None)
        for shard in info["shards"]:  # a shard without a video has no rows
            name = shard["name"]
            table = INDEX_SCHEMA.empty_table()
            if held is not None and held[0] == name:
                table, held = held[1], next(tables, None)
            if table.num_rows != shard["videos"]:
                raise UsageError(f"{folder / INDEX} is not of these shards; make it again with: vprep index {folder}")
            save(out, Record(name, shard["bytes"], shard["hash"], lost_rows.get(name, [])), table)
    out.remove(DATASET)


def _failures_by_shard(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in failures(folder, FAILURES_SCHEMA.names).to_pylist():
        found[row["shard"]].append(row)
    return found
