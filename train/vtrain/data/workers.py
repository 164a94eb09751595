"""Worker processes that read and decode, and the shared memory in which they hand pixels over.

The first write to a page of memory costs the kernel more than decoding into a used one: fresh shared memory for each
batch makes a worker 1.6 times slower (benchmarks/LOG.md). So each worker has a pool of shared buffers, and a buffer
goes back to the pool as soon as nobody holds a tensor of it.
"""

import contextlib
import mmap
import os
import signal
import threading
import weakref
from collections.abc import Generator, Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import webdataset as wds
from torch import Tensor

from vprep.errors import WorkError
from vtrain.data.batch import Bad, SampleInfo
from vtrain.data.sampler import Pixels


class BufferPool:
    """Rooms of this process; one more is built whenever none is free."""

    def __init__(self, *, pinned: bool = False) -> None:
        self._pinned = pinned
        self._free: list[Tensor] = []

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """Memory for that many bytes, until the last tensor on it is gone."""
        size = int(np.prod(shape))
        while self._free:
            buffer = self._free.pop()
            if buffer.numel() >= size:
                break
        else:
            buffer = torch.empty(size, dtype=torch.uint8, pin_memory=self._pinned)
        lent = buffer.numpy()[:size].reshape(shape)
        weakref.finalize(lent, self._free.append, buffer).atexit = False
        return torch.from_numpy(lent)


class SharedBufferPool:
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


class WorkerKilledError(WorkError):
    """A worker was killed from outside."""


@dataclass(frozen=True, slots=True)
class SharedPixels:
    """Pixels in a room of the worker that made them."""

    worker: int
    buffer: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a batch."""

    pixels: Tensor | SharedPixels
    facts: SampleInfo
    bad: list[Bad]

    def take(self, pools: list[SharedBufferPool]) -> Tensor:
        """The pixels where they are."""
        if isinstance(self.pixels, Tensor):
            return self.pixels
        return pools[self.pixels.worker].lend(self.pixels.buffer, self.pixels.shape)

    def copy_to(self, place: Tensor, pools: list[SharedBufferPool]) -> None:
        """The pixels elsewhere; a room is free again."""
        # NumPy copies with one thread. torch would take all processors, which the workers need.
        if isinstance(self.pixels, Tensor):
            np.copyto(place.numpy(), self.pixels.numpy())
        else:
            lender = pools[self.pixels.worker]
            np.copyto(place.numpy(), lender.look(self.pixels.buffer, self.pixels.shape))
            lender.give_back(self.pixels.buffer)


@dataclass(frozen=True, slots=True)
class Stop:
    """What went wrong in a worker."""

    error: type[Exception]
    words: str


def from_workers(
    pipeline: wds.DataPipeline, ahead: int, pools: list[SharedBufferPool]
) -> Generator[Chunk | Stop, None, None]:
    """What the pipeline yields in each of several processes, in turn: one of the first, one of the second, ..."""

    def begin(_: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the reader's; it ends its workers
        cv2.setNumThreads(0)
        for some in pools:
            some.only_fill()

    chunks = wds.WebLoader(
        pipeline,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=len(pools),
        prefetch_factor=ahead,
        worker_init_fn=begin,
        multiprocessing_context="fork",  # arrays and rooms are shared; nothing is loaded again
    )
    yield from _alive(chunks)


def _alive(chunks: Iterable[Chunk | Stop]) -> Generator[Chunk | Stop, None, None]:
    """The same, with the death of a worker in words."""
    mine = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        for number, chunk in enumerate(chunks):
            if number == 0 and mine and handler is not None:
                # torch's own handler would raise in the middle of whatever is done with a batch; without it, a death
                # is found when the next chunk is waited for.
                signal.signal(signal.SIGCHLD, handler)
            yield chunk
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise WorkerKilledError(
            f"a worker of the loader was killed ({str(error).splitlines()[0].lower()}); most often memory was short: "
            "take fewer workers"
        ) from None


def _as_it_is(chunk: Chunk | Stop) -> Chunk | Stop:
    return chunk
