"""Counts what is in a set, from its index alone, without holding more than a few columns of it."""

from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.table import Table
from rich.text import Text

from vprep.format import FAILURES, read_dataset
from vprep.index_rows import batches
from vprep.summary import size

SPLITS = ("split1", "split2", "split3")
_TAKE = ("source_hash", "start", "end", "key", *SPLITS)  # what tells duplicates apart
_COUNT = ("label", "class_name", "frames", "fps", "size", "damaged", "rotation", "variable_rate", "audio")
COLUMNS = (*_TAKE, *_COUNT, "source_fps", "codec")
QUANTILES = (0, 5, 25, 50, 75, 95, 100)  # percent
MOST = 20  # source rates that are told apart; the others are one line


class Tally:
    """What is counted while the rows pass by."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.values: dict[str, Counter[Any]] = defaultdict(Counter)
        self.seconds: list[np.ndarray[Any, np.dtype[np.float64]]] = []
        self.marks: list[pa.RecordBatch] = []

    def add(self, rows: pa.RecordBatch) -> None:
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
        self._values("source_fps", pc.round(rows["source_fps"], 2))
        self.seconds.append(pc.divide(rows["frames"], rows["fps"]).to_numpy(zero_copy_only=False))
        self.marks.append(rows.select(list(_TAKE)))

    def _values(self, column: str, values: pa.Array) -> None:
        for found in values.value_counts().to_pylist():
            if found["values"] is not None:
                self.values[column][found["values"]] += found["counts"]


def stats(folder: Path) -> dict[str, Any]:
    """The facts of a set, for people and for JSON."""
    facts = read_dataset(folder)
    tally = Tally()
    for rows in batches(folder, COLUMNS):
        tally.add(rows)
    sums, seconds = tally.sums, np.concatenate([np.zeros(0), *tally.seconds])
    return {
        "set": str(folder),
        "videos": sums["videos"],
        "failures": facts["failures"],
        "causes": _causes(folder),
        "hours": round(float(seconds.sum()) / 3600, 4),
        "frames": sums["frames"],
        "bytes": facts["bytes"],
        "bytes_per_frame": round(sums["size"] / sums["frames"], 1) if sums["frames"] else None,
        "shards": len(facts["shards"]),
        "classes": len(facts["classes"]),
        "class_sizes": _class_sizes(tally.values["class_name"], facts["classes"]),
        "unlabelled": sums["unlabelled"],
        "splits": {split: dict(sorted(tally.values[split].items())) for split in SPLITS if tally.values[split]},
        "damaged_videos": sums["damaged_videos"],
        "damaged_frames": sums["damaged"],
        "rotated": sums["rotated"],
        "variable_rate": sums["variable_rate"],
        "silent": sums["silent"],
        "duplicates": _duplicates(tally.marks),
        "seconds": _quantiles(seconds),
        "source_fps": _rates(tally.values["source_fps"]),
        "codecs": dict(tally.values["codec"].most_common()),
    }


def _true(values: pa.Array) -> int:
    return pc.sum(values).as_py() or 0


def _causes(folder: Path) -> dict[str, int]:
    path = folder / FAILURES
    if not path.exists():
        return {}
    return dict(Counter(pq.read_table(path, columns=["cause"])["cause"].to_pylist()).most_common())


def _class_sizes(sizes: Counter[str], classes: list[str]) -> dict[str, Any] | None:
    if not sizes:
        return None
    ranked = sorted(sizes.items(), key=lambda pair: (pair[1], pair[0]))
    return {
        "least": list(ranked[0]),
        "median": median(sizes.values()),
        "most": list(ranked[-1]),
        "without_videos": len(set(classes) - set(sizes)),
    }


def _duplicates(marks: list[pa.RecordBatch]) -> dict[str, Any]:
    """Groups of videos cut from the same place of files with the same content, and those that lie on both sides."""
    rows = pa.Table.from_batches(marks) if marks else None
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    if rows is not None:
        counts = rows["source_hash"].value_counts()
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").drop_null()
        for row in rows.filter(pc.is_in(rows["source_hash"], twice.cast(pa.string()))).to_pylist():
            groups[row["source_hash"], row["start"], row["end"]].append(row)
    same = [group for group in groups.values() if len(group) > 1]
    crossing = {split: [_keys(group) for group in same if _crosses(group, split)] for split in SPLITS}
    return {
        "groups": len(same),
        "videos": sum(len(group) for group in same),
        "across": {split: len(found) for split, found in crossing.items() if found},
        "examples": [_keys(group) for group in same[:MOST]],
    }


def _crosses(group: list[dict[str, Any]], split: str) -> bool:
    """Whether what is trained on is tested on, too."""
    sides = {row[split] for row in group if row[split] is not None}
    return "train" in sides and len(sides) > 1


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


def table(facts: dict[str, Any]) -> Table:
    """The facts as lines of name and value."""
    lines = Table(box=None, show_header=False, pad_edge=False)
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column(overflow="fold")
    for name, value in _lines(facts):
        lines.add_row(Text(name), Text(value))
    return lines


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    sizes, same, frame = facts["class_sizes"], facts["duplicates"], facts["bytes_per_frame"]
    lines = [
        ("set", facts["set"]),
        ("videos", f"{facts['videos']:,} in {facts['shards']:,} shards, {facts['hours']:,.1f} hours"),
        ("frames", f"{facts['frames']:,}" + (f", {size(frame)} each" if frame is not None else "")),
        ("size", size(facts["bytes"])),
        ("failed", f"{facts['failures']:,}" + (f" ({_counts(facts['causes'])})" if facts["causes"] else "")),
        ("classes", f"{facts['classes']:,}" + (_sizes(sizes) if sizes else "")),
        ("unlabelled", f"{facts['unlabelled']:,}"),
    ]
    lines += [(split, _counts(counts)) for split, counts in facts["splits"].items()]
    lines += [
        ("damaged", f"{facts['damaged_frames']:,} frames in {facts['damaged_videos']:,} videos"),
        *((name.replace("_", " "), f"{facts[name]:,}") for name in ("rotated", "variable_rate", "silent")),
        ("same content", f"{same['groups']:,} groups, {same['videos']:,} videos"),
    ]
    for split, count in same["across"].items():
        lines.append((f"  across {split}", f"{count:,} groups: train holds what is tested"))
    if facts["seconds"]:
        lines.append(("seconds", _spread(facts["seconds"])))
    lines += [("source fps", _counts(facts["source_fps"], " at ")), ("codecs", _counts(facts["codecs"]))]
    return lines


def _sizes(sizes: dict[str, Any]) -> str:
    (least, few), (most, many) = sizes["least"], sizes["most"]
    ends = f"of {few:,} ({least}) to {many:,} videos ({most})"
    return f", {ends}, median {sizes['median']:g}; {sizes['without_videos']} without any"


def _spread(seconds: dict[str, float]) -> str:
    ends = f"{seconds['0%']:g} to {seconds['100%']:g}, median {seconds['50%']:g}"
    return f"{ends}, nine in ten from {seconds['5%']:g} to {seconds['95%']:g}"


def _counts(counts: dict[str, int], link: str = " ") -> str:
    return ", ".join(f"{count:,}{link}{name}" for name, count in counts.items()) or "unknown"
