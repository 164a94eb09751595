"""The videos of a set while it is made: in a local folder, or in a store, from which one at a time is downloaded."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from vprep.hashing import hash_file, hash_of
from vprep.layouts.listing import Entry
from vprep.layouts.walk import path_of
from vprep.store import Location, MissingError, Store
from vprep.store.scratch import scratch_folder

ENDS = 64 << 10  # bytes at the beginning and at the end of a file, compared before the entire files are


class Videos(Protocol):
    """Where videos lie. `str` gives the place."""

    def at_hand(self, entry: Entry) -> contextlib.AbstractContextManager[tuple[Path, Entry]]:
        """Give a folder and the entry by which a video is in it, for the length of a block.

        A video that is gone is in no folder; one that was overwritten since it was listed is a ChangedError.
        """

    def size(self, source: str) -> int | None:
        """Return the bytes of a video now; None when it cannot be reached."""

    def ends(self, source: str) -> str:
        """Return a hash of the first and the last bytes of a video."""

    def content(self, source: str) -> str:
        """Return the hash of a video."""

    def are_gone(self) -> bool:
        """Return whether there is nothing left at the place, as when a disk is not mounted."""


@dataclass(frozen=True, slots=True)
class LocalVideos:
    """Videos below a local folder."""

    root: Path

    def __str__(self) -> str:
        return str(self.root)

    @contextlib.contextmanager
    def at_hand(self, entry: Entry) -> Iterator[tuple[Path, Entry]]:
        yield self.root, entry

    def size(self, source: str) -> int | None:
        try:
            return path_of(self.root, source).stat().st_size
        except OSError:
            return None

    def ends(self, source: str) -> str:
        with path_of(self.root, source).open("rb") as file:
            head = file.read(ENDS)
            file.seek(max(0, os.fstat(file.fileno()).st_size - ENDS))
            return hash_of(head + file.read(ENDS))

    def content(self, source: str) -> str:
        return hash_file(path_of(self.root, source))

    def are_gone(self) -> bool:
        with contextlib.suppress(OSError):
            return not any(True for _ in self.root.iterdir())
        return True


@dataclass(frozen=True, slots=True)
class StoreVideos:
    """Videos below a location of a store; each is downloaded into `folder` while it is needed."""

    store: Store
    folder: Path

    def __str__(self) -> str:
        return str(self.store.location)

    @contextlib.contextmanager
    def at_hand(self, entry: Entry) -> Iterator[tuple[Path, Entry]]:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            # ffmpeg considers the end of a file's name; the rest may be longer than a local name.
            local = f"video{os.path.splitext(entry.source)[1][:20]}"
            with contextlib.suppress(MissingError):
                self.store.download(entry.source, Path(folder, local), entry.etag)
            yield Path(folder), replace(entry, source=local)

    def size(self, source: str) -> int | None:
        head = self.store.head(source)
        return None if head is None else head.size

    def ends(self, source: str) -> str:
        size = self.size(source) or 0
        head = self.store.read_range(source, 0, min(ENDS, size))
        return hash_of(head + self.store.read_range(source, max(0, size - ENDS), size))

    def content(self, source: str) -> str:
        return self.store.hash(source)

    def are_gone(self) -> bool:
        return next(self.store.list(), None) is None


@contextlib.contextmanager
def opened(place: Path | Location, scratch: Path | None = None) -> Iterator[Videos]:
    """Open the place of videos; those of a store are downloaded into a folder in `scratch`, by default in TMPDIR."""
    if isinstance(place, Path):
        yield LocalVideos(place)
        return
    with scratch_folder(scratch) as folder:
        yield StoreVideos(Store(place), folder)
