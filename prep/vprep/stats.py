"""Count the contents of a set from its index alone; only a few of its columns are held in memory."""

from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table
from rich.text import Text

from vprep.format import FAILURES, read_dataset
from vprep.index_rows import batches, failures
from vprep.summary import class_sizes, counted
from vprep.text import byte_size

SPLITS = ("split1", "split2", "split3")
_IDENTITY = ("source_hash", "hash", "start", "end", "key", *SPLITS)  # the columns that identify duplicates
_COUNT = ("label", "class_name", "frames", "size", "damaged", "rotation", "variable_rate", "audio")
COLUMNS = (*_IDENTITY, *_COUNT, "fps", "height", "width", "source_fps", "codec")
QUANTILES = (0, 5, 25, 50, 75, 95, 100)  # percent
MOST = 20  # source rates that are listed; the others are counted together


class Tally:
    """The counts over the rows of an index, added up batch by batch."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.values: dict[str, Counter[Any]] = defaultdict(Counter)
        self.seconds: list[np.ndarray[Any, np.dtype[np.float64]]] = []
        self.identities: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        self.sums["videos"] += rows.num_rows
        self.sums["unlabelled"] += rows["label"].null_count
        for column in ("frames", "size", "damaged"):
            self.sums[column] += pc.sum(rows[column]).as_py() or 0
        self.sums["damaged_videos"] += _true(pc.greater(rows["damaged"], 0))
        self.sums["rotated"] += _true(pc.not_equal(rows["rotation"], 0))
        self.sums["variable_rate"] += _true(rows["variable_rate"])
        self.sums["silent"] += _true(pc.invert(rows["audio"]))
        for column in ("class_name", "codec", *SPLITS):
            self._values(column, rows[column])
        for column in ("fps", "source_fps"):
            self._values(column, pc.round(rows[column], 2))
        for (height, width), count in _pairs(rows["height"], rows["width"]).items():
            self.values["frame_sizes"][f"{height}x{width}"] += count
        self.seconds.append(pc.divide(rows["frames"], rows["fps"]).to_numpy())
        content = pc.coalesce(rows["source_hash"], rows["hash"])
        self.identities.append(rows.select([*_IDENTITY[2:]]).append_column("content", content))

    @property
    def all_seconds(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The durations of all videos."""
        return np.concatenate([np.zeros(0), *self.seconds])

    def _values(self, column: str, values: pa.ChunkedArray) -> None:
        for found in values.value_counts().to_pylist():
            if found["values"] is not None:
                self.values[column][found["values"]] += found["counts"]


def stats(folder: Path) -> dict[str, Any]:
    """Return the counts of a set, for `as_table` and for JSON."""
    read_dataset(folder)  # refuses a folder without a set
    return values_of(folder, tallied(folder))


def tallied(folder: Path) -> Tally:
    """Return the counts over the index of a set."""
    tally = Tally()
    for rows in batches(folder, COLUMNS):
        tally.add(rows)
    return tally


def values_of(folder: Path, tally: Tally) -> dict[str, Any]:
    """Return the counts of a set, with what its dataset.json and its failures say."""
    info = read_dataset(folder)
    sums, seconds = tally.sums, tally.all_seconds
    return {
        "set": str(folder),
        "videos": sums["videos"],
        "failures": info["failures"],
        "causes": _causes(folder),
        "hours": round(float(seconds.sum()) / 3600, 4),
        "frames": sums["frames"],
        "bytes": info["bytes"],
        "bytes_per_frame": round(sums["size"] / sums["frames"], 1) if sums["frames"] else None,
        "shards": len(info["shards"]),
        "classes": len(info["classes"]),
        "class_sizes": _class_sizes(tally.values["class_name"], info["classes"]),
        "unlabelled": sums["unlabelled"],
        "splits": {split: dict(sorted(tally.values[split].items())) for split in SPLITS if tally.values[split]},
        "damaged_videos": sums["damaged_videos"],
        "damaged_frames": sums["damaged"],
        "rotated": sums["rotated"],
        "variable_rate": sums["variable_rate"],
        "silent": sums["silent"],
        "duplicates": _duplicates(tally.identities),
        "seconds": _quantiles(seconds),
        "frame_sizes": dict(tally.values["frame_sizes"].most_common(MOST)),
        "fps": _rates(tally.values["fps"]),
        "source_fps": _rates(tally.values["source_fps"]),
        "codecs": dict(tally.values["codec"].most_common()),
    }


def _pairs(first: pa.Array, second: pa.Array) -> Counter[tuple[Any, Any]]:
    return Counter(zip(first.to_pylist(), second.to_pylist(), strict=True))


def _true(values: pa.Array) -> int:
    return pc.sum(values).as_py() or 0


