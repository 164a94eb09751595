"""Find videos that occur twice: under one key, or with the same content."""

from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

AT_ONCE = 1 << 16  # texts

Codes = npt.NDArray[np.uint64]


def codes(texts: pa.ChunkedArray) -> Codes:
    """Return a hash of 64 bits for each text, of 8 bytes where the text takes 30; unknown texts are left out."""
    pieces = (chunk.slice(begin, AT_ONCE) for chunk in texts.chunks for begin in range(0, len(chunk), AT_ONCE))
    found = [
        np.array([xxhash.xxh3_64_intdigest(text.encode()) for text in piece.drop_null().to_pylist()], np.uint64)
        for piece in pieces
    ]
    return np.concatenate([np.empty(0, np.uint64), *found])


def key_twice(keys: pa.ChunkedArray) -> str | None:
    """Return a key that several rows have; None when each has its own."""
    several = repeated(codes(keys))
    if not len(several):
        return None
    wanted = set(several.tolist())
    seen: set[str] = set()
    for key in chain.from_iterable(chunk.to_pylist() for chunk in keys.chunks):
        if key is not None and xxhash.xxh3_64_intdigest(key.encode()) in wanted:
            if key in seen:
                return str(key)
            seen.add(key)
    return None


def repeated(found: Codes) -> Codes:
    """Return the codes that are there more than once."""
    ordered = np.sort(found)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


class Seen:
    """The keys and contents of a set's videos, added up shard by shard: a key takes its text, a content 8 bytes."""

    def __init__(self) -> None:
        self._keys: list[pa.Array] = []
        self._contents: list[Codes] = []

    def add(self, rows: pa.Table) -> None:
        """Add rows of an index."""
        self._keys += rows["key"].chunks
        self._contents.append(codes(rows["hash"]))

    def key_twice(self) -> str | None:
        """Return a key that several videos have."""
        return key_twice(pa.chunked_array(self._keys, pa.string()))

    def same_content(self) -> int:
        """Return how many videos repeat the content of another one."""
        contents = np.concatenate([np.empty(0, np.uint64), *self._contents])
        return len(contents) - len(np.unique(contents))
