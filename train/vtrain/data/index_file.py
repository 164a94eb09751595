"""Open the indexes of sets and check what a selection relies on, so that no wrong value reaches a loader."""

from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vprep.duplicates import codes, key_twice
from vprep.errors import UsageError
from vprep.format import CHECK_DIGITS, DATASET, INDEX, INDEX_SCHEMA
from vprep.hashing import hash_file
from vprep.row_check import row_faults
from vprep.tables import Table
from vprep.text import brief
from vtrain.data.shard_spec import DUPLICATES, Part


def open_index(part: Part) -> Table:
    """Open the index of a set. It must be the one that `dataset.json` listed when the set was opened."""
    path = part.folder / INDEX
    copy = "" if part.remote is None else "on a copy of "
    again = f"make it again with: vprep index {copy}{part.place}"
    _refuse_old(path, again)
    index = Table(path, INDEX_SCHEMA, again)
    _refuse_changed(part, path)
    return index


def _refuse_old(path: Path, again: str) -> None:
    try:
        names = pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path} cannot be read ({brief(str(error).splitlines()[0])}); {again}") from None
    missing = [name for name in INDEX_SCHEMA.names if name not in names]
    if missing:
        what = f"{path} has no column '{missing[0]}', which this version needs"
        raise UsageError(f"{what}; make the set again with vprep shard, or for tars of other tools: vprep index")


def _refuse_changed(part: Part, path: Path) -> None:
    """Refuse a set that was written while it was opened: its dataset.json and its index would be of different times."""
    dataset = part.folder / DATASET
    same = dataset.is_file() and part.info["hash"].encode() in dataset.read_bytes()
    (listed,) = [file for file in part.info["files"] if file["name"] == INDEX] or [None]
    # dataset.json is written last. So the content is compared only when the index is the newer file of the two.
    if same and listed is not None and path.stat().st_mtime_ns > dataset.stat().st_mtime_ns:
        same = hash_file(path) == listed["hash"]
    if not same:
        raise UsageError(
            f"the set in {part.place} changed while it was opened, or {INDEX} is not the file that it was finished "
            f"with; wait until nobody writes to it, then find out with: vprep verify {part.place}"
        )


def in_shards(part: Part, rows: pa.Table) -> pa.ChunkedArray:
    """Return for each row whether its shard is among the named shards."""
    return pc.is_in(rows["shard"], pa.array([shard["name"] for shard in part.shards]))


def of_named_shards(part: Part, rows: pa.Table) -> pa.Table:
    """Return the rows of the named shards."""
    inside = in_shards(part, rows)
    return rows if pc.all(inside, min_count=0).as_py() else rows.filter(inside)


def refuse_wrong_rows(part: Part, rows: pa.Table) -> None:
    """Refuse rows of named shards with values that no video has."""
    for key, what in row_faults(rows.drop_columns("shard")):
        raise _wrong(part, key, what)
    names, sizes = ([shard[name] for shard in part.shards] for name in ("name", "bytes"))
    room = pc.take(pa.array(sizes, pa.int64()), pc.index_in(rows["shard"], pa.array(names)))
    inside = pc.less_equal(rows["offset"], pc.subtract(room, rows["size"]))
    if not pc.all(inside, min_count=0).as_py():
        raise _wrong(part, rows["key"][pc.index(inside, False).as_py()].as_py(), "it would end after its shard")
    classes = part.info["classes"]
    known = pc.fill_null(pc.less(rows["label"], len(classes)), True)
    if classes and not pc.all(known, min_count=0).as_py():
        at = pc.index(known, False).as_py()
        raise _wrong(
            part, rows["key"][at].as_py(), f"has label {rows['label'][at]}, and there are {len(classes)} classes"
        )


def refuse_wrong_offsets(part: Part, rows: pa.Table) -> None:
    """Refuse rows whose frame offsets and checks, which are for shards of other tools, do not fit their frames.

    A video of vprep has these in its shard, where they are checked when it is read.
    """
    foreign = rows.filter(pc.or_(pc.is_valid(rows["frame_offsets"]), pc.is_valid(rows["frame_checks"])))
    at = _wrong_offsets(foreign)
    if at is not None:
        raise _wrong(part, foreign["key"][at].as_py(), "its frame offsets do not fit its frames")


