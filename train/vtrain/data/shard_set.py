"""Open shards, read the descriptions of their sets, and select videos from them."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vprep.errors import UsageError
from vprep.format import DATASET, PER_FRAME
from vprep.hashing import hash_of
from vprep.limits import MOST_LABEL
from vprep.set_name import set_name
from vprep.tables import Table, opened
from vtrain.data.cache.place import CachePlace
from vtrain.data.dataset import Videos, as_array, videos_of
from vtrain.data.index_file import Comparison, of_named_shards, open_index, refuse_wrong_offsets, refuse_wrong_rows
from vtrain.data.shard_spec import DUPLICATES, Part, Spec, pieces, read_spec
from vtrain.data.stored import FrameInfo

FOLDS = (1, 2, 3)
COLUMNS = ["key", "shard", "offset", "size", "label", "frames", "fps", "height", "width", "codec"]
SIZES_AND_RATES = ["height", "width", "fps", "source_height", "source_width", "source_fps", "rotation"]
SUBSET = pa.schema([("key", pa.string()), ("label", pa.int32()), ("class_name", pa.string())])


@dataclass(frozen=True, eq=False)
class ShardSet:
    """Open shards of one or more sets.

    The `dataset.json` of each set is read once, by `open`. Its index is opened once, by the first selection; each
    selection then reads the columns that it needs, and keeps none of them in memory. So pass this value on instead of
    opening the same shards again.
    """

    spec: str  # the SPEC as the user wrote it, its words joined by commas
    parts: list[Part]  # one for each set

    @classmethod
    def open(cls, spec: Spec, cache: CachePlace | None = None) -> "ShardSet":
        """Open the shards that `spec` names; each must exist with the size that it was written with.

        What is in a store goes through `cache`; None stands for the place that the command names, or the default.
        """
        return cls(spec if isinstance(spec, str) else ",".join(pieces(spec)), read_spec(spec, cache))

    @property
    def name(self) -> str:
        """The name of the data set in tables of results; several names are joined by +."""
        return "+".join(dict.fromkeys(map(_name, self.parts)))

    @property
    def failures(self) -> int:
        """The number of videos of all sets that could not be used when the sets were made."""
        return sum(part.info.get("failures", 0) for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """A hash of the contents of all sets, including shards that are not open."""
        hashes = [part.info["hash"] for part in self.parts]
        return hashes[0] if len(hashes) == 1 else hash_of("/".join(hashes).encode())

    @property
    def smallest_side(self) -> int | None:
        """The shortest side of a frame in pixels; None when no set records how its frames were made."""
        return min(filter(None, (part.smallest_side for part in self.parts)), default=None)

    @property
    def classes(self) -> list[str] | None:
        """The names of the classes, by label; None if the sets have different classes."""
        first, *others = [part.info["classes"] for part in self.parts]
        return first if all(classes == first for classes in others) else None

    def has_split(self, split: str, fold: int) -> bool:
        """Return whether any set has videos of that split."""
        return any(split in part.splits(fold) for part in self.parts)

    def split_counts(self, fold: int, subset: Path | None = None) -> dict[str, int]:
        """Return the number of videos of each split of a fold; "" stands for those of no split."""
        _demand_fold(fold)
        listed, column = None if subset is None else _read_subset(subset), f"split{fold}"
        counts: Counter[str] = Counter()
        for part, index in zip(self.parts, self._indexes, strict=True):
            rows, keep = _rows(part, index, [column], None, fold, listed)
            counts.update(pc.fill_null(rows.filter(keep)[column], "").to_pylist())
        return dict(counts)

    def select(self, split: str | None = None, *, fold: int = 1, subset: Path | None = None) -> Videos:
        """Return the videos of a split, or all videos; with `subset`, a file of `vprep subset`, only its videos.

        A subset also brings its own labels and classes.
        """
        _demand_fold(fold)
        listed = None if subset is None else _read_subset(subset)
        compared, tables = [], []
        for part, index in zip(self.parts, self._indexes, strict=True):
            columns = self._comparison.columns
            rows, keep = _rows(part, index, [*self._columns, *columns], split, fold, listed)
            compared.append(rows.select(columns))
            tables.append(_selected(part, index, rows.select(self._columns), keep, listed))
            del rows, keep
        self._comparison.compare(compared)
        del compared
        if not sum(map(len, tables)):
            raise UsageError(f"{self._folders} has no video {self._asked_for(split, fold, subset)}")
        videos = videos_of(self.parts, tables, self.classes if listed is None else _classes_of(listed))
        del tables
        pa.default_memory_pool().release_unused()  # or worker processes would inherit the memory that Arrow keeps
        return videos

    def frame_info(self, split: str | None = None, *, fold: int = 1, subset: Path | None = None) -> FrameInfo:
        """Return size and rate of the frames of a selection; videos for which the index has none are left out."""
        listed = None if subset is None else _read_subset(subset)
        found = []
        for part, index in zip(self.parts, self._indexes, strict=True):
            rows, keep = _rows(part, index, SIZES_AND_RATES, split, fold, listed)
            found.append(_frame_info(part, rows.filter(keep)))
            del rows, keep
        pa.default_memory_pool().release_unused()
        return FrameInfo.joined(found)

    def content_hashes(self) -> dict[str, str]:
        """Return a hash of each video's frames, by key; two videos with the same hash have the same content."""
        hashes: dict[str, str] = {}
        for part, index in zip(self.parts, self._indexes, strict=True):
            rows = of_named_shards(part, index.read(["key", "shard", "hash"]))
            hashes |= dict(zip(rows["key"].to_pylist(), rows["hash"].to_pylist(), strict=True))
        return hashes

    @cached_property
    def _indexes(self) -> list[Table]:
        return [open_index(part) for part in self.parts]

    @cached_property
    def _comparison(self) -> Comparison:
        return Comparison(self.parts, duplicates=DUPLICATES in pieces(self.spec))

    @property
    def _columns(self) -> list[str]:
        """The columns that a selection reads; of sets in stores also the hash of each video."""
        return [*COLUMNS, *(["hash"] if any(part.remote is not None for part in self.parts) else [])]

    @property
    def _folders(self) -> str:
        return ", ".join(part.place for part in self.parts)

    def _asked_for(self, split: str | None, fold: int, subset: Path | None) -> str:
        """Return a description of the videos that were asked for, and of the splits that exist."""
        words = [f"of split '{split}' in fold {fold}"] if split is not None else []
        words += [f"of the subset {subset}"] if subset is not None else []
        shards = sum(len(part.shards) for part in self.parts)
        words += ["in the shard that was named" if shards == 1 else f"in the {shards} shards that were named"]
        counts = ", ".join(f"{count} {name}" for name, count in self.parts[0].splits(fold).items()) or "no split at all"
        return " ".join(words) + (f"; fold {fold} of {DATASET} has {counts}" if split is not None else "")


