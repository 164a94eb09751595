"""Scratch folders on a local disk, for files on their way to a store or from it."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vprep.errors import writing

PREFIX, NEW = "vprep-scratch-", "vprep-new-"
_LOCK = ".alive"


@contextlib.contextmanager
def scratch_folder(within: Path | None = None) -> Iterator[Path]:
    """Make a folder in `within`, by default in TMPDIR, and remove it at the end; also those of killed processes."""
    within = Path(tempfile.gettempdir()) if within is None else within
    with writing(within, "choose another --scratch"):
        within.mkdir(parents=True, exist_ok=True)
        for left in within.glob(f"{PREFIX}*"):
            _remove_left(left)
        made = Path(tempfile.mkdtemp(prefix=NEW, dir=within))
        lock = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        folder = made.with_name(made.name.replace(NEW, PREFIX, 1))
        made.rename(folder)  # only now, as no other process may remove it any more
    try:
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left(folder: Path) -> None:
    """Remove a scratch folder if the process that made it has ended; it held the lock for as long as it lived."""
    with contextlib.suppress(OSError):  # of another user, or gone by now
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
