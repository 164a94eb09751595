"""Which files lie below a folder: the videos with their sizes, and the lists near the top."""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from vprep.errors import UsageError

VIDEO_SUFFIXES = (
    *("mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "m2v", "ts", "mts", "m2ts", "wmv", "asf"),
    *("flv", "f4v", "3gp", "3g2", "ogv", "gif", "vob", "divx", "mxf", "rm", "rmvb", "dv", "y4m"),
)
LIST_SUFFIXES = ("csv", "txt", "json")
LISTS_PER_FOLDER = 2000  # a folder in the root with more entries holds data: no lists are looked for in it

_IS_VIDEO = frozenset(f".{suffix}" for suffix in VIDEO_SUFFIXES)
_IS_LIST = frozenset(f".{suffix}" for suffix in LIST_SUFFIXES)


@dataclass(slots=True, kw_only=True)
class Files:
    """What a walk found. `videos` maps each source to its size, -1 where it cannot be had; it is sorted."""

    videos: dict[str, int] = field(default_factory=dict)
    lists: list[Path] = field(default_factory=list)
    """Files of the root and of the folders in it that may be lists by their names, folder by folder."""

    ignored: int = 0


@dataclass(frozen=True, slots=True)
class _Folder:
    below: str  # its path below the root, with a slash at the end; empty for the root
    real: str
    above: tuple[str, ...]  # the real paths of the folders it was reached through


def walk(root: Path) -> Files:
    """The files below `root`, through links too; names that begin with a dot are passed over."""
    if not os.path.isdir(root):
        what = "a file" if os.path.lexists(root) else "not there"
        raise UsageError(f"'{root}' is {what}; the folder that holds the videos is needed")
    files = Files()
    folders = [_Folder("", os.path.realpath(root), ())]
    while folders:
        folders += _read(root, folders.pop(), files)
    if not files.videos:
        raise UsageError(_no_videos(root, files.ignored))
    files.videos = dict(sorted(files.videos.items()))
    files.lists.sort(key=lambda path: (path.parent != root, path))
    return files


def path_of(root: Path, source: str) -> Path:
    """The file that `source` stands for, also when bytes of its name are not UTF-8 and so were spelt out."""
    path = root / source
    if "\\x" not in source or os.path.lexists(path):
        return path
    spelt_back = re.sub(rb"\\x([89a-f][0-9a-f])", lambda byte: bytes.fromhex(byte[1].decode()), source.encode())
    return root / os.fsdecode(spelt_back)


def _read(root: Path, folder: _Folder, files: Files) -> list[_Folder]:
    """Add the files of one folder to `files`; the folders in it are returned."""
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
                if _suffix(item) in _IS_LIST:
                    lists.append(Path(item.path))
    except OSError as error:
        what = f"'{root / folder.below}' cannot be read ({error.strerror})"
        raise UsageError(f"{what}; every folder below '{root}' must be readable, or be moved away") from None
    depth = folder.below.count("/")
    if depth == 0 or (depth == 1 and count <= LISTS_PER_FOLDER):
        files.lists += lists
    # A folder that was reached through itself would never end.
    return [one for one in inner if one.real not in one.above]


def _count(item: os.DirEntry[str], below: str, files: Files) -> None:
    """Add one file to the videos or to the ignored ones."""
    size = _size(item) if _suffix(item) in _IS_VIDEO else None
    if size is None:
        files.ignored += 1
    else:
        files.videos[os.fsencode(below + item.name).decode("utf-8", "backslashreplace")] = size


def _suffix(item: os.DirEntry[str]) -> str:
    return os.path.splitext(item.name)[1].lower()


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _inside(folder: _Folder, item: os.DirEntry[str]) -> _Folder:
    real = os.path.realpath(item.path) if item.is_symlink() else os.path.join(folder.real, item.name)
    return _Folder(f"{folder.below}{item.name}/", real, (*folder.above, folder.real))


def _size(item: os.DirEntry[str]) -> int | None:
    """The bytes of a file; -1 when it cannot be reached, None when it is a pipe, a device or the like."""
    try:
        facts = item.stat()
    except OSError:
        return -1
    return facts.st_size if stat.S_ISREG(facts.st_mode) else None


def _no_videos(root: Path, others: int) -> str:
    are = "1 other file is" if others == 1 else f"{others} other files are"
    return f"no video below '{root}', {are} there; a video is a file that ends in .{', .'.join(VIDEO_SUFFIXES)}"