def _demand_fold(fold: int) -> None:
    if fold not in FOLDS:
        raise UsageError(f"--fold is {fold}; there are 1, 2 and 3")


def _name(part: Part) -> str:
    """Return the name of a set's data set, or of its folder."""
    folder = part.folder.name if part.remote is None else part.remote.store.location.name
    return set_name(part.settings.get("layout", ""), part.info["classes"]) or folder


def _selected(part: Part, index: Table, rows: pa.Table, keep: pa.ChunkedArray, listed: pa.Table | None) -> pa.Table:
    """Return the rows to keep, after a check of all, with the labels of the subset."""
    refuse_wrong_rows(part, rows)
    if listed is not None:
        labels = pc.take(listed["label"], pc.index_in(rows["key"], listed["key"]))
        rows = rows.set_column(rows.schema.get_field_index("label"), "label", labels)
    chosen = rows.filter(keep)
    # Only the shards of vprep hold the offsets of their frames, and only vprep knows the codec of a source. So a row
    # without a codec needs the large columns of the index.
    if chosen["codec"].null_count > 0:
        frames = of_named_shards(part, index.read(["shard", *PER_FRAME])).filter(keep)
        for name in PER_FRAME:
            chosen = chosen.append_column(name, frames[name])
        refuse_wrong_offsets(part, chosen)
    return chosen


def _rows(
    part: Part, index: Table, columns: list[str], split: str | None, fold: int, listed: pa.Table | None
) -> tuple[pa.Table, pa.ChunkedArray]:
    """Return rows of the named shards, and for each whether it has frames and is in the split and the subset."""
    needed = [*columns, "shard", "frames", *([] if split is None else [f"split{fold}"])]
    needed += [] if listed is None else ["key"]
    rows = of_named_shards(part, index.read(list(dict.fromkeys(needed))))
    keep = pc.greater(rows["frames"], 0)
    if split is not None:
        keep = pc.and_(keep, pc.fill_null(pc.equal(rows[f"split{fold}"], split), False))
    if listed is not None:
        keep = pc.and_(keep, pc.is_valid(pc.index_in(rows["key"], listed["key"])))
    return rows, keep


def _frame_info(part: Part, rows: pa.Table) -> FrameInfo:
    """Return size and rate of the frames in rows of the index."""
    found = {name: as_array(rows[name], 0, np.float64) for name in SIZES_AND_RATES}
    known = (found["height"] > 0) & (found["width"] > 0) & (found["fps"] > 0)
    height, width, fps, tall, wide, own, rotation = (found[name][known] for name in SIZES_AND_RATES)
    tall, wide = np.where(rotation % 180, (wide, tall), (tall, wide))
    changed = (tall > 0) & (wide > 0) & (not part.keeps_aspect)
    stretch = np.divide(width * tall, height * wide, out=np.ones_like(fps), where=changed)
    own = np.where((own > 0) & (not part.keeps_rate), own, fps)
    return FrameInfo(height=height, width=width, fps=fps, own_fps=own, stretch=stretch)


def _read_subset(path: Path) -> pa.Table:
    """Return the keys, labels and class names of a file that `vprep subset` wrote."""
    if not path.exists():
        raise UsageError(f"no file '{path}'; make a subset with: vprep subset SET --rule RULE --out {path}")
    with opened(path, SUBSET, "it is not a subset; make one with: vprep subset SET --rule RULE") as table:
        listed = table.read(SUBSET.names)
    if listed["key"].null_count or not pc.all(_are_labels(listed["label"]), min_count=0).as_py():
        raise UsageError(f"{path} has a video without a key or with a negative label; make it again with: vprep subset")
    return listed


def _are_labels(labels: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.and_(pc.greater_equal(labels, 0), pc.less_equal(labels, MOST_LABEL)), True)


def _classes_of(listed: pa.Table) -> list[str]:
    """Return the names of a subset's classes, by label."""
    names: dict[int | None, str] = dict(zip(listed["label"].to_pylist(), listed["class_name"].to_pylist(), strict=True))
    return [names[label] for label in sorted(label for label in names if label is not None)]
