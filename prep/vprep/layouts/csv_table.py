"""The user's csv: `path,label[,split][,start,end]`, or split1, split2, split3 instead of split.

Paths are below the root. start and end are seconds into the file; one file may be in several rows with different
times. Labels that are all integers are the label ids themselves.
"""

import math
import os
import re
from pathlib import Path
from typing import NamedTuple

from vprep.errors import UsageError
from vprep.layouts.listing import Listing, Splits
from vprep.layouts.lists import bad_line, columns, split_word, table
from vprep.layouts.source import Source

_NUMBER = re.compile(r"-?[0-9]+")
_MOST_LABELS = 1_000_000  # the class list is as long as the highest label


class _Row(NamedTuple):
    line: int
    source: str
    label: str
    splits: Splits
    start: float | None
    end: float | None


def fits(source: Source) -> bool:
    """Return whether there is such a csv."""
    path = source.labels or source.root / "labels.csv"
    return "path" in columns(path)


def read(source: Source) -> Listing:
    """Return only the videos that the csv names."""
    path = source.labels or source.root / "labels.csv"
    if not path.is_file():
        raise UsageError(f"no '{path}', and layout csv needs a csv; name it with --labels")
    rows = _rows(source, path)
    present = [row for row in rows if row.source in source.files.videos]
    if not present:
        first = f", the first being '{rows[0].source}'" if rows else ""
        raise UsageError(f"{path} names no video below '{source.root}'{first}; paths must be relative to it")
    classes, names = _classes(path, rows)
    listing = Listing(classes, ignored=source.files.ignored)
    for row in sorted(present, key=lambda row: (row.source, row.start or 0.0, row.end or 0.0)):
        size = source.files.videos[row.source]
        listing.add(row.source, size, names.get(row.label), row.splits, start=row.start, end=row.end)
    listed = {row.source for row in rows}
    listing.missing = sorted(listed - source.files.videos.keys())
    listing.unlisted = [name for name in source.files.videos if name not in listed]
    return listing


def _rows(source: Source, path: Path) -> list[_Row]:
    bases = [os.path.abspath(source.root), os.path.realpath(source.root)]
    rows: list[_Row] = []
    lines: dict[tuple[str, float | None, float | None], int] = {}
    for number, fields in table(path, ("path", "label")):
        name = _below(bases, fields["path"])
        if name is None:
            what = f"path '{fields['path']}' is not below '{source.root}'; paths must be relative to that folder"
            raise bad_line(path, number, what)
        start, end = _times(path, number, fields)
        if (before := lines.setdefault((name, start, end), number)) != number:
            raise bad_line(path, number, f"'{name}' is in line {before}, too, with the same times; keep one")
        rows.append(_Row(number, name, fields["label"].strip(), _splits(path, number, fields), start, end))
    return rows


def _below(bases: list[str], text: str) -> str | None:
    """Return the path below the root; None for a path elsewhere."""
    full = os.path.normpath(os.path.join(bases[0], text))
    for base in bases:
        if full.startswith(base.rstrip("/") + "/"):
            return full[len(base.rstrip("/")) + 1 :]
    return None


def _times(path: Path, number: int, fields: dict[str, str]) -> tuple[float | None, float | None]:
    texts = [fields.get("start", "").strip(), fields.get("end", "").strip()]
    if not any(texts):
        return None, None
    wanted = f"start '{texts[0]}' and end '{texts[1]}'; both must be seconds, with end > start >= 0"
    try:
        start, end = map(float, texts)
    except ValueError:
        raise bad_line(path, number, wanted) from None
    if not (end > start >= 0 and math.isfinite(end)):
        raise bad_line(path, number, wanted)
    return start, end


def _splits(path: Path, number: int, fields: dict[str, str]) -> Splits:
    if "split" in fields:
        if any(f"split{fold}" in fields for fold in (1, 2, 3)):
            raise bad_line(path, number, "both split and split1 to split3 in the header; keep one kind")
        return split_word(path, number, fields["split"]), None, None
    first, second, third = (split_word(path, number, fields.get(f"split{fold}", "")) for fold in (1, 2, 3))
    return first, second, third


def _classes(path: Path, rows: list[_Row]) -> tuple[list[str], dict[str, str]]:
    """Return the class list, and the class of each label by its text in the csv."""
    used = {row.label: row.line for row in reversed(rows) if row.label}
    if not all(_NUMBER.fullmatch(label) for label in used):
        return sorted(used), {label: label for label in used}
    for label, line in used.items():
        if not 0 <= int(label) < _MOST_LABELS:
            raise bad_line(path, line, f"label {label}; label ids must be from 0 to {_MOST_LABELS - 1}")
    written = {int(label): label for label in used}
    classes = [written.get(number, str(number)) for number in range(max(written, default=-1) + 1)]
    return classes, {label: classes[int(label)] for label in used}
