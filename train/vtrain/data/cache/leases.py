"""What the readers of a cache need, now or soon. It is written down before anything is fetched for them.

Each reader has a file, which it keeps locked. The lock ends with its process, so the needs of the dead do not count.
All of this is done by whoever is alone in the cache.
"""

import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vtrain.data.cache import locks

NOW, SOON = "now", "soon"
_OURS = re.compile("[0-9]+-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Needs:
    """Names of files of the cache, with their sizes in bytes."""

    now: dict[str, int]
    soon: dict[str, int]

    def __contains__(self, name: str) -> bool:
        return name in self.now or name in self.soon


class Lease:
    """The needs of one reader, which lives in this process."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._file = locks.opened(self.path, os.O_EXCL)
        locks.hold(self._file, self.path)

    def write(self, needs: Needs) -> None:
        lines = [f"{NOW} {size} {name}\n" for name, size in needs.now.items()]
        lines += [f"{SOON} {size} {name}\n" for name, size in needs.soon.items() if name not in needs.now]
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, "".join(lines).encode(), 0)

    def close(self) -> None:
        """Need nothing any more."""
        self.path.unlink(missing_ok=True)
        os.close(self._file)


def of_the_living(folder: Path) -> Needs:
    """Return the needs of all living readers together, and remove the files of the dead."""
    found = Needs({}, {})
    for path in list(folder.iterdir()):
        if not _OURS.fullmatch(path.name):
            continue  # somebody else's
        if not locks.is_held(path):
            path.unlink(missing_ok=True)
            continue
        for kind, size, name in _lines(path.read_text()):
            (found.now if kind == NOW else found.soon)[name] = size
    return found


def _lines(text: str) -> Iterator[tuple[str, int, str]]:
    for line in text.splitlines():
        kind, size, name = line.split(" ")
        yield kind, int(size), name
