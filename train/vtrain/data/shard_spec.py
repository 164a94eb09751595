"""SPEC, the value of --shards: which shards of which sets.

data_shards/                     all shards of a set
s3://bucket/set                  the same in an object store; also gs://, az://, https://
'data_shards/*.tar'              a glob
'data_shards/<000..099>.tar'     a range; also {000..099}, which shells expand unless it is quoted
a,b                              several of the above, joined by commas or as several words
a,b,+duplicates                  the same, where videos of a and b may have the same content
"""

import fnmatch
import glob
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vprep.errors import UsageError
from vprep.format import DATASET, PLAN, read_dataset
from vprep.store.location import Location, is_url

if TYPE_CHECKING:
    from vtrain.data.cache.place import CachePlace
    from vtrain.data.cache.remote_set import RemoteSet

Spec = str | Path | Iterable[str | Path]

RANGE = re.compile(r"[<{](\d+)\.\.(\d+)[>}]")
COMMA = re.compile(r",(?![^{]*})")
DUPLICATES = "+duplicates"  # the word of a SPEC that allows the same content in several sets


@dataclass(frozen=True, slots=True)
class Part:
    """The shards of one set that were named."""

    folder: Path  # of a set in a store: of the local copies of its dataset.json and index
    info: dict[str, Any]  # the contents of dataset.json
    shards: list[dict[str, Any]]  # their entries in dataset.json, in its order
    remote: "RemoteSet | None" = None  # None: the set is on this machine

    @property
    def place(self) -> str:
        """The folder or the URL of the set, for messages."""
        return str(self.folder) if self.remote is None else self.remote.url

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of `vprep shard` that made the set; empty for shards of other tools."""
        return dict(self.info.get("settings", {}))

    @property
    def smallest_side(self) -> int | None:
        """The shortest side of a frame in pixels; None when the set does not record how its frames were made."""
        settings = self.settings
        return settings.get("short_side") or min(settings.get("height") or 0, settings.get("width") or 0) or None

    @property
    def keeps_aspect(self) -> bool:
        """Whether frames have the aspect ratio at which their source is shown."""
        return bool(self.settings.get("short_side"))

    @property
    def keeps_rate(self) -> bool:
        """Whether each video has the frame rate of its source."""
        return self.settings.get("fps") == "native"

    def splits(self, fold: int) -> dict[str, int]:
        """Return the number of videos in each split of a fold."""
        return dict(self.info.get("splits", {}).get(f"split{fold}", {}))


def read_spec(spec: Spec, place: "CachePlace | None" = None) -> list[Part]:
    """Return the shards that `spec` names, by set; raise if one is missing or has another size than when written."""
    sets: dict[Path, dict[str, Any]] = {}  # folder -> dataset.json
    remotes: dict[Path, RemoteSet] = {}
    names_of: dict[Path, Path] = {}  # folder without links -> folder as it was named first
    names: dict[Path, set[str]] = {}  # folder -> names of the shards
    for pattern in pieces(spec):
        for named, name in [] if pattern == DUPLICATES else _resolved(pattern, place):
            local = named if isinstance(named, Path) else named.folder
            folder = names_of.setdefault(local.resolve(), local)
            if not isinstance(named, Path):
                remotes.setdefault(folder, named)
            if folder not in sets:
                sets[folder] = read_dataset(folder)
            where = str(named) if isinstance(named, Path) else named.url
            names.setdefault(folder, set()).update(_matching(where, sets[folder], name))
    if not sets:
        raise UsageError("no shards are named; --shards takes a folder, a glob, or 'data_shards/<000..999>.tar'")
    return [_part(folder, info, names[folder], remotes.get(folder)) for folder, info in sets.items()]


def pieces(spec: Spec) -> list[str]:
    """Return the patterns of a SPEC: its words, split at commas."""
    words = [spec] if isinstance(spec, str | Path) else list(spec)
    patterns = [pattern for word in words for pattern in (COMMA.split(word) if isinstance(word, str) else [str(word)])]
    return list(filter(None, patterns))


def is_in_store(spec: Spec) -> bool:
    """Return whether any of the shards that a SPEC names is in a store."""
    return any(map(is_url, pieces(spec)))


def absolute(spec: Spec) -> str:
    """Return `spec` with absolute paths, so that it names the same shards from any folder."""
    return ",".join(
        pattern if pattern == DUPLICATES or is_url(pattern) else os.path.abspath(pattern) for pattern in pieces(spec)
    )


def upscaling_note(side: int | None, size: int) -> str:
    """Return a sentence if clips of `size` pixels are larger than the frames that they are cut from, else ""."""
    if side is None or size <= side:
        return ""
    return (
        f"clips of {size} pixels are enlarged from frames of {side}; make larger frames with: "
        f"vprep shard VIDEOS --short-side {max(size, 256)} --out DIR"
    )


def _resolved(pattern: str, place: "CachePlace | None") -> list[tuple["Path | RemoteSet", str]]:
    """Return the sets that a pattern of a SPEC names, each with the pattern for the names of its shards."""
    if is_url(pattern):
        return [_in_store(pattern, place)]
    path = Path(pattern)
    if path.is_dir():
        return [(path, "*")]
    if path.suffix != ".tar":
        return [(path, "*")] if not glob.has_magic(pattern) else _folders(pattern, "*")
    return _folders(str(path.parent), path.name)


def _in_store(pattern: str, place: "CachePlace | None") -> tuple["RemoteSet", str]:
    """Open the set of a URL; return it with the pattern for the names of its shards."""
    from vtrain.data.cache.place import chosen
    from vtrain.data.cache.remote_set import open_remote

    location = Location.parse(pattern)
    named = location.path.endswith(".tar")
    folder = location.parent if named else location
    if glob.has_magic(folder.path):
        raise UsageError(f"{folder} has wildcards in the name of a folder; name each set of a store, joined by commas")
    return open_remote(folder, place or chosen()), location.name if named else "*"


def _folders(pattern: str, name: str) -> list[tuple["Path | RemoteSet", str]]:
    """Return the folders that match a glob and hold a set; a folder without wildcards is taken as it is."""
    if not glob.has_magic(pattern):
        return [(Path(pattern), name)]
    found = sorted(path for path in map(Path, glob.glob(pattern)) if (path / DATASET).exists())
    if not found:
        raise UsageError(f"no folder with a set matches '{pattern}'; make a set with: vprep shard VIDEOS --out DIR")
    return [(path, name) for path in found]


def _matching(where: str, info: dict[str, Any], pattern: str) -> list[str]:
    """Return the shards of a set whose names match; other files in its folder do not count."""
    known = [shard["name"] for shard in info["shards"]]
    matches = [name for name in known if pattern == "*" or _fits(name, pattern)]
    if not matches:
        shards = f"it has {len(known)}: {known[0]} to {known[-1]}" if known else "it has none"
        raise UsageError(f"no shard of the set in {where} matches '{pattern}'; {shards}")
    return matches


def _fits(name: str, pattern: str) -> bool:
    """Return whether a name matches a glob with ranges in it; a number has as many digits as the ends of its range."""
    ends = [sorted((first, last), key=int) for first, last in RANGE.findall(pattern)]
    literal = [fnmatch.translate(piece)[4:-3] for piece in RANGE.split(pattern)[::3]]  # without (?s: and )\Z
    numbers = [f"(\\d{{{len(first)},{max(len(first), len(last))}}})" for first, last in ends]
    expression = "".join(text + number for text, number in zip(literal, [*numbers, ""], strict=True))
    match = re.fullmatch(expression, name)
    return match is not None and all(
        int(first) <= int(number) <= int(last) for (first, last), number in zip(ends, match.groups(), strict=True)
    )


def _part(folder: Path, info: dict[str, Any], names: set[str], remote: "RemoteSet | None") -> Part:
    """Return the named shards of a set; raise if one of them, or the index, is not as it was written."""
    shards = [shard for shard in info["shards"] if shard["name"] in names]
    if remote is not None:
        remote.refuse_missing(shards)
        return Part(folder, info, shards, remote)
    for file in [*info["files"], *shards]:
        fault = size_fault(folder / file["name"], file["bytes"])
        if fault:
            raise UsageError(fault)
    return Part(folder, info, shards)


def size_fault(path: Path, size: int) -> str | None:
    """Return a sentence with advice if a file of a set is missing or does not have `size` bytes; else None."""
    if not path.exists():
        return f"{path} is missing; {_again(path)}"
    if not path.is_file():
        return f"{path} is no regular file; {_again(path)}"
    found = path.stat().st_size
    if found == size:
        return None
    state = "is cut off" if found < size else "is not the file that the set was finished with"
    return (
        f"{path} {state}: it has {found} bytes, and {size} in {DATASET}; "
        f"find what is damaged with: vprep verify {path.parent}"
    )


def _again(path: Path) -> str:
    """Return how a file of a set is made again; only a set with a plan has shards that vprep shard can make."""
    if path.suffix != ".tar":
        return f"make it again: vprep index {path.parent}"
    if (path.parent / PLAN).exists():
        return "run the same vprep shard command again: only this shard is made again"
    return "get it again from where it came"
