"""Find videos that are there twice: under one key, which is an error, or with the same content, which is said."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

AT_ONCE = 1 << 16  # texts
LONG = 64  # bytes of a text that has a hash by itself
_WORD = 8  # bytes
_ODD, _OTHER, _HALF = (np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 32))

Codes = npt.NDArray[np.uint64]


def codes(texts: pa.ChunkedArray) -> Codes:
    """Return a hash of 64 bits for each text, of 8 bytes where the text takes 30; unknown texts are left out."""
    pieces = (texts.slice(begin, AT_ONCE).drop_null() for begin in range(0, len(texts), AT_ONCE))
    found = [_codes(piece.cast(pa.large_string()).combine_chunks()) for piece in pieces]
    return np.concatenate([np.empty(0, np.uint64), *found])


def _codes(texts: pa.LargeStringArray) -> Codes:
    """Return the hashes of texts, all of them a word at a time; a long text has one of its own kind."""
    _, places, data = texts.buffers()
    bounds = np.frombuffer(places, np.int64, len(texts) + 1, _WORD * texts.offset)
    raw = b"" if data is None else data.slice(bounds[0], bounds[-1] - bounds[0]).to_pybytes()
    words = np.ndarray(len(raw) + 1, "<u8", raw + bytes(_WORD), strides=(1,))  # one begins at each byte
    begins, lengths = bounds[:-1] - bounds[0], np.diff(bounds)
    found = lengths.astype(np.uint64)
    for at in range(0, min(LONG, int(lengths.max(initial=0))), _WORD):
        beyond = np.uint64(8) * (_WORD - np.clip(lengths - at, 0, _WORD)).astype(np.uint64)
        word = words[np.minimum(begins + at, len(raw))] << np.minimum(beyond, np.uint64(63))
        found = _mixed(found ^ np.where(beyond < 64, word, np.uint64(0)))
    for row in np.flatnonzero(lengths > LONG):
        found[row] = xxhash.xxh3_64_intdigest(raw[begins[row] : begins[row] + lengths[row]])
    return found


def _mixed(numbers: Codes) -> Codes:
    """Return numbers in which each bit depends on all bits of the given one; different ones stay different."""
    for odd in (_ODD, _OTHER):
        numbers = numbers * odd
        numbers ^= numbers >> _HALF
    return numbers


def key_twice(keys: pa.ChunkedArray) -> str | None:
    """Return a key that several rows have; None when each has its own."""
    several = repeated(codes(keys))
    if not len(several):
        return None
    seen: set[str] = set()
    for piece in (keys.slice(begin, AT_ONCE).drop_null() for begin in range(0, len(keys), AT_ONCE)):
        for key in piece.filter(pa.array(np.isin(codes(piece), several))).to_pylist():
            if key in seen:
                return str(key)
            seen.add(key)
    return None


def repeated(found: Codes) -> Codes:
    """Return each code as often as it comes again."""
    ordered: Codes = np.sort(found)
    again: Codes = ordered[1:][ordered[1:] == ordered[:-1]]
    return again


class Seen:
    """The keys and contents of a set's videos, added up shard by shard: a key takes its text, a content 8 bytes."""

    def __init__(self) -> None:
        self._keys: list[pa.Array] = []
        self._contents: list[Codes] = []
        self._waiting: list[pa.Array] = []  # content hashes, until there are enough for `codes` to be quick

    def add(self, rows: pa.Table) -> None:
        """Add rows of an index."""
        self._keys += rows["key"].chunks
        self._waiting += rows["hash"].chunks
        if sum(map(len, self._waiting)) >= AT_ONCE:
            self._encode()

    def key_twice(self) -> str | None:
        """Return a key that several videos have."""
        return key_twice(pa.chunked_array(self._keys, pa.string()))

    def same_content(self) -> int:
        """Return how many videos repeat the content of another one."""
        self._encode()
        return len(repeated(np.concatenate(self._contents)))

    def _encode(self) -> None:
        self._contents.append(codes(pa.chunked_array(self._waiting, pa.string())))
        self._waiting = []
