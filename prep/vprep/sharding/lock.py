"""Only one process writes to a set at a time, or several parts of one set side by side."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from vprep.atomic import DRAFT
from vprep.errors import UsageError, reason, writing
from vprep.format import LOCK
from vprep.printing import note

_OTHER_OUT = "choose another --out"


@contextlib.contextmanager
def only_writer(folder: Path, advice: str = _OTHER_OUT) -> Iterator[None]:
    """Lock the set in `folder`; the lock ends with the process, however that ends."""
    path = folder / LOCK
    descriptor, locked = _acquire(path, fcntl.LOCK_EX, advice)
    try:
        for draft in folder.glob(f".*{DRAFT}") if locked else ():  # left by a writer that was killed
            draft.unlink()
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextlib.contextmanager
def one_of_many(folder: Path) -> Iterator[None]:
    """Lock the set in `folder` against a writer of the whole set, but not against others of `one_of_many`."""
    path = folder / LOCK
    descriptor, _ = _acquire(path, fcntl.LOCK_SH, _OTHER_OUT)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # others hold the lock, and the last of them removes the file
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    """Return whether the file is locked now: not where the file system has no locks."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:  # some cluster file systems are mounted without locks
        if kind == fcntl.LOCK_EX:  # parts need no lock among themselves
            note(f"warning: no lock ({reason(error)}); make sure that nobody else writes here")
        return False
    return True


def _acquire(path: Path, kind: int, advice: str) -> tuple[int, bool]:
    while True:
        with writing(path.parent, advice):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            locked = _lock(descriptor, kind)
        except BlockingIOError:
            os.close(descriptor)
            raise UsageError(f"another vprep is writing to {path.parent}; wait for it, or {advice}") from None
        # The previous writer may have removed the file after it was opened here and before it was locked.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor, locked
        os.close(descriptor)
