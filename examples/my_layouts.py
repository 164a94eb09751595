"""A layout of your own: a folder of videos with one file `videos.jsonl` that describes each video.

    {"file": "clips/0001.mp4", "class": "jump", "split": "train"}
    {"file": "clips/0002.mp4", "class": "fall", "split": "test"}

In the folder of this file, or with that folder on PYTHONPATH:

    vprep shard VIDEOS --layout my_layouts:read_jsonl --out DIR

A layout is a function from a `Source` (the folder's files, --splits and --labels) to a `Listing`. A package that is
installed can give it a plain name, `--layout jsonl`, by two lines in its pyproject.toml:

    [project.entry-points."playspeed.layouts"]
    jsonl = "my_layouts:read_jsonl"
"""

import json
from collections.abc import Iterator
from pathlib import Path

from vprep.errors import UsageError
from vprep.layouts import Listing, Source

SPLITS = ("train", "val", "test", None)


def read_jsonl(source: Source) -> Listing:
    """Return the videos of the folder with their classes and splits in videos.jsonl, or in the file of --labels."""
    if source.splits is not None:
        raise UsageError("splits stand in videos.jsonl; leave --splits out")
    path = source.labels or source.root / "videos.jsonl"
    rows = {row["file"]: row for row in rows_of(path)}
    listing = Listing(classes=sorted({row["class"] for row in rows.values()}), ignored=source.files.ignored)
    for name, size in source.files.videos.items():
        if name in rows:
            listing.add(name, size, rows[name]["class"], (rows[name].get("split"), None, None))
        else:
            listing.add(name, size)
            listing.unlisted.append(name)
    listing.missing = sorted(rows.keys() - source.files.videos.keys())
    return listing


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    """Yield the objects of a JSON-lines file. Each has `file` and `class`, and may have `split`."""
    if not path.is_file():
        raise UsageError(f"no '{path}'; this layout needs one line of JSON for each video in it")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            complete = isinstance(row["file"], str) and isinstance(row["class"], str)
        except (ValueError, KeyError, TypeError):
            complete = False
        if not complete or row.get("split") not in SPLITS:
            wanted = '{"file": "a.mp4", "class": "jump", "split": "train"}'
            raise UsageError(f"{path}, line {number}: '{line}' where a line like '{wanted}' is needed")
        yield row
