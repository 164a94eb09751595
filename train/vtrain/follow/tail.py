"""New lines of a file of metrics that a training may be writing."""

import fcntl
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vtrain import run_folder
from vtrain.metrics_file import MOST_LINE, numbers_in

# The system's struct flock, with its fields in the order of each system.
FLOCK = "qqihh" if sys.platform == "darwin" else "hhqqi"


class Tail:
    """Reads on from where it stopped; from the beginning where a resumed training has cut the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        self._at = (0, 0, 0)  # device and number of the file, and the bytes that were read

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the complete lines that are new; a line in half is read when it is complete."""
        if not self.path.is_file():  # not there yet, or a pipe, which would never end
            return
        with self.path.open("rb") as file:
            found = _identity(self.path)
            begin = self._at[2] if self._at[:2] == found and self._at[2] <= self.path.stat().st_size else 0
            file.seek(begin)
            while (line := file.readline(MOST_LINE)).endswith(b"\n"):
                begin += len(line)
                self._at = (*found, begin)
                numbers = numbers_in(line)
                if numbers is None:
                    self.damaged += 1
                else:
                    yield numbers


def is_training(folder: Path) -> bool:
    """Return whether a process holds the lock of the run; the lock itself is not touched."""
    path = folder / run_folder.LOCK
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            asked = fcntl.fcntl(file, fcntl.F_GETLK, _flock(fcntl.F_RDLCK))
    except OSError:
        return False
    return _kind(asked) != fcntl.F_UNLCK


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _flock(kind: int) -> bytes:
    fields = (0, 0, 0, kind, 0) if sys.platform == "darwin" else (kind, 0, 0, 0, 0)
    return struct.pack(FLOCK, *fields)


def _kind(data: bytes) -> int:
    fields = struct.unpack(FLOCK, data[: struct.calcsize(FLOCK)])
    return int(fields[3] if sys.platform == "darwin" else fields[0])
