"""Read videos whose shards are in a store: from the copy of a shard in the cache, or else video by video.

One request brings the bytes of a video and of its description in front of it. So a selection that uses a small part of
each shard needs no complete shards, and a reader does not wait for a shard that is being fetched. What comes from the
store is compared with the hash of the video in the index.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from vprep.hashing import hash_of
from vtrain.data.cache.remote import ATTEMPTS, Remote, RemoteShard
from vtrain.data.cache.shard_cache import ShardCache, usable

MOST_HELD = 8  # videos whose bytes are kept, unless more are asked for at once
JSON_BYTES, JSON_BYTES_PER_FRAME = 2048, 20  # expected size of a video's json; more is read when it is larger

Ints = npt.NDArray[np.integer[Any]]
Fetched = tuple[int, memoryview]  # the offset of the first byte, and the bytes


class StoreReader:
    """Reads for one thread. It opens nothing before it is asked for a video, so it may be made before a fork."""

    def __init__(self, remote: Remote, shard: Ints, offset: Ints, frames: Ints) -> None:
        self._remote, self._shard, self._offset, self._frames = remote, shard, offset, frames
        self._held: OrderedDict[int, Future[Fetched]] = OrderedDict()  # by row
        self._altered: set[int] = set()

    def has(self, number: int) -> bool:
        """Return whether a shard is in a store."""
        return self._remote.shards[number] is not None

    def open(self, number: int) -> int | None:
        """Open the copy of a shard in the cache; return None when there is none."""
        shard = self._of(number)
        with usable(self._remote.place):
            return self._cache.open(shard.cached, shard.bytes)

    def drop_if_damaged(self, number: int) -> bool:
        """Remove the copy of a shard from the cache if it is damaged; return whether it was."""
        shard = self._of(number)
        with usable(self._remote.place):
            return self._cache.drop_if_damaged(shard.cached, shard.hash)

    def begin(self, rows: Sequence[int]) -> None:
        """Begin to fetch several videos at once."""
        for row in rows:
            if row not in self._held:
                self._held[row] = in_thread(partial(self._video, row))
        while len(self._held) > max(MOST_HELD, len(rows)):
            self._held.popitem(last=False)

    def read(self, row: int, begin: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes of the video's shard from `begin` on."""
        self.begin([row])
        first, data = self._held[row].result()
        end = begin + len(buffer)
        if first <= begin and end <= first + len(data):
            buffer[:] = data[begin - first : end - first]
        else:  # a long json in front of the video
            buffer[:] = self._of(int(self._shard[row])).range(begin, end)

    def refuse_altered(self, row: int) -> None:
        """Refuse a video that was read, whose frames are intact, but not those that the index describes."""
        if row in self._altered:
            raise self._of(int(self._shard[row])).changed("the frames of a video are not those of the index")

    def _video(self, row: int) -> Fetched:
        """Fetch a video; once more if it differs from what was written. Its frames' checks tell what still differs."""
        offset, size = int(self._offset[row]), int(self._remote.sizes[row])
        first = max(0, offset - json_size(int(self._frames[row])))
        digest = self._remote.hashes[row].as_py()
        for _ in range(ATTEMPTS):
            data = self._of(int(self._shard[row])).range(first, offset + size)
            if digest is None or hash_of(data[offset - first :]) == digest:
                break
        else:
            self._altered.add(row)
        return first, data

    def _of(self, number: int) -> RemoteShard:
        shard = self._remote.shards[number]
        if shard is None:
            raise LookupError(number)
        return shard

    @cached_property
    def _cache(self) -> ShardCache:
        return ShardCache(self._remote.place)


def json_size(frames: int) -> int:
    """Return how many bytes in front of a video are expected to hold its json."""
    return JSON_BYTES + JSON_BYTES_PER_FRAME * frames


def in_thread(act: Callable[[], Fetched]) -> "Future[Fetched]":
    """Return the result to come of `act`, which runs in a thread that does not outlive its process."""
    future: Future[Fetched] = Future()

    def run() -> None:
        try:
            future.set_result(act())
        except BaseException as error:  # raised again in the thread that asks for the result
            future.set_exception(error)

    threading.Thread(target=run, name="vtrain range", daemon=True).start()
    return future
