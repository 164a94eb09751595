"""Read and check some frames of a video from its shard: by offset, with few further bytes.

In a shard, a video's json with the offset of each frame comes first, then a tar header with its key, then its frames.
So the offsets need not be held in memory, and a shard that does not belong to the index is detected.
"""

import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from vprep.errors import WorkError
from vprep.format import BLOCK, CHECK_DIGITS, check_of
from vprep.json_text import parse_json
from vtrain.data.cache.store_reader import StoreReader, json_size
from vtrain.data.dataset import Videos
from vtrain.data.shard_spec import size_fault

MOST_OPEN = 64  # files at once
GAP = 4 << 10  # bytes between two frames that are read and not used: a second read costs as much as copying them
NEAR = 1 << 20  # bytes: the system is asked to read a shorter stretch from disk completely, used or not
MAGIC, MAGIC_AT = b"ustar\x0000", 257  # of a tar header, and its offset there
NAME_BYTES, SIZE_AT, SIZE_DIGITS = 100, 124, 11  # in a tar header: the name comes first; the size is octal
BAD_JSON = "its json differs from what was written"

FADVISE = getattr(os, "posix_fadvise", None)  # some systems do not have it
Bytes = npt.NDArray[np.uint8]
Found = TypeVar("Found")
Span = tuple[int, int, list[int]]  # begin and end of a stretch of bytes, and the frames in it


class BadSampleError(Exception):
    """A video that cannot be used."""


@dataclass(frozen=True, slots=True)
class Located:
    """The positions of some frames of a video. Offsets count from the video's first frame."""

    row: int
    offsets: list[int]  # of all frames of the video, and of its end
    checks: str
    spans: list[Span]  # what to read


