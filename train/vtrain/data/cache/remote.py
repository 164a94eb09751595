"""Shards that are in an object store, and the bytes of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vprep.errors import WorkError
from vprep.store import Store
from vtrain.data.cache.place import CachePlace
from vtrain.data.cache.shard_cache import SUFFIX

PIECE = 8 << 20  # bytes of a request for a part of a shard
ATTEMPTS = 2  # bytes that differ from what was written are fetched once more


@dataclass(frozen=True, slots=True)
class RemoteShard:
    """A shard of a set in a store, as its dataset.json describes it."""

    store: Store  # of the set's folder
    name: str
    bytes: int
    hash: str
    videos: int

    @property
    def cached(self) -> str:
        """The name in the cache, which depends on the content alone."""
        return f"{self.hash}-{self.bytes}{SUFFIX}"

    @property
    def url(self) -> str:
        """Where it is, for messages."""
        return str(self.store.location / self.name)

    def pieces(self) -> Iterator[tuple[int, memoryview]]:
        """Yield all bytes in pieces, each with its offset."""
        for begin in range(0, self.bytes, PIECE):
            yield begin, self.range(begin, min(begin + PIECE, self.bytes))

    def range(self, begin: int, end: int) -> memoryview:
        return memoryview(self.store.read_range(self.name, begin, end))

    def changed(self, what: str) -> WorkError:
        return WorkError(
            f"{self.url} is not the shard that its dataset.json describes: {what}; it was replaced while it was read, "
            "or it is damaged: put the shard back, or run it again on the set as it is now"
        )


@dataclass(frozen=True, eq=False)
class Remote:
    """What `Videos` know of shards in stores."""

    shards: list[RemoteShard | None]  # one for each of the videos' shards; None for a local one
    sizes: npt.NDArray[np.int64]  # bytes of each video's frames
    hashes: pa.StringArray  # of each video's frames
    place: CachePlace

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> "Remote":
        """Return what belongs to the videos `rows`."""
        return replace(self, sizes=self.sizes[rows], hashes=self.hashes.take(pa.array(rows)))
