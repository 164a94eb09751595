"""Memory for pixels that is used again and again.

A page that is touched for the first time costs the kernel more than decoding into a warm one: memory that is
shared between processes and fresh for each batch makes a worker 1.6 times slower (benchmarks/LOG.md). So a worker
has a few rooms of shared memory, and a room is free again as soon as nobody holds a tensor of it.
"""

import contextlib
import mmap
import os
import weakref

import numpy as np
import torch
from torch import Tensor

from vtrain.data.samples import Pixels


class Rooms:
    """Rooms of this process; one more is built whenever none is free."""

    def __init__(self, *, pinned: bool = False) -> None:
        self._pinned = pinned
        self._free: list[Tensor] = []

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """Memory for that many bytes, until the last tensor on it is gone."""
        size = int(np.prod(shape))
        while self._free:
            room = self._free.pop()
            if room.numel() >= size:
                break
        else:
            room = torch.empty(size, dtype=torch.uint8, pin_memory=self._pinned)
        lent = room.numpy()[:size].reshape(shape)
        weakref.finalize(lent, self._free.append, room).atexit = False
        return torch.from_numpy(lent)


class SharedRooms:
    """The rooms of one worker, seen by it and by the process that reads what it made.

    They must be built before the worker is forked. Numbers of free rooms travel through a pipe, which also tells the
    worker when nobody reads any more.
    """

    def __init__(self, count: int, lent: int, size: int) -> None:
        self._memory = [mmap.mmap(-1, max(size, 1)) for _ in range(count)]
        self._most_lent = lent
        self._lent = 0
        self._source, self._sink = os.pipe()
        os.write(self._sink, bytes(range(count)))

    def fill(self, shape: tuple[int, ...]) -> tuple[int, Pixels]:
        """In the worker: wait for a free room. Its number, and its memory."""
        number = os.read(self._source, 1)
        if not number:
            raise SystemExit  # the reader is gone
        return number[0], self._view(number[0], shape)

    def look(self, number: int, shape: tuple[int, ...]) -> Pixels:
        """In the reader: what is in a room. Copy it, and give the room back."""
        return self._view(number, shape)

    def lend(self, number: int, shape: tuple[int, ...]) -> Tensor:
        """In the reader: what is in a room; the room is free again when the last tensor on it is gone.

        When too many are still held the worker would wait for ever, so then the caller gets a copy.
        """
        view = self._view(number, shape)
        if self._lent >= self._most_lent:
            copy = torch.from_numpy(view.copy())
            self.give_back(number)
            return copy
        self._lent += 1
        weakref.finalize(view, self._returned, number).atexit = False
        return torch.from_numpy(view)

    def give_back(self, number: int) -> None:
        """In the reader: a room is free."""
        with contextlib.suppress(OSError):  # closed
            os.write(self._sink, bytes([number]))

    def only_fill(self) -> None:
        """In a worker: without a writing end of its own it sees when the reader is gone."""
        os.close(self._sink)
        self._sink = -1

    def close(self) -> None:
        """In the reader: no worker fills the rooms any more. Tensors that are still held stay valid."""
        for end in (self._source, self._sink):
            os.close(end)
        self._source = self._sink = -1

    def _returned(self, number: int) -> None:
        self._lent -= 1
        self.give_back(number)

    def _view(self, number: int, shape: tuple[int, ...]) -> Pixels:
        return np.frombuffer(self._memory[number], np.uint8, count=int(np.prod(shape))).reshape(shape)
