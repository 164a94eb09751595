"""Find the files below a folder: the videos with their sizes, and the lists near the top."""

import os
import re
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from vprep.errors import UsageError, reason

VIDEO_SUFFIXES = (
    *("mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "m2v", "ts", "mts", "m2ts", "wmv", "asf"),
    *("flv", "f4v", "3gp", "3g2", "ogv", "gif", "vob", "divx", "mxf", "rm", "rmvb", "dv", "y4m"),
)
LIST_SUFFIXES = ("csv", "txt", "json")
MOST_REACHED = 100  # times that links may lead to the same folder
LISTS_PER_FOLDER = 2000  # a folder in the root with more entries holds data: no lists are searched for in it

_IS_VIDEO = frozenset(f".{suffix}" for suffix in VIDEO_SUFFIXES)
_IS_LIST = frozenset(f".{suffix}" for suffix in LIST_SUFFIXES)


@dataclass(slots=True, kw_only=True)
class Files:
    """The files below a folder."""

    videos: dict[str, int] = field(default_factory=dict)
    """The size of each video by its path below the folder, sorted; -1 when the file cannot be reached."""

    lists: list[Path] = field(default_factory=list)
    """Files in the root and in its folders that may be lists by their names, folder by folder."""

    ignored: int = 0
    """Number of other files."""


@dataclass(frozen=True, slots=True)
class _Folder:
    below: str  # its path below the root, with a slash at the end; empty for the root
    real: str  # its path without links
    above: tuple[str, ...]  # the real paths of the folders that it was reached through


def walk(root: Path) -> Files:
    """Return the files below `root`, also behind links. Names that begin with a dot are skipped."""
    if not os.path.isdir(root):
        what = "is a file" if os.path.lexists(root) else "does not exist"
        raise UsageError(f"'{root}' {what}; name the folder that holds the videos")
    files = Files()
    folders = [_Folder("", os.path.realpath(root), ())]
    reached: Counter[str] = Counter()
    while folders:
        folder = folders.pop()
        _count_reached(root, folder, reached)
        folders += _read(root, folder, files)
    if not files.videos:
        raise UsageError(no_videos(root, files.ignored))
    files.videos = dict(sorted(files.videos.items()))
    files.lists.sort(key=lambda path: (path.parent != root, path))
    return files


def _count_reached(root: Path, folder: _Folder, reached: Counter[str]) -> None:
    """Refuse folders with so many links to each other that the ways through them never end."""
    reached[folder.real] += 1
    if reached[folder.real] > MOST_REACHED:
        raise UsageError(
            f"links below '{root}' lead to '{folder.real}' in more than {MOST_REACHED} ways, as to "
            f"'{folder.below[:200]}'; remove the links that lead from folder to folder"
        )


def path_of(root: Path, source: str) -> Path:
    """Return the file of `source`, whose name may hold bytes that are not UTF-8 and were written as `\\xff`."""
    path = root / source
    if "\\x" not in source or os.path.lexists(path):
        return path
    name = re.sub(rb"\\x([89a-f][0-9a-f])", lambda byte: bytes.fromhex(byte[1].decode()), source.encode())
    return root / os.fsdecode(name)


def _read(root: Path, folder: _Folder, files: Files) -> list[_Folder]:
    """Add the files of one folder to `files` and return the folders in it."""
    inner, lists, count = [], [], 0
    try:
        with os.scandir(root / folder.below) as items:
            for item in items:
                if item.name.startswith("."):
                    continue
                count += 1
                if _is_folder(item):
                    inner.append(_inside(folder, item))
                    continue
                _count(item, folder.below, files)
                if is_list(item.name):
                    lists.append(Path(item.path))
    except OSError as error:
        what = f"'{root / folder.below}' cannot be read ({reason(error)})"
        raise UsageError(f"{what}; make it readable, or move it out of '{root}'") from None
    depth = folder.below.count("/")
    if depth == 0 or (depth == 1 and count <= LISTS_PER_FOLDER):
        files.lists += lists
    # A folder that is reached through itself would never end.
    return [child for child in inner if child.real not in child.above]


def _count(item: os.DirEntry[str], below: str, files: Files) -> None:
    """Count one file as a video or as ignored."""
    size = _size(item) if is_video(item.name) else None
    if size is None:
        files.ignored += 1
    else:
        files.videos[os.fsencode(below + item.name).decode("utf-8", "backslashreplace")] = size


def is_video(name: str) -> bool:
    """Return whether a file is a video by its name."""
    return os.path.splitext(name)[1].lower() in _IS_VIDEO


def is_list(name: str) -> bool:
    """Return whether a file may be a list of videos by its name."""
    return os.path.splitext(name)[1].lower() in _IS_LIST


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _inside(folder: _Folder, item: os.DirEntry[str]) -> _Folder:
    real = os.path.realpath(item.path) if item.is_symlink() else os.path.join(folder.real, item.name)
    return _Folder(f"{folder.below}{item.name}/", real, (*folder.above, folder.real))


def _size(item: os.DirEntry[str]) -> int | None:
    """Return the bytes of a file; -1 when it cannot be reached, None when it is a pipe, a device or the like."""
    try:
        status = item.stat()
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def no_videos(root: object, others: int) -> str:
    """Return the sentence for a source without a video."""
    files = ("nothing at all", "only 1 other file")[others] if others < 2 else f"only {others} other files"
    return f"no video below '{root}', {files}; a video is a file that ends in .{', .'.join(VIDEO_SUFFIXES)}"
