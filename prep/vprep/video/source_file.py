"""Read a source file as bytes: its size, its hash, and whether it begins like a video."""

import errno
import stat
from dataclasses import dataclass
from pathlib import Path

import xxhash

# The first bytes of containers; ffmpeg also considers the file's name, and calls a text named .mp4 a truncated mp4.
MAGIC = (b"RIFF", b"\x1aE\xdf\xa3", b"FLV", b"OggS", b"GIF8", b"0&\xb2u", b"\0\0\1\xba", b"\x06\x0e+4")
BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A source file as bytes."""

    size: int
    hash: str
    is_container: bool
    """Whether it begins like a container of videos."""

    is_short: bool
    """Whether it is shorter than its first bytes declare; only avi declares its length there."""


def read_source(path: Path) -> SourceFile:
    """Read a file once and return its size, hash and kind."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    state = xxhash.xxh3_128()
    size = 0
    with path.open("rb") as file:
        head = file.read(16)
        file.seek(0)
        while piece := file.read(1 << 22):
            state.update(piece)
            size += len(piece)
    is_short = head.startswith(b"RIFF") and int.from_bytes(head[4:8], "little") + 8 > size
    return SourceFile(size, state.hexdigest(), head.startswith(MAGIC) or head[4:8] in BOXES, is_short)
