"""Locks of files that end with the process that holds them, however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from vprep.errors import UsageError

PRIVATE = 0o600


def opened(path: Path, flags: int = 0) -> int:
    """Open a file for reading and writing, and make it if it is not there."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flags, PRIVATE)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Run the block while no other process, and no other thread, runs a block for the same file."""
    file = opened(path)
    try:
        _lock(file, fcntl.LOCK_EX, path)
        yield
    finally:
        os.close(file)


def hold(file: int, path: Path) -> None:
    """Lock an open file until it is closed or its process ends. Nobody else may hold it."""
    _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB, path)


def is_held(path: Path) -> bool:
    """Return whether a living process holds the lock of a file; a file that is gone is not held."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _lock(file: int, how: int, path: Path) -> None:
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        raise
    except OSError as error:
        raise UsageError(
            f"files in {path.parent} cannot be locked ({(error.strerror or str(error)).lower()}), so processes cannot "
            "share a cache there; name a folder on a local disk: --cache DIR"
        ) from None
