"""Reads some frames of a video from its shard: by offset, checked, and no more bytes than that takes.

In front of a video's frames its shard has the tar header with its key, and before that the json that says where each
frame is. So nothing has to be held in memory for that, and a shard that the index does not belong to is found out.
"""

import json
import os
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vprep.errors import WorkError
from vprep.format import BLOCK, CHECK_DIGITS, check_of
from vtrain.data.dataset import Videos
from vtrain.data.shard_spec import size_fault

MOST_OPEN = 64  # files at once
GAP = 4 << 10  # bytes that are read and not used rather than reading twice: copying them costs as much
NEAR = 1 << 20  # bytes within which a disk is asked for all at once, used or not
FACTS, PER_FRAME = 2048, 20  # bytes of a json, about; more are read when these are not enough
MAGIC, AT = b"ustar\x0000", 257  # in a tar header, and where it stands in it
NAME, SIZE = 100, 124  # bytes of the name, which comes first; where the size stands, in 11 octal digits
UNWRITTEN = "its json is not the one that was written"


ADVISE = getattr(os, "posix_fadvise", None)  # not on every system
Bytes = npt.NDArray[np.uint8]
Span = tuple[int, int, list[int]]  # where it begins and ends, and which frames are in it


class BadSampleError(Exception):
    """A video that cannot be used."""


@dataclass(frozen=True, slots=True)
class Located:
    """Where some frames of a video are; offsets count from the video's own in its shard."""

    row: int
    offsets: list[int]
    checks: str
    spans: list[Span]


class ShardReader:
    """Reads from the shards of `videos`; keeps some files open."""

    def __init__(self, videos: Videos) -> None:
        self._videos = videos
        self._files: OrderedDict[int, int] = OrderedDict()
        weakref.finalize(self, _close, self._files)
        self._make_room(1 << 20)

    def locate(self, row: int, numbers: Sequence[int]) -> Located:
        """Where the frames `numbers`, which are sorted and differ, are; the disk is told that they will be read."""
        offsets, checks = self._layout(row)
        base = int(self._videos.offset[row])
        room = self._size(row) - base
        parts = spans(offsets, numbers, GAP)
        first, last = parts[0][0], parts[-1][1]
        if any(not 0 <= begin < end <= room for begin, end, _ in parts):
            raise BadSampleError(UNWRITTEN)
        if ADVISE is not None:
            near = [(first, last)] if last - first <= NEAR else [(begin, end) for begin, end, _ in parts]
            for begin, end in near:
                ADVISE(self._file(row), base + begin, end - begin, os.POSIX_FADV_WILLNEED)
        return Located(row, offsets, checks, parts)

    def frames(self, located: Located) -> list[tuple[int, Bytes]]:
        """The JPEG pictures, each with the number of its frame; they stay until the next are asked for."""
        offsets, checks = located.offsets, located.checks
        base = int(self._videos.offset[located.row])
        file = self._file(located.row)
        size = sum(end - begin for begin, end, _ in located.spans)
        if len(self._room) < size:
            self._make_room(2 * size)
        view, room = self._view, self._room
        at, found = 0, []
        for begin, end, members in located.spans:
            shift = at - begin
            self._read(located.row, file, base + begin, view[at : end + shift])
            at = end + shift
            for number in members:
                first, last = offsets[number] + shift, offsets[number + 1] + shift
                if check_of(view[first:last]) != checks[number * CHECK_DIGITS : (number + 1) * CHECK_DIGITS]:
                    raise BadSampleError(f"frame {number} is not the one that was written")
                found.append((number, room[first:last]))
        return found

    def _make_room(self, size: int) -> None:
        """Fresh memory for each video would cost more than reading it."""
        memory = bytearray(size)
        self._room, self._view = np.frombuffer(memory, np.uint8), memoryview(memory)

    def _layout(self, row: int) -> tuple[list[int], str]:
        """Where the frames of a video are, counted from its offset in the shard, and their checks."""
        index = self._videos.frame_index
        if index is not None and index.checks[row]:
            return index.of(row)
        try:
            offsets, checks = per_frame(self._json(row))
            if len(offsets) != self._videos.frames[row] + 1:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise BadSampleError(UNWRITTEN) from None
        return offsets, checks

    def _json(self, row: int) -> bytearray:
        """The json before the frames of a video, found from behind."""
        key, offset = self._videos.keys[row].as_py(), int(self._videos.offset[row])
        room = FACTS + PER_FRAME * int(self._videos.frames[row])
        while True:
            begin = max(0, offset - room)
            data = bytearray(offset - begin)
            self._read(row, self._file(row), begin, memoryview(data))
            at = data.rfind(MAGIC, 0, len(data) - BLOCK) - AT  # where the header of the json is
            if at >= 0 or begin == 0:
                break
            room *= 4
        if at < 0 or _name(data, len(data) - BLOCK) != f"{key}.mjpeg" or _name(data, at) != f"{key}.json":
            raise self._stranger(row, key)
        return data[at + BLOCK : at + BLOCK + int(data[at + SIZE : at + SIZE + 11], 8)]

    def _stranger(self, row: int, key: str) -> WorkError:
        path = self._path(row)
        where = f"{path} does not hold video '{key}' where the index says"
        return WorkError(
            f"{where}: the shard was altered, or the index is of other shards; vprep verify {path.parent} tells which"
        )

    def _read(self, row: int, file: int, begin: int, place: memoryview) -> None:
        try:
            size = os.preadv(file, [place], begin)
        except OSError as error:
            raise self._unread(row, error) from None
        if size != len(place):
            raise self._unread(row, f"it ends at byte {begin + size}, and the index says more is there")

    def _file(self, row: int) -> int:
        number = int(self._videos.shard[row])
        file = self._files.get(number)
        if file is None:
            if len(self._files) == MOST_OPEN:
                os.close(self._files.popitem(last=False)[1])
            try:
                file = self._files[number] = os.open(self._videos.paths[number], os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise self._unread(row, error) from None
        return file

    def _unread(self, row: int, why: OSError | str) -> WorkError:
        path = self._path(row)
        said = why if isinstance(why, str) else (why.strerror or str(why)).lower()
        return WorkError(size_fault(path, self._size(row)) or f"{path} cannot be read: {said}")

    def _path(self, row: int) -> Path:
        return self._videos.paths[int(self._videos.shard[row])]

    def _size(self, row: int) -> int:
        return self._videos.sizes[int(self._videos.shard[row])]


def _close(files: OrderedDict[int, int]) -> None:
    while files:
        os.close(files.popitem()[1])


def spans(offsets: Sequence[int], numbers: Sequence[int], gap: int) -> list[Span]:
    """The stretches to read for the frames `numbers`; those that lie closer than `gap` bytes are read at once."""
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
    """The offsets and checks of a video's json. They stand behind all other facts, which are not read."""
    facts = json.loads(b"{" + text[text.index(b'"frame_offsets":') :])
    return facts["frame_offsets"], facts["frame_checks"]


def _name(data: bytearray, at: int) -> str:
    """The name in the tar header at `at`."""
    return data[at : at + NAME].split(b"\0", 1)[0].decode("ascii", "replace")
