"""Shards that were opened once: what their sets say of themselves, and the selection of videos from them."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vprep.errors import UsageError
from vprep.format import DATASET, INDEX, INDEX_SCHEMA, PER_FRAME
from vprep.hashing import hash_of
from vtrain.data.dataset import Videos, videos_of
from vtrain.data.shard_spec import Part, Spec, pieces, read_spec

FOLDS = (1, 2, 3)
SPLITS = [f"split{fold}" for fold in FOLDS]
COLUMNS = ["key", "shard", "offset", "label", "frames", "fps", "height", "width", "codec", "hash", *SPLITS]
NAMES = {"ucf101": "UCF101", "hmdb51": "HMDB51", "ssv2": "SSv2"}  # of layouts, as the papers' tables write them


@dataclass(frozen=True, eq=False)
class ShardSet:
    """Some shards of one or more sets.

    `dataset.json` of each set is read once, by `open`, and its index once, by the first selection. Pass the value on
    instead of opening the shards again. It holds the index in memory: drop it before worker processes are started.
    """

    spec: str  # as the user wrote it, several words joined by commas
    parts: list[Part]

    @classmethod
    def open(cls, spec: Spec) -> "ShardSet":
        """Open the shards that `spec` names; each must be there with the size it was written with."""
        return cls(spec if isinstance(spec, str) else ",".join(pieces(spec)), read_spec(spec))

    @property
    def name(self) -> str:
        """The name of the data set, as tables of results print it."""
        names = [NAMES.get(part.settings.get("layout", "")) or part.folder.name for part in self.parts]
        return "+".join(dict.fromkeys(names))

    @property
    def fingerprint(self) -> str:
        """A hash of everything in the sets."""
        hashes = [part.info["hash"] for part in self.parts]
        return hashes[0] if len(hashes) == 1 else hash_of("/".join(hashes).encode())

    @property
    def smallest_side(self) -> int | None:
        """The shortest side of the frames in pixels; None where no set says how its frames were made."""
        made = [part.settings for part in self.parts]
        sides = [one.get("short_side") or min(one.get("height") or 0, one.get("width") or 0) for one in made]
        return min(filter(None, sides), default=None)

    @property
    def classes(self) -> list[str] | None:
        """The names of the classes by label; None when the sets disagree on them."""
        first, *others = [part.info["classes"] for part in self.parts]
        return first if all(classes == first for classes in others) else None

    def has_split(self, split: str, fold: int) -> bool:
        return any(split in part.splits(fold) for part in self.parts)

    def select(self, split: str | None = None, *, fold: int = 1, subset: Path | None = None) -> Videos:
        """Return the videos of a split, or all; with `subset`, a file of `vprep subset`, only those it lists."""
        if fold not in FOLDS:
            raise UsageError(f"--fold is {fold}; there are 1, 2 and 3")
        listed = None if subset is None else _read_subset(subset)
        tables = [
            _with_frames(part, _selected(rows, split, fold, listed))
            for part, rows in zip(self.parts, self._index, strict=True)
        ]
        if not sum(map(len, tables)):
            raise UsageError(f"{self._folders} has no video {self._asked_for(split, fold, subset)}")
        videos = videos_of(self.parts, tables, self.classes if listed is None else _classes_of(listed))
        del tables
        pa.default_memory_pool().release_unused()  # worker processes would inherit what Arrow keeps
        return videos

    def content_hashes(self) -> dict[str, str]:
        """Return the hash of each video's frames, by key; two videos with the same hash have the same content."""
        hashes: dict[str, str] = {}
        for rows in self._index:
            hashes |= dict(zip(rows["key"].to_pylist(), rows["hash"].to_pylist(), strict=True))
        return hashes

    @cached_property
    def _index(self) -> list[pa.Table]:
        """The rows of the named shards, by set; `row` is the number of a row in the index."""
        return [_read_index(part) for part in self.parts]

    @property
    def _folders(self) -> str:
        return ", ".join(str(part.folder) for part in self.parts)

    def _asked_for(self, split: str | None, fold: int, subset: Path | None) -> str:
        """Say which videos were asked for, and which splits there are."""
        words = [f"of split '{split}' in fold {fold}"] if split is not None else []
        words += [f"of the subset {subset}"] if subset is not None else []
        words += [f"in the {sum(len(part.shards) for part in self.parts)} shards that were named"]
        counts = ", ".join(f"{count} {name}" for name, count in self.parts[0].splits(fold).items()) or "no split at all"
        return " ".join(words) + (f"; fold {fold} of {DATASET} has {counts}" if split is not None else "")


