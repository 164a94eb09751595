"""Only one process writes to a set at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from vprep.atomic import DRAFT
from vprep.errors import UsageError, reason, writing
from vprep.printing import note

NAME = ".lock"


@contextlib.contextmanager
def only_writer(folder: Path, advice: str = "choose another --out") -> Iterator[None]:
    """Lock the set in `folder`; the lock ends with the process, however that ends."""
    path = folder / NAME
    descriptor, locked = _acquire(path, advice)
    try:
        for draft in folder.glob(f".*{DRAFT}") if locked else ():  # left by a writer that was killed
            draft.unlink()
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Return whether the file is locked now: not where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:  # some cluster file systems are mounted without locks
        note(f"warning: no lock ({reason(error)}); make sure that nobody else writes here")
        return False
    return True


def _acquire(path: Path, advice: str) -> tuple[int, bool]:
    while True:
        with writing(path.parent, advice):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            locked = _lock(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise UsageError(f"another vprep is writing to {path.parent}; wait for it, or {advice}") from None
        # The previous writer may have removed the file after it was opened here and before it was locked.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor, locked
        os.close(descriptor)
