"""Write files that are complete or absent: a draft is written beside the file, flushed to the disk, and renamed."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from vprep.errors import about, writing

DRAFT = ".draft"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a draft that becomes `path` when the block ends, and that is removed when the block fails."""
    draft = path.with_name(f".{path.name}.{os.getpid()}{DRAFT}")
    try:
        with about(path, draft):
            with draft.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            move_into_place(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Make the folder of a file that is written after long work; refuse it at once where no file can be made in it."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def move_into_place(draft: Path, path: Path) -> None:
    """Rename `draft`, whose bytes are on the disk already, to `path`, and flush the folder so that the name lasts."""
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
