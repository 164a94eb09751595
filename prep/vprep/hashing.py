"""XXH3, the hash that identifies sets, weights and results."""

from collections.abc import Iterable
from pathlib import Path

import xxhash

from vprep.errors import about

_PIECE = 1 << 22  # bytes that are read at once


def hash_of(data: bytes | memoryview) -> str:
    """Return the XXH3 of `data` with 128 bits, as 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(data)


def hash_file(path: Path) -> str:
    """Return the same hash for the content of a file, which is read in pieces."""
    with about(path), path.open("rb") as file:
        return hash_pieces(iter(lambda: file.read(_PIECE), b""))


def hash_pieces(pieces: Iterable[bytes]) -> str:
    """Return the same hash for bytes that come in pieces."""
    state = xxhash.xxh3_128()
    for piece in pieces:
        state.update(piece)
    return state.hexdigest()
