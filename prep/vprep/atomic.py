"""Write files that are complete or absent: a draft is written beside the file, flushed to the disk, and renamed.

A process that is killed leaves its draft. The next one that writes the same file removes it: a living writer holds the
lock of its draft. A draft's name has the machine and the process, so that two writers of one file never share a draft.
"""

import contextlib
import errno
import fcntl
import glob
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import IO

from vprep.errors import UsageError, WorkError, about, writing
from vprep.hashing import hash_of

DRAFT = ".draft"
_PROCESS = re.compile(rf"\.(\d+)(?:\.export)?{DRAFT}$")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a draft that becomes `path` when the block ends, and that is removed when the block fails."""
    remove_left(path)
    with _drafted(path, move_into_place) as file:
        yield file


@contextlib.contextmanager
def atomic_create(path: Path) -> Iterator[IO[bytes]]:
    """Open a draft that becomes `path` when the block ends; raise FileExistsError if there is a `path` by then.

    Of several writers at the same moment, one succeeds.
    """
    with _drafted(path, _link_into_place) as file:
        yield file


@contextlib.contextmanager
def _drafted(path: Path, into_place: Callable[[Path, Path], None]) -> Iterator[IO[bytes]]:
    draft = draft_of(path)
    with about(path, draft):
        file = open_draft(draft)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            into_place(draft, path)
        finally:
            draft.unlink(missing_ok=True)


def require_place(out: Path, option: str) -> None:
    """Refuse at once a file that cannot be written after the work; `option` names it."""
    if out.is_dir():
        raise UsageError(f"{option} is '{out}', which is a folder; name a file")
    require_writable(out.parent, f"choose another {option}")


def require_writable(folder: Path, advice: str = "choose another --out") -> None:
    """Make the folder of a file that is written after long work; refuse it at once where no file can be made in it."""
    with writing(folder, advice):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def move_into_place(draft: Path, path: Path) -> None:
    """Rename `draft`, whose bytes are on the disk already, to `path`, and flush the folder so that the name lasts."""
    draft.replace(path)
    _flush_names(path.parent)


def _link_into_place(draft: Path, path: Path) -> None:
    """Give `draft` the name `path`, too, unless that exists."""
    try:
        os.link(draft, path)
    except OSError:  # also on a file system without hard links, where writers of one moment may replace each other
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        draft.replace(path)
    _flush_names(path.parent)


def _flush_names(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def draft_of(path: Path) -> Path:
    """Return the name of this process's draft of `path`."""
    return path.with_name(f".{path.name}.{_machine()}.{os.getpid()}{DRAFT}")


@cache
def _machine() -> str:
    return hash_of(os.uname().nodename.encode())[:8]


def remove_left(path: Path) -> None:
    """Remove the drafts of `path` that were left by processes that were killed."""
    for draft in path.parent.glob(f".*{glob.escape(path.name)}.*{DRAFT}"):
        process = _PROCESS.search(draft.name)
        # Where there are no locks, the number of its process has to do.
        if process is not None and not is_running(int(process[1])):
            with contextlib.suppress(OSError), draft.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                draft.unlink()


def is_running(process: int) -> bool:
    """Return whether a process of this number runs on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def plain_file(path: Path, *, append: bool = False) -> IO[bytes]:
    """Open a file to write it anew, or to append; refuse a link, a pipe or a device."""
    how = os.O_APPEND if append else 0
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | how, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise _no_plain(path) from None
        raise
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or (found.st_nlink > 1 and not append):
        os.close(descriptor)
        raise _no_plain(path)
    if not append:
        os.ftruncate(descriptor, 0)
    return open(path, "ab" if append else "wb", opener=lambda *_: descriptor)


def _no_plain(path: Path) -> WorkError:
    return WorkError(f"{path} is a link, or not a plain file, so another file would be written; remove it")


def open_draft(draft: Path) -> IO[bytes]:
    """Open and lock a draft; again if another process has taken it for one that was left, before it was locked."""
    while True:
        file = plain_file(draft)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(draft.lstat(), os.fstat(file.fileno())):
                return file
        file.close()
