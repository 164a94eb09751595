"""The files of a set for a command that reads it: its own folder, or a scratch folder with what a store has of it."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vprep.errors import UsageError
from vprep.format import DATASET, FAILURES, INDEX, PLAN
from vprep.index_rows import with_keys
from vprep.store import Head, Location, MissingError, Store, is_url, place
from vprep.store.named import named, renamed
from vprep.store.scratch import scratch_folder


@dataclass(frozen=True, slots=True)
class SetFiles:
    """A set in a local folder."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    @contextlib.contextmanager
    def shard(self, name: str, *, content: bool) -> Iterator[None]:
        """Let a shard be in `folder` for the length of a block; without `content`, a file of its size will do."""
        yield

    def bring_videos(self, keys: Sequence[str]) -> None:
        """Let the bytes of some videos be in `folder`, at their places in their shards."""

    def shown(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return the result of a command, in which the set has the name that the user gave it."""
        return info


@dataclass(frozen=True, slots=True)
class StoreFiles(SetFiles):
    """A set in a store; `folder` has its small files, and as little of its shards as a command needs at a time."""

    store: Store

    def __str__(self) -> str:
        return str(self.store.location)

    def fetch(self, *names: str) -> None:
        """Download those of the files that there are."""
        for name in names:
            with contextlib.suppress(MissingError):
                self.store.download(name, self.folder / name)

    def note_shards(self) -> None:
        """Let each shard that the store has, known or not, be in `folder` as an empty file."""
        if self.store.location.is_listed:
            for head in self.store.list():
                if head.name.endswith(".tar") and "/" not in head.name:
                    (self.folder / head.name).touch()

    @contextlib.contextmanager
    def shard(self, name: str, *, content: bool) -> Iterator[None]:
        path = self.folder / name
        if content:
            self.fetch(name)
        elif (head := self.store.head(name)) is not None:
            _outline(path, head.size)
        try:
            yield
        finally:
            if path.exists():
                os.truncate(path, 0)

    def bring_videos(self, keys: Sequence[str]) -> None:
        heads: dict[str, Head | None] = {}
        for row in with_keys(self.folder, keys):
            name = row["shard"]
            if name not in heads and (head := heads.setdefault(name, self.store.head(name))) is not None:
                _outline(self.folder / name, head.size)
            if (head := heads[name]) is not None:
                end = min(row["offset"] + row["size"], head.size)
                with (self.folder / name).open("r+b") as file:
                    file.seek(row["offset"])
                    file.write(self.store.read_range(name, row["offset"], end, head.etag))

    def shown(self, info: dict[str, Any]) -> dict[str, Any]:
        return dict(renamed(info, self.folder, self.store.location))


@contextlib.contextmanager
def opened(text: str, *, scratch: Path | None = None, shards: bool = False) -> Iterator[SetFiles]:
    """Open the set that a user names, for reading; with `shards`, note which ones a store has."""
    where = place(text)
    if not isinstance(where, Location):
        yield SetFiles(where)
        return
    with scratch_folder(scratch) as folder, named(folder, where):
        files = StoreFiles(folder, Store(where))
        files.fetch(DATASET, INDEX, FAILURES, PLAN)
        if shards:
            files.note_shards()
        yield files


def local_set(text: str, command: str) -> Path:
    """Return the folder of a set; refuse a store for a command that is not made for one."""
    if is_url(text):
        raise UsageError(f"{command} is for a set in a local folder, and {place(text)} is in a store; run it on a copy")
    return Path(text)


def _outline(path: Path, size: int) -> None:
    """Make a file of a size that takes no space on the disk."""
    with path.open("wb") as file:
        file.truncate(size)
