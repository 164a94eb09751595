"""The user's csv: `path,label[,split][,start,end]`, or split1, split2, split3 instead of split.

Paths are below the root. start and end are seconds into the file; one file may be in several rows with different
times. Labels that are all integers are the label ids themselves.
"""

import math
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vprep.errors import UsageError
from vprep.layouts.alike import same_text
from vprep.layouts.listing import Listing, Splits
from vprep.layouts.lists import bad_line, columns, split_word, table
from vprep.layouts.source import Source

_NUMBER = re.compile(r"-?[0-9]+")
_MOST_LABELS = 1_000_000  # the class list is as long as the highest label
_MOST_DIGITS = 20
_MOST_SECONDS = 1e7


class _Row(NamedTuple):
    source: str
    label: str
    splits: Splits
    start: float | None
    end: float | None


@dataclass(slots=True)
class _Rows:
    present: list[_Row] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    labels: dict[str, int] = field(default_factory=dict)
    """The line in which each label is first."""


def fits(source: Source) -> bool:
    """Return whether there is such a csv."""
    path = source.labels or source.root / "labels.csv"
    return "path" in columns(path)


def read(source: Source) -> Listing:
    """Return only the videos that the csv names."""
    path = source.labels or source.root / "labels.csv"
    if not path.is_file():
        raise UsageError(f"no '{path}', and layout csv needs a csv; name it with --labels")
    rows = _Rows()
    _read_rows(source, path, rows)
    if not rows.present:
        first = f", the first being '{next(iter(rows.missing))}'" if rows.missing else ""
        raise UsageError(f"{path} names no video below '{source.root}'{first}; paths must be relative to it")
    classes, names = _classes(path, rows.labels)
    listing = Listing(classes, ignored=source.files.ignored)
    for row in sorted(rows.present, key=lambda row: (row.source, row.start or 0.0, row.end or 0.0)):
        size = source.files.videos[row.source]
        listing.add(row.source, size, names.get(row.label), row.splits, start=row.start, end=row.end)
    listed = {row.source for row in rows.present}
    listing.missing = sorted(rows.missing)
    listing.unlisted = [name for name in source.files.videos if name not in listed]
    return listing


def _read_rows(source: Source, path: Path, rows: _Rows) -> None:
    """Add the rows of the csv to `rows`; of a video that is not there, only its name and its label are kept."""
    bases = [os.path.abspath(source.root), os.path.realpath(source.root)]
    by_text = {same_text(name): name for name in source.files.videos if not name.isascii()}
    lines: dict[tuple[str, float | None, float | None], int] = {}
    for number, fields in table(path, ("path", "label")):
        name = _below(bases, fields["path"])
        if name is None:
            what = f"path '{fields['path']}' is not below '{source.root}'; paths must be relative to that folder"
            raise bad_line(path, number, what)
        (start, end), splits = _times(path, number, fields), _splits(path, number, fields)
        label = sys.intern(fields["label"].strip())
        if label:
            rows.labels.setdefault(label, number)
        if name not in source.files.videos:
            name = by_text.get(same_text(name), name)  # macOS writes names in another Unicode form
        if name not in source.files.videos:
            rows.missing.add(name)
            continue
        if (before := lines.setdefault((name, start, end), number)) != number:
            raise bad_line(path, number, f"'{name}' is in line {before}, too, with the same times; keep one")
        rows.present.append(_Row(name, label, splits, start, end))


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
    if end > _MOST_SECONDS:
        raise bad_line(path, number, f"end '{texts[1]}'; no video is longer than {_MOST_SECONDS:.0f} seconds")
    return start, end


def _splits(path: Path, number: int, fields: dict[str, str]) -> Splits:
    if "split" in fields:
        if any(f"split{fold}" in fields for fold in (1, 2, 3)):
            raise bad_line(path, number, "both split and split1 to split3 in the header; keep one kind")
        return split_word(path, number, fields["split"]), None, None
    first, second, third = (split_word(path, number, fields.get(f"split{fold}", "")) for fold in (1, 2, 3))
    return first, second, third


def _classes(path: Path, used: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    """Return the class list, and the class of each label by its text in the csv."""
    if not all(_NUMBER.fullmatch(label) for label in used):
        return sorted(used), {label: label for label in used}
    for label, line in used.items():
        if len(label) > _MOST_DIGITS or not 0 <= int(label) < _MOST_LABELS:
            raise bad_line(path, line, f"label {label[:_MOST_DIGITS]}; label ids must be from 0 to {_MOST_LABELS - 1}")
    written = {int(label): label for label in used}
    classes = [written.get(number, str(number)) for number in range(max(written, default=-1) + 1)]
    return classes, {label: classes[int(label)] for label in used}
