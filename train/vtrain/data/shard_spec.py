"""SPEC, the words behind --shards: which shards of which sets.

data_shards/                     all shards of a set
'data_shards/*.tar'              a glob
'data_shards/<000..099>.tar'     a range; also {000..099}, which shells expand unless it is quoted
a,b                              a list of the above, with commas or as several words
"""

import fnmatch
import glob
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vprep.errors import UsageError
from vprep.format import DATASET, read_dataset

Spec = str | Path | Iterable[str | Path]

RANGE = re.compile(r"[<{](\d+)\.\.(\d+)[>}]")
COMMA = re.compile(r",(?![^{]*})")
REMOTE = re.compile(r"^[a-z0-9]+://")


@dataclass(frozen=True, slots=True)
class Part:
    """Some shards of one set, in the order of the set."""

    folder: Path
    info: dict[str, Any]  # dataset.json
    shards: list[dict[str, Any]]

    @property
    def settings(self) -> dict[str, Any]:
        """How the set was made; empty where that is not known."""
        return dict(self.info.get("settings", {}))

    def splits(self, fold: int) -> dict[str, int]:
        """The number of videos in each split."""
        return dict(self.info.get("splits", {}).get(f"split{fold}", {}))


def read_spec(spec: Spec) -> list[Part]:
    """Return the shards that `spec` names, by set; each is there and has the size it was written with."""
    sets: dict[Path, dict[str, Any]] = {}  # dataset.json, by folder
    names: dict[Path, set[str]] = {}
    for pattern in pieces(spec):
        for folder, name in _places(pattern):
            if folder not in sets:
                sets[folder] = read_dataset(folder)
            names.setdefault(folder, set()).update(_matching(folder, sets[folder], name))
    if not sets:
        raise UsageError("no shards are named; --shards takes a folder, a glob, or 'data_shards/<000..999>.tar'")
    return [_part(folder, info, names[folder]) for folder, info in sets.items()]


def pieces(spec: Spec) -> list[str]:
    """The words of a SPEC, with the commas taken apart."""
    words = [spec] if isinstance(spec, str | Path) else list(spec)
    patterns = [piece for word in words for piece in (COMMA.split(word) if isinstance(word, str) else [str(word)])]
    return list(filter(None, patterns))


def absolute(spec: Spec) -> str:
    """The same shards, named from everywhere."""
    return ",".join(piece if REMOTE.match(piece) else os.path.abspath(piece) for piece in pieces(spec))


def upscaling_note(side: int | None, size: int) -> str:
    """A sentence, where clips are larger than the frames that they are cut from; else nothing."""
    if side is None or size <= side:
        return ""
    return (
        f"clips of {size} pixels are enlarged from frames of {side}; larger frames are made with: "
        f"vprep shard VIDEOS --short-side {max(size, 256)} --out DIR"
    )


def _places(pattern: str) -> list[tuple[Path, str]]:
    """The sets a piece of a SPEC leads to, and the pattern for their shards' names."""
    if REMOTE.match(pattern):
        raise UsageError(f"'{pattern}' is remote; shards are read from folders: copy them here first")
    path = Path(pattern)
    if path.is_dir():
        return [(path, "*")]
    if path.suffix != ".tar":
        return [(path, "*")] if not glob.has_magic(pattern) else _folders(pattern, "*")
    return _folders(str(path.parent), path.name)


def _folders(pattern: str, name: str) -> list[tuple[Path, str]]:
    if not glob.has_magic(pattern):
        return [(Path(pattern), name)]
    found = sorted(path for path in map(Path, glob.glob(pattern)) if (path / DATASET).exists())
    if not found:
        raise UsageError(f"no folder with a set matches '{pattern}'; a set is made with: vprep shard VIDEOS --out DIR")
    return [(path, name) for path in found]


def _matching(folder: Path, info: dict[str, Any], pattern: str) -> list[str]:
    """The names that match among the shards of the set; other files in its folder do not count."""
    known = [shard["name"] for shard in info["shards"]]
    matches = [name for name in known if pattern == "*" or _fits(name, pattern)]
    if not matches:
        there = f"it has {len(known)}: {known[0]} to {known[-1]}" if known else "it has none"
        raise UsageError(f"no shard of the set in {folder} matches '{pattern}'; {there}")
    return matches


def _fits(name: str, pattern: str) -> bool:
    """Whether a name matches a glob with ranges in it; a range wants as many digits as its ends have."""
    ends = [sorted((first, last), key=int) for first, last in RANGE.findall(pattern)]
    literal = [fnmatch.translate(piece)[4:-3] for piece in RANGE.split(pattern)[::3]]  # without (?s: and )\Z
    numbers = [f"(\\d{{{len(first)},{max(len(first), len(last))}}})" for first, last in ends]
    expression = "".join(text + number for text, number in zip(literal, [*numbers, ""], strict=True))
    match = re.fullmatch(expression, name)
    return match is not None and all(
        int(first) <= int(number) <= int(last) for (first, last), number in zip(ends, match.groups(), strict=True)
    )


def _part(folder: Path, info: dict[str, Any], names: set[str]) -> Part:
    shards = [shard for shard in info["shards"] if shard["name"] in names]
    for file in [*info["files"], *shards]:
        wrong = wrong_size(folder / file["name"], file["bytes"])
        if wrong:
            raise UsageError(wrong)
    return Part(folder, info, shards)


def wrong_size(path: Path, size: int) -> str | None:
    """What is wrong with a file of a set that is gone, or not as large as it was written, and what to do."""
    try:
        there = path.stat().st_size
    except FileNotFoundError:
        again = "run the vprep shard that made the set again: only this shard is made anew"
        return f"{path} is gone; " + (again if path.suffix == ".tar" else f"make it anew: vprep index {path.parent}")
    if there == size:
        return None
    state = "cut off" if there < size else "not the file that the set was finished with"
    return (
        f"{path} is {state}: it has {there} bytes, {DATASET} tells of {size}; "
        f"vprep verify {path.parent} says what is damaged"
    )