def _wrong(part: Part, key: str, what: str) -> UsageError:
    return UsageError(
        f"{part.place}/{INDEX}, video '{key}': {what}; find what is wrong with: vprep verify {part.place}"
    )


def _wrong_offsets(rows: pa.Table) -> int | None:
    """Return a row whose frame offsets or checks do not fit its frames; None when all fit."""
    counts = pc.fill_null(pc.list_value_length(rows["frame_offsets"]), 0).to_numpy().astype(np.int64)
    frames, size = (rows[name].to_numpy().astype(np.int64) for name in ("frames", "size"))
    checks = pc.fill_null(pc.binary_length(rows["frame_checks"]), 0).to_numpy()
    wrong = (counts != frames + 1) | (checks != CHECK_DIGITS * frames)
    if not wrong.any() and len(counts):
        flat = pc.list_flatten(rows["frame_offsets"]).to_numpy().astype(np.int64)
        ends = np.cumsum(counts)
        wrong = (flat[ends - counts] != 0) | (flat[ends - 1] != size)
        falls = np.flatnonzero(np.diff(flat) <= 0)  # between two videos they may
        inside = falls[~np.isin(falls, ends - 1)]
        wrong[np.searchsorted(ends, inside, side="right")] = True
    return int(np.flatnonzero(wrong)[0]) if wrong.any() else None


class Comparison:
    """Compares all keys of a `ShardSet` once, with the rows that its first selection reads in any case.

    A key that is there twice is refused, and, without `duplicates`, content that is in several sets.
    """

    def __init__(self, parts: list[Part], *, duplicates: bool) -> None:
        self._parts, self._contents, self._complete = parts, len(parts) > 1 and not duplicates, False

    @property
    def columns(self) -> list[str]:
        """The columns of the index that are compared; none when they were compared before."""
        return [] if self._complete else ["key", *(["hash"] if self._contents else [])]

    def compare(self, tables: list[pa.Table]) -> None:
        """Compare the rows of the named shards, one table with `columns` for each set."""
        if self._complete:
            return
        for part, table in zip(self._parts, tables, strict=True):
            _refuse_key(table["key"], f"{part.place}/{INDEX} has", f"vprep verify {part.place}")
        for (one, first), (other, second) in combinations(zip(self._parts, tables, strict=True), 2):
            both = pa.chunked_array([*first["key"].chunks, *second["key"].chunks], pa.string())
            _refuse_key(both, f"{one.place} and {other.place} both have", "")
            if self._contents:
                _refuse_content(one, first, other, second)
        self._complete = True


def _refuse_key(keys: pa.ChunkedArray, where: str, command: str) -> None:
    key = key_twice(keys)
    if key is None:
        return
    if command:
        raise UsageError(f"{where} the key '{key}' twice; find what is wrong with: {command}")
    raise UsageError(
        f"{where} a video '{key}'; results go by key, so name one of the two sets, or make one again from files "
        "with other names"
    )


def _refuse_content(one: Part, first: pa.Table, other: Part, second: pa.Table) -> None:
    ours, theirs = codes(first["hash"]), codes(second["hash"])
    shared = np.intersect1d(ours, theirs)
    if not len(shared):
        return
    names = [_key_of(table, of, int(shared[0])) for table, of in ((first, ours), (second, theirs))]
    raise UsageError(
        f"{len(shared)} videos of {one.place} are in {other.place}, too, with the same content ('{names[0]}' is "
        f"'{names[1]}'); name one of the two sets, or allow it with the word {DUPLICATES}: --shards "
        f"'{one.place},{other.place},{DUPLICATES}'"
    )


def _key_of(table: pa.Table, of: npt.NDArray[np.uint64], code: int) -> str:
    return str(table["key"][int(np.flatnonzero(of == code)[0])].as_py())