def _causes(folder: Path) -> dict[str, int]:
    if not (folder / FAILURES).exists():
        return {}
    return dict(Counter(failures(folder, ["cause"])["cause"].to_pylist()).most_common())


def _class_sizes(sizes: Counter[str], classes: list[str]) -> dict[str, Any] | None:
    found = class_sizes(sizes, classes)
    return None if found is None else found | {"median": median(sizes.values())}


def _duplicates(identities: list[pa.Table]) -> dict[str, Any]:
    """Return the groups of videos with the same content and times, and which of them are in train and elsewhere."""
    rows = pa.concat_tables(identities) if identities else None
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    if rows is not None:
        counts = rows["content"].value_counts()
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").drop_null()
        for row in rows.filter(pc.is_in(rows["content"], twice.cast(pa.string()))).to_pylist():
            groups[row["content"], row["start"], row["end"]].append(row)
    same = [group for group in groups.values() if len(group) > 1]
    crossing = {split: [_keys(group) for group in same if _crosses(group, split)] for split in SPLITS}
    return {
        "groups": len(same),
        "videos": sum(len(group) for group in same),
        "across": {split: len(found) for split, found in crossing.items() if found},
        "examples": [_keys(group) for group in same[:MOST]],
    }


def _crosses(group: list[dict[str, Any]], split: str) -> bool:
    """Return whether a group has videos in train and in another part of the split."""
    parts = {row[split] for row in group if row[split] is not None}
    return "train" in parts and len(parts) > 1


def _keys(group: list[dict[str, Any]]) -> list[str]:
    return sorted(row["key"] for row in group)


def _quantiles(seconds: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float] | None:
    if not len(seconds):
        return None
    found = np.quantile(seconds, [percent / 100 for percent in QUANTILES])
    return {f"{percent}%": round(float(value), 2) for percent, value in zip(QUANTILES, found, strict=True)}


def _rates(rates: Counter[float]) -> dict[str, int]:
    shown = {f"{rate:g}": count for rate, count in rates.most_common(MOST)}
    others = rates.total() - sum(shown.values())
    return shown | ({"other": others} if others else {})


def as_table(info: dict[str, Any]) -> Table:
    """Return the counts as lines of name and value."""
    lines = Table(box=None, show_header=False, pad_edge=False)
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column(overflow="fold")
    for name, value in as_pairs(info):
        lines.add_row(Text(name), Text(value))
    return lines


def as_pairs(info: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the counts as names and values in words."""
    sizes, same, frame = info["class_sizes"], info["duplicates"], info["bytes_per_frame"]
    lines = [
        ("set", info["set"]),
        ("videos", f"{info['videos']:,} in {counted(info['shards'], 'shard')}, {info['hours']:,.1f} hours"),
        ("frames", f"{info['frames']:,}" + (f", {byte_size(frame)} each" if frame is not None else "")),
        ("frame size", _counts(info["frame_sizes"], " at ")),
        ("fps", _counts(info["fps"], " at ")),
        ("size", byte_size(info["bytes"])),
        ("failed", f"{info['failures']:,}" + (f" ({_counts(info['causes'])})" if info["causes"] else "")),
        ("classes", f"{info['classes']:,}" + (_sizes(sizes) if sizes else "")),
        ("unlabelled", f"{info['unlabelled']:,}"),
    ]
    lines += [(split, _counts(counts)) for split, counts in info["splits"].items()]
    lines += [
        ("damaged", f"{counted(info['damaged_frames'], 'frame')} in {counted(info['damaged_videos'], 'video')}"),
        *((name.replace("_", " "), f"{info[name]:,}") for name in ("rotated", "variable_rate", "silent")),
        ("same content", f"{counted(same['groups'], 'group')}, {counted(same['videos'], 'video')}"),
    ]
    for split, count in same["across"].items():
        lines.append((f"  across {split}", f"{counted(count, 'group')}: videos of train are also in val or test"))
    if info["seconds"]:
        lines.append(("seconds", _spread(info["seconds"])))
    lines += [("source fps", _counts(info["source_fps"], " at ")), ("codecs", _counts(info["codecs"]))]
    return lines


def _sizes(sizes: dict[str, Any]) -> str:
    (least, few), (most, many) = sizes["least"], sizes["most"]
    ends = f"of {few:,} ({least}) to {counted(many, 'video')} ({most})"
    return f", {ends}, median {sizes['median']:g}; {sizes['without_videos']} without any"


def _spread(seconds: dict[str, float]) -> str:
    ends = f"{seconds['0%']:g} to {seconds['100%']:g}, median {seconds['50%']:g}"
    return f"{ends}, nine in ten from {seconds['5%']:g} to {seconds['95%']:g}"


def _counts(counts: dict[str, int], link: str = " ") -> str:
    return ", ".join(f"{count:,}{link}{name}" for name, count in counts.items()) or "unknown"