class ShardReader:
    """Reads from the shards of `videos`. It keeps up to `most_open` files open, and one buffer for the bytes.

    A shard in a store is read from its copy in the cache, and without one from the store.
    """

    def __init__(self, videos: Videos, most_open: int = MOST_OPEN) -> None:
        self._videos = videos
        self._most_open = most_open
        remote = videos.remote
        self._store = None if remote is None else StoreReader(remote, videos.shard, videos.offset, videos.frames)
        self._files: OrderedDict[int, int] = OrderedDict()
        weakref.finalize(self, _close, self._files)
        self._allocate(1 << 20)

    def begin(self, rows: Sequence[int]) -> None:
        """Begin to fetch those of the videos that have to be read from a store."""
        if self._store is not None:
            self._store.begin([row for row in rows if self._file(row) is None])

    def locate(self, row: int, numbers: Sequence[int]) -> Located:
        """Find the frames `numbers`, which are sorted and distinct, and ask the system to read them from disk."""
        if self._store is None:
            return self._located(row, numbers)
        return self._from_intact_copy(row, lambda: self._located(row, numbers))

    def frames(self, located: Located) -> list[tuple[int, Bytes]]:
        """Return the JPEG bytes of the frames with their numbers. They are valid until the next call."""
        if self._store is None:
            return self._frames(located)
        return self._from_intact_copy(located.row, lambda: self._frames(located))

    def _from_intact_copy(self, row: int, read: Callable[[], Found]) -> Found:
        """Return what `read` returns; where a copy in the cache is damaged, remove it and read from the store."""
        number = int(self._videos.shard[row])
        try:
            return read()
        except (BadSampleError, WorkError):
            if self._store is None or number not in self._files or not self._store.has(number):
                raise
            if not self._store.drop_if_damaged(number):
                raise
        os.close(self._files.pop(number))
        return read()

    def _located(self, row: int, numbers: Sequence[int]) -> Located:
        offsets, checks = self._layout(row)
        base = int(self._videos.offset[row])
        limit = self._size(row) - base
        parts = spans(offsets, numbers, GAP)
        first, last = parts[0][0], parts[-1][1]
        if any(not 0 <= begin < end <= limit for begin, end, _ in parts):
            raise BadSampleError(BAD_JSON)
        file = self._file(row)
        if FADVISE is not None and file is not None:
            near = [(first, last)] if last - first <= NEAR else [(begin, end) for begin, end, _ in parts]
            for begin, end in near:
                FADVISE(file, base + begin, end - begin, os.POSIX_FADV_WILLNEED)
        return Located(row, offsets, checks, parts)

    def _frames(self, located: Located) -> list[tuple[int, Bytes]]:
        offsets, checks = located.offsets, located.checks
        base = int(self._videos.offset[located.row])
        file = self._file(located.row)
        size = sum(end - begin for begin, end, _ in located.spans)
        if len(self._buffer) < size:
            self._allocate(2 * size)
        view, buffer = self._view, self._buffer
        at, found = 0, []
        for begin, end, members in located.spans:
            shift = at - begin
            self._read(located.row, file, base + begin, view[at : end + shift])
            at = end + shift
            for number in members:
                first, last = offsets[number] + shift, offsets[number + 1] + shift
                if check_of(view[first:last]) != checks[number * CHECK_DIGITS : (number + 1) * CHECK_DIGITS]:
                    raise BadSampleError(f"frame {number} differs from what was written")
                found.append((number, buffer[first:last]))
        if file is None and self._store is not None:
            self._store.refuse_altered(located.row)
        return found

    def _allocate(self, size: int) -> None:
        """Make a buffer that all videos share: a new buffer for each would cost more than reading."""
        memory = bytearray(size)
        self._buffer, self._view = np.frombuffer(memory, np.uint8), memoryview(memory)

    def _layout(self, row: int) -> tuple[list[int], str]:
        """Return the offsets of a video's frames and their checks, from memory or from the json in the shard."""
        index = self._videos.frame_index
        if index is not None and index.checks[row]:
            return index.of(row)
        try:
            offsets, checks = per_frame(self._json(row))
            if len(offsets) != self._videos.frames[row] + 1:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise BadSampleError(BAD_JSON) from None
        return offsets, checks

    def _json(self, row: int) -> bytearray:
        """Return the json of a video, searching back from its first frame."""
        key, offset = self._videos.keys[row].as_py(), int(self._videos.offset[row])
        size = json_size(int(self._videos.frames[row]))
        while True:
            begin = max(0, offset - size)
            data = bytearray(offset - begin)
            self._read(row, self._file(row), begin, memoryview(data))
            at = data.rfind(MAGIC, 0, len(data) - BLOCK) - MAGIC_AT  # of the header of the json
            if at >= 0 or begin == 0:
                break
            size *= 4
        if at < 0 or _name(data, len(data) - BLOCK) != f"{key}.mjpeg" or _name(data, at) != f"{key}.json":
            raise self._not_in_index(row, key)
        return data[at + BLOCK : at + BLOCK + int(data[at + SIZE_AT : at + SIZE_AT + SIZE_DIGITS], 8)]

    def _not_in_index(self, row: int, key: str) -> WorkError:
        number = int(self._videos.shard[row])
        return WorkError(
            f"{self._videos.name_of(number)} does not hold video '{key}' where the index says: the shard was altered, "
            f"or the index is of other shards; find out with: vprep verify {self._videos.set_of(number)}"
        )

    def _read(self, row: int, file: int | None, begin: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes of a shard from `begin` on; None stands for a shard that is only in a store."""
        if file is None and self._store is not None:
            return self._store.read(row, begin, buffer)
        try:
            size = os.preadv(cast(int, file), [buffer], begin)
        except OSError as error:
            raise self._unreadable(row, error) from None
        if size != len(buffer):
            raise self._unreadable(row, f"it ends at byte {begin + size}, and the index says that it is longer")
        return None

    def _file(self, row: int) -> int | None:
        """Return the open file of a video's shard; None when it is only in a store.

        Close the file that was opened first when there are too many.
        """
        number = int(self._videos.shard[row])
        file = self._files.get(number)
        if file is None:
            remote = self._store is not None and self._store.has(number)
            file = self._store.open(number) if self._store is not None and remote else self._opened(row, number)
            if file is None:
                return None
            if len(self._files) == self._most_open:
                os.close(self._files.popitem(last=False)[1])
            self._files[number] = file
        return file

    def _opened(self, row: int, number: int) -> int:
        """Open the file of a shard on this machine."""
        try:
            file = os.open(self._videos.paths[number], os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unreadable(row, error) from None
        if os.fstat(file).st_size != self._size(row):  # it was replaced after the set was opened
            os.close(file)
            raise self._unreadable(row, "it changed while it was read")
        return file

    def _unreadable(self, row: int, why: OSError | str) -> WorkError:
        path = self._videos.paths[int(self._videos.shard[row])]
        reason = why if isinstance(why, str) else (why.strerror or str(why)).lower()
        return WorkError(size_fault(path, self._size(row)) or f"{path} cannot be read: {reason}")

    def _size(self, row: int) -> int:
        return self._videos.sizes[int(self._videos.shard[row])]


def _close(files: OrderedDict[int, int]) -> None:
    while files:
        os.close(files.popitem()[1])


def spans(offsets: Sequence[int], numbers: Sequence[int], gap: int) -> list[Span]:
    """Return the stretches to read for the frames `numbers`; frames with at most `gap` bytes between them share one."""
    found: list[Span] = []
    for number in numbers:
        begin, end = offsets[number], offsets[number + 1]
        if found and begin - found[-1][1] <= gap:
            first, _, members = found[-1]
            members.append(number)
            found[-1] = (first, end, members)
        else:
            found.append((begin, end, [number]))
    return found


def per_frame(text: bytearray) -> tuple[list[int], str]:
    """Return the offsets and the checks in a video's json, which are its last fields; the others are not parsed."""
    fields = parse_json(b"{" + text[text.index(b'"frame_offsets":') :])
    offsets, checks = fields["frame_offsets"], fields["frame_checks"]
    if not isinstance(checks, str) or set(map(type, offsets)) != {int}:
        raise ValueError("offsets that are no numbers")
    return offsets, checks


def _name(data: bytearray, at: int) -> str:
    """Return the name in the tar header at `at`."""
    return data[at : at + NAME_BYTES].split(b"\0", 1)[0].decode("ascii", "replace")
