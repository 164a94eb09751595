"""Find videos that are in a set twice: under one key, which is an error, or with the same content, which is said."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash


def key_twice(keys: pa.ChunkedArray) -> str | None:
    """Return a key that several rows have; None when each has its own."""
    if pc.count_distinct(keys).as_py() == len(keys):
        return None
    counts = keys.value_counts()
    several = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").drop_null()
    return str(several[0].as_py()) if len(several) else None


class Seen:
    """The keys and contents of a set's videos, added up shard by shard: a key takes its text, a content 8 bytes."""

    def __init__(self) -> None:
        self._keys: list[pa.Array] = []
        self._contents: list[np.ndarray[tuple[int], np.dtype[np.uint64]]] = []

    def add(self, rows: pa.Table) -> None:
        """Add rows of an index."""
        self._keys += rows["key"].chunks
        hashes = [xxhash.xxh3_64_intdigest(text.encode()) for text in rows["hash"].to_pylist() if text is not None]
        self._contents.append(np.array(hashes, np.uint64))

    def key_twice(self) -> str | None:
        """Return a key that several videos have."""
        return key_twice(pa.chunked_array(self._keys, pa.string()))

    def same_content(self) -> int:
        """Return how many videos repeat the content of another one."""
        contents = np.concatenate([np.empty(0, np.uint64), *self._contents])
        return len(contents) - len(np.unique(contents))
