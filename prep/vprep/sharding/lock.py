"""Only one process writes to a set at a time."""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from vprep.atomic import DRAFT
from vprep.errors import UsageError, reason
from vprep.format import LOCK


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Lock the set in `folder`; the lock ends with the process, however that ends."""
    path = folder / LOCK
    descriptor = _acquire(path)
    try:
        for draft in folder.glob(f".*{DRAFT}"):  # left by a writer that was killed
            draft.unlink()
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
        print(f"warning: no lock ({reason(error)}); make sure that nobody else writes here", file=sys.stderr)


def _acquire(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            _lock(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise UsageError(
                f"another vprep is writing to {path.parent}; wait for it, or choose another --out"
            ) from None
        # The previous writer may have removed the file after it was opened here and before it was locked.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)
