"""One writer for a set at a time."""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from vprep.atomic import DRAFT
from vprep.errors import UsageError

NAME = ".lock"


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the set in `folder`; the lock goes with the process, however it ends."""
    path = folder / NAME
    descriptor = _acquire(path)
    try:
        for left in folder.glob(f".*{DRAFT}"):  # by a writer that was killed
            left.unlink()
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:  # some cluster file systems are mounted without locks
        print(f"warning: no lock ({error.strerror}); see to it that nobody else writes here", file=sys.stderr)


def _acquire(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise UsageError(
                f"another vprep writes to {path.parent} right now; wait for it, or choose another --out"
            ) from None
        # The one before may have removed the file between our opening and our locking it.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)
