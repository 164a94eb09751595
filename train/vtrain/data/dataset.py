"""The chosen videos as arrays: what the loader must know of each to find its bytes, about 70 bytes a video."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vprep.errors import UsageError
from vprep.format import DATASET, INDEX, INDEX_SCHEMA, PER_FRAME
from vprep.hashing import hash_of
from vtrain.data.order import number_of
from vtrain.data.sampling import Video
from vtrain.data.shard_spec import Part, Spec, read_spec

COLUMNS = ["key", "shard", "offset", "label", "frames", "fps", "height", "width", "codec"]
PER_VIDEO = ("shard", "offset", "frames", "label", "fps", "height", "width")  # arrays of `Videos`
NO_LABEL = -1
FOLDS = (1, 2, 3)


@dataclass(frozen=True, eq=False)
class Frames:
    """Where the frames are of videos whose shards do not tell; the shards of vprep have it beside the frames."""

    starts: npt.NDArray[np.int64]  # into the two below; by row, and one more
    offsets: npt.NDArray[np.uint32]
    checks: list[str]

    def of(self, row: int) -> tuple[list[int], str]:
        return self.offsets[self.starts[row] : self.starts[row + 1]].tolist(), self.checks[row]


@dataclass(frozen=True, eq=False)
class Videos:
    """Videos of one or more sets, in the order in which they are stored."""

    paths: list[Path]
    sizes: list[int]  # of the files
    keys: pa.StringArray
    shard: npt.NDArray[np.int32]  # number in `paths`
    offset: npt.NDArray[np.int64]
    frames: npt.NDArray[np.int32]
    label: npt.NDArray[np.int32]
    fps: npt.NDArray[np.float32]
    height: npt.NDArray[np.int16]
    width: npt.NDArray[np.int16]
    classes: list[str] | None  # None when the sets do not agree on them
    inside: Frames | None  # of foreign sets

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def fingerprint(self) -> str:
        """Tells whether these are the same bytes of the same videos, as far as the index says."""
        numbers = (self.shard, self.offset, self.frames, self.label)
        said = "\n".join(self.keys.to_pylist()).encode() + repr(self.sizes).encode()
        return hash_of(said + b"".join(array.tobytes() for array in numbers))

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> "Videos":
        """Some of them."""
        if self.inside is not None:
            starts, ends = self.inside.starts[rows], self.inside.starts[rows + 1]
            numbers = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)] or [rows[:0]])
            counts = np.concatenate([[0], np.cumsum(ends - starts)])
            inside = Frames(counts, self.inside.offsets[numbers], [self.inside.checks[row] for row in rows])
        else:
            inside = None
        chosen = {name: getattr(self, name)[rows] for name in PER_VIDEO}
        return replace(self, keys=self.keys.take(pa.array(rows)), inside=inside, **chosen)

    def __getitem__(self, row: int) -> Video:
        label = int(self.label[row])
        return Video(
            key=self.keys[row].as_py(),
            frames=int(self.frames[row]),
            fps=float(self.fps[row]),
            height=int(self.height[row]),
            width=int(self.width[row]),
            label=None if label == NO_LABEL else label,
        )


def choose(spec: Spec, *, subset: Path | None = None, split: str | None = None, fold: int = 1) -> Videos:
    """The videos of the shards that `spec` names; of a subset or a split only, when asked."""
    if fold not in FOLDS:
        raise UsageError(f"--fold is {fold}; there are 1, 2 and 3")
    parts = read_spec(spec)
    chosen = None if subset is None else _read_subset(subset)
    tables = [_rows(part, chosen, split, fold) for part in parts]
    if not sum(map(len, tables)):
        raise UsageError(f"{_named(parts)} has no video {_asked(parts, subset, split, fold)}")
    videos = _videos(parts, tables, None if chosen is None else _classes(chosen))
    del tables
    pa.default_memory_pool().release_unused()  # workers would inherit what Arrow keeps of the whole index
    return videos


def _rows(part: Part, chosen: pa.Table | None, split: str | None, fold: int) -> pa.Table:
    """The rows of a set that are asked for, with the columns that are needed, and no more of the rest."""
    column = f"split{fold}"
    path = part.folder / INDEX
    try:
        with pq.ParquetFile(path) as file:
            _refuse_old(path, file.schema_arrow)
            table = file.read(columns=[*COLUMNS, column])
            rows = _wanted(table, part, chosen, split, column)
            # The codec is that of the source, which only a set of vprep's own making knows.
            foreign = rows["codec"].null_count > 0
            inside = file.read(columns=list(PER_FRAME)).take(rows["row"]) if foreign else None
    except FileNotFoundError:
        raise UsageError(f"{path} is missing; make it anew with: vprep index {part.folder}") from None
    except (OSError, pa.ArrowException) as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"{path} cannot be read ({said}); make it anew with: vprep index {part.folder}") from None
    for name in PER_FRAME:
        values = pa.nulls(len(rows), INDEX_SCHEMA.field(name).type) if inside is None else inside[name]
        rows = rows.append_column(name, values)
    return rows


def _refuse_old(path: Path, schema: pa.Schema) -> None:
    missing = [name for name in INDEX_SCHEMA.names if name not in schema.names]
    if missing:
        what = f"{path} has no column '{missing[0]}', which this version needs"
        raise UsageError(f"{what}; make the set anew with vprep shard, or for tars of others: vprep index")


def _wanted(table: pa.Table, part: Part, chosen: pa.Table | None, split: str | None, column: str) -> pa.Table:
    table = table.append_column("row", pa.array(np.arange(len(table))))
    keep = pc.is_in(table["shard"], pa.array([shard["name"] for shard in part.shards]))
    if split is not None:
        keep = pc.and_(keep, pc.fill_null(pc.equal(table[column], split), False))
    if chosen is not None:
        at = pc.index_in(table["key"], chosen["key"])
        table = table.set_column(table.schema.get_field_index("label"), "label", pc.take(chosen["label"], at))
        keep = pc.and_(keep, pc.is_valid(at))
    return table.filter(pc.and_(keep, pc.greater(table["frames"], 0)))


def _videos(parts: list[Part], tables: list[pa.Table], classes: list[str] | None) -> Videos:
    paths = [part.folder / shard["name"] for part in parts for shard in part.shards]
    numbers = {path: number for number, path in enumerate(paths)}
    shards = []
    for part, table in zip(parts, tables, strict=True):
        names = table["shard"].combine_chunks().dictionary_encode()
        known = np.array([numbers[part.folder / name] for name in names.dictionary.to_pylist()], np.int32)
        shards.append(known[names.indices.to_numpy(zero_copy_only=False)] if len(names) else known[:0])
    all_rows = pa.concat_tables(tables)
    sets = [part.facts["classes"] for part in parts]
    agreed = classes if classes is not None else (sets[0] if all(one == sets[0] for one in sets) else None)
    label = _numbers(all_rows["label"], NO_LABEL, np.int32)
    return Videos(
        paths=paths,
        sizes=[shard["bytes"] for part in parts for shard in part.shards],
        keys=pa.concat_arrays(all_rows["key"].chunks) if all_rows["key"].num_chunks else pa.array([], pa.string()),
        shard=np.concatenate(shards),
        offset=_numbers(all_rows["offset"], 0, np.int64),
        frames=_numbers(all_rows["frames"], 0, np.int32),
        label=label if agreed is not None else np.full_like(label, NO_LABEL),
        fps=_numbers(all_rows["fps"], 0, np.float32),
        height=_numbers(all_rows["height"], 0, np.int16),
        width=_numbers(all_rows["width"], 0, np.int16),
        classes=agreed,
        inside=_inside(all_rows),
    )


def _numbers(column: pa.ChunkedArray, null: int, kind: type[np.number[Any]]) -> npt.NDArray[Any]:
    return pc.fill_null(column, null).to_numpy().astype(kind)  # type: ignore[no-any-return]


def _inside(rows: pa.Table) -> Frames | None:
    offsets, checks = rows["frame_offsets"], rows["frame_checks"]
    if offsets.null_count == len(rows):
        return None
    lengths = _numbers(pc.list_value_length(offsets), 0, np.int64)
    flat = pc.list_flatten(offsets).to_numpy().astype(np.uint32)
    return Frames(np.concatenate([[0], np.cumsum(lengths)]), flat, [text or "" for text in checks.to_pylist()])


def _read_subset(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path, columns=["key", "label", "class_name"])
    except FileNotFoundError:
        raise UsageError(
            f"no file '{path}'; a subset is made with: vprep subset SET --rule RULE --out {path}"
        ) from None
    except (OSError, KeyError, pa.ArrowException) as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"{path} is no subset ({said}); one is made with: vprep subset SET --rule RULE") from None
    return table


def _classes(chosen: pa.Table) -> list[str]:
    known = {
        row["label"]: row["class_name"]
        for row in chosen.select(["label", "class_name"]).group_by(["label", "class_name"]).aggregate([]).to_pylist()
        if row["label"] is not None
    }
    return [known[label] for label in sorted(known)]


def _named(parts: list[Part]) -> str:
    return ", ".join(str(part.folder) for part in parts)


def _asked(parts: list[Part], subset: Path | None, split: str | None, fold: int) -> str:
    """Which videos were asked for, and which there are."""
    words = [f"of split '{split}' in fold {fold}"] if split is not None else []
    words += [f"of the subset {subset}"] if subset is not None else []
    words += [f"in the {sum(len(part.shards) for part in parts)} shards that were named"]
    splits = parts[0].facts.get("splits", {}).get(f"split{fold}")
    there = ", ".join(f"{count} {name}" for name, count in splits.items()) if splits else "no split at all"
    return " ".join(words) + (f"; fold {fold} of {DATASET} has {there}" if split is not None else "")


By = Literal["video", "group"]

GROUP = re.compile(r"_g(\d+)_c\d+")  # UCF101: clips of one group were cut from one video


def held_out(videos: Videos, count: int, by: By = "video", seed: int = 0) -> tuple[Videos, Videos]:
    """What is left, and `count` videos drawn by seed; with by="group" whole groups, until there are at least so many.

    Clips of one group are alike: where they are on both sides, what is told of the held-out ones says little.
    So, too, with videos of one name in several sets, which are held out together.
    """
    if not 0 <= count < len(videos):
        raise UsageError(f"{count} videos are to be held out of {len(videos)}; hold out 0 to {len(videos) - 1}")
    keys = videos.keys.to_pylist()
    groups = keys if by == "video" else [_group(key) for key in keys]
    order = sorted(set(groups), key=lambda group: number_of(seed, "held out", group))
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    held: list[int] = []
    for group in order:
        if len(held) >= count:
            break
        held += rows[group]
    if count and len(held) == len(videos):
        raise UsageError(f"the {len(order)} groups are too large to hold out {count} videos; hold out fewer")
    kept = np.ones(len(videos), bool)
    kept[held] = False
    return videos.take(np.flatnonzero(kept)), videos.take(np.flatnonzero(~kept))


def _group(key: str) -> str:
    found = GROUP.search(key)
    if found is None:
        raise UsageError(f"video '{key}' has no group in its name, as in v_Archery_g01_c02; hold out by video")
    return found[1]