def _read_index(part: Part) -> pa.Table:
    path = part.folder / INDEX
    try:
        with pq.ParquetFile(path) as file:
            _refuse_old(path, file.schema_arrow)
            table = file.read(columns=COLUMNS)
    except FileNotFoundError:
        raise UsageError(f"{path} is missing; make it anew with: vprep index {part.folder}") from None
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None
    table = table.append_column("row", pa.array(np.arange(len(table))))
    return table.filter(pc.is_in(table["shard"], pa.array([shard["name"] for shard in part.shards])))


def _refuse_old(path: Path, schema: pa.Schema) -> None:
    missing = [name for name in INDEX_SCHEMA.names if name not in schema.names]
    if missing:
        what = f"{path} has no column '{missing[0]}', which this version needs"
        raise UsageError(f"{what}; make the set anew with vprep shard, or for tars of others: vprep index")


def _selected(rows: pa.Table, split: str | None, fold: int, listed: pa.Table | None) -> pa.Table:
    """The rows of a split and a subset; a subset brings labels of its own."""
    keep = pc.greater(rows["frames"], 0)
    if split is not None:
        keep = pc.and_(keep, pc.fill_null(pc.equal(rows[f"split{fold}"], split), False))
    if listed is not None:
        at = pc.index_in(rows["key"], listed["key"])
        rows = rows.set_column(rows.schema.get_field_index("label"), "label", pc.take(listed["label"], at))
        keep = pc.and_(keep, pc.is_valid(at))
    return rows.filter(keep)


def _with_frames(part: Part, rows: pa.Table) -> pa.Table:
    """The rows with the places of their frames, for shards that do not hold these themselves.

    Only vprep writes them into its shards, and only vprep knows the codec of a source. For shards of others the large
    columns of the index are read here.
    """
    foreign = rows["codec"].null_count > 0
    path = part.folder / INDEX
    try:
        frames = pq.read_table(path, columns=list(PER_FRAME)).take(rows["row"]) if foreign else None
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None
    for name in PER_FRAME:
        values = pa.nulls(len(rows), INDEX_SCHEMA.field(name).type) if frames is None else frames[name]
        rows = rows.append_column(name, values)
    return rows


def _unreadable(path: Path, error: Exception) -> UsageError:
    reason = str(error).splitlines()[0]
    return UsageError(f"{path} cannot be read ({reason}); make it anew with: vprep index {path.parent}")


def _read_subset(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, columns=["key", "label", "class_name"])
    except FileNotFoundError:
        how = f"vprep subset SET --rule RULE --out {path}"
        raise UsageError(f"no file '{path}'; a subset is made with: {how}") from None
    except (OSError, KeyError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        how = "vprep subset SET --rule RULE"
        raise UsageError(f"{path} is not a subset ({reason}); make one with: {how}") from None


def _classes_of(listed: pa.Table) -> list[str]:
    """The names of a subset's classes by label."""
    pairs: Iterable[dict[str, object]] = (
        listed.select(["label", "class_name"]).group_by(["label", "class_name"]).aggregate([]).to_pylist()
    )
    names = {row["label"]: str(row["class_name"]) for row in pairs if row["label"] is not None}
    return [names[label] for label in sorted(names)]  # type: ignore[type-var]
