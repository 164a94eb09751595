"""Kinetics-400, 600 and 700 with the official csv files.

The csv has youtube_id, label, time_start, time_end, split; the test csv may lack the label. The files are cut already,
so the times only distinguish clips of one video; they trim nothing.

<root>/[train|val|test/][class name, or class_name/]<id>.mp4 or <id>_<start>_<end>.mp4
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vprep.layouts.classes import (
    class_from_folders,
    class_of_folder,
    read_classes,
    spellings,
    unknown_class,
)
from vprep.layouts.folders import by_folder, split_and_class_of
from vprep.layouts.listing import Listing
from vprep.layouts.lists import bad_line, candidates, columns, none_found, split_word, table
from vprep.layouts.source import Source, stem

ID_LENGTH = 11  # characters of a YouTube id; it may begin with - and hold _
_TIMED = re.compile(rf".{{{ID_LENGTH}}}_(\d{{6}})_\d{{6}}")


class _Row(NamedTuple):
    path: Path
    line: int
    start: int | None
    end: int | None
    label: str | None
    split: str | None


_Rows = dict[str, list[_Row]]


def fits(source: Source) -> bool:
    """Return whether there is a csv of Kinetics."""
    return bool(_csvs(source))


def read(source: Source) -> Listing:
    """Return every video with the label and split in its csv, or with the class of its folder when there is no csv."""
    lists = _csvs(source)
    labels = None if source.labels in lists else source.labels
    if not lists:
        return _without_csv(source)
    rows: _Rows = {}
    for path in lists:
        _add(rows, path)
    classes = _classes(rows, labels)
    return _listing(source, rows, classes)


def _csvs(source: Source) -> list[Path]:
    """Return the csv files that have Kinetics' column youtube_id."""
    if source.splits is None and source.labels is not None and "youtube_id" in columns(source.labels):
        return [source.labels]
    return [path for paths in candidates(source) for path in paths if "youtube_id" in columns(path)]


def youtube_id(source: str) -> str:
    """Return the YouTube id that a file's name begins with."""
    return stem(source)[:ID_LENGTH]


def _without_csv(source: Source) -> Listing:
    split_and_class = split_and_class_of(source.files.videos)
    folders = {folder for _, folder in map(split_and_class, source.files.videos) if folder is not None}
    if source.splits is not None or not folders:
        raise none_found(source, "kinetics", "csv with the column youtube_id")
    names = {folder: folder.replace("_", " ") for folder in folders}
    if source.labels is not None:
        known = spellings(read_classes(source.labels))
        names = {folder: class_of_folder(folder, known) or folder for folder in folders}
    return by_folder(source, names)


def _add(rows: _Rows, path: Path) -> None:
    """Read one csv."""
    for number, row in table(path, ("youtube_id",)):
        label = row.get("label", "").strip()
        found = _Row(
            path,
            number,
            _seconds(path, number, row.get("time_start", "")),
            _seconds(path, number, row.get("time_end", "")),
            sys.intern(label) if label else None,
            split_word(path, number, row.get("split", "")),
        )
        rows.setdefault(row["youtube_id"], []).append(found)


def _seconds(path: Path, number: int, text: str) -> int | None:
    try:
        return int(float(text)) if text.strip() else None
    except (ValueError, OverflowError):
        raise bad_line(path, number, f"time '{text}' is not a number of seconds") from None


def _classes(rows: _Rows, labels: Path | None) -> list[str]:
    used = {row.label: row for same in rows.values() for row in same if row.label is not None}
    if labels is None:
        return sorted(used)
    classes = read_classes(labels)
    known = set(classes)
    for name, row in used.items():
        if name not in known:
            raise unknown_class(f"{row.path}, line {row.line}: label", name, classes, labels)
    return classes


def _listing(source: Source, rows: _Rows, classes: list[str]) -> Listing:
    listing = Listing(classes, ignored=source.files.ignored)
    folders = spellings(classes)
    split_and_class = split_and_class_of(source.files.videos)
    here: set[tuple[str, int | None]] = set()
    for name, size in source.files.videos.items():
        here.add(_identity(name))
        class_name, split = class_from_folders(name, folders), split_and_class(name)[0]
        row = _row_of(name, rows, class_name, split)
        if row is None:
            listing.unlisted.append(name)
        else:
            class_name, split = row.label or class_name, row.split
        listing.add(name, size, class_name, (split, None, None))
    listing.missing = _missing(rows, here)
    return listing


def _identity(source: str) -> tuple[str, int | None]:
    """Return the YouTube id of a file, and the second at which it was cut out when its name says so."""
    timed = _TIMED.fullmatch(stem(source))
    return youtube_id(source), int(timed[1]) if timed else None


def _row_of(source: str, rows: _Rows, folder: str | None, split: str | None) -> _Row | None:
    """Return the row of a file; its folders decide between several."""
    video, start = _identity(source)
    found = [row for row in rows.get(video, ()) if start is None or row.start in (None, start)]
    if len(found) > 1:
        found = [row for row in found if row.label == folder] or found
        found = [row for row in found if row.split == split] or found
    for row in found[1:]:
        if (row.label, row.split) != (found[0].label, found[0].split):
            first = f"line {found[0].line} of {found[0].path}"
            what = f"another label or split for '{source}' than {first}"
            raise bad_line(row.path, row.line, f"{what}; keep one, or name the file <id>_<start>_<end>")
    return found[0] if found else None


def _missing(rows: Mapping[str, list[_Row]], here: set[tuple[str, int | None]]) -> list[str]:
    """Return the rows without a file, by the names that their files would have."""
    with_file = {video for video, _ in here}
    names = set()
    for video, same in rows.items():
        for row in same:
            if row.start is None:
                if video not in with_file:
                    names.add(video)
            elif (video, None) not in here and (video, row.start) not in here:
                names.add(f"{video}_{row.start:06d}_{row.end or 0:06d}")
    return sorted(names)
