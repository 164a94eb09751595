"""Worker processes that read and decode, and the shared memory in which they pass on pixels.

The first write to a page of memory costs the kernel more than decoding into a page that was used before: with fresh
shared memory for each batch a worker is 1.6 times slower (benchmarks/LOG.md). So each worker has a pool of shared
buffers, and a buffer returns to the pool as soon as nobody holds a tensor of it.
"""

import contextlib
import gc
import mmap
import os
import signal
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from types import FrameType

import cv2
import numpy as np
import torch
import webdataset as wds
from torch import Tensor

from vprep.errors import WorkError
from vprep.signals import when_parent_ends
from vtrain.data.batch import Bad, SampleInfo
from vtrain.data.sampler import Pixels


class BufferPool:
    """Buffers of this process; another buffer is made when none is free."""

    def __init__(self, *, pinned: bool = False) -> None:
        self._pinned = pinned
        self._free: list[Tensor] = []

    def borrow(self, shape: tuple[int, ...]) -> Tensor:
        """Return a uint8 tensor in a buffer, which returns to the pool when the last tensor of it is gone."""
        size = int(np.prod(shape))
        while self._free:
            buffer = self._free.pop()
            if buffer.numel() >= size:
                break
        else:
            buffer = torch.empty(size, dtype=torch.uint8, pin_memory=self._pinned)
        borrowed = buffer.numpy()[:size].reshape(shape)
        weakref.finalize(borrowed, self._free.append, buffer).atexit = False
        return torch.from_numpy(borrowed)


class SharedBufferPool:
    """The buffers of one worker: the worker fills them, and the main process reads them.

    It must be made before the worker is forked. The numbers of the free buffers go through a pipe from the main
    process to the worker. The end of the pipe shows the worker that the main process is gone.
    """

    def __init__(self, count: int, most_borrowed: int, size: int) -> None:
        self._memory = [mmap.mmap(-1, max(size, 1)) for _ in range(count)]
        self._most_borrowed = most_borrowed
        self._borrowed = 0
        self._source, self._sink = os.pipe()
        os.write(self._sink, bytes(range(count)))

    def wait_for_buffer(self, shape: tuple[int, ...]) -> tuple[int, Pixels]:
        """Worker: wait until a buffer is free; return its number and its memory."""
        number = os.read(self._source, 1)
        if not number:
            raise SystemExit  # the main process is gone
        return number[0], self.view(number[0], shape)

    def only_read_free_numbers(self) -> None:
        """Worker: close the writing end of the pipe, or the pipe would not end with the main process."""
        os.close(self._sink)
        self._sink = -1

    def view(self, number: int, shape: tuple[int, ...]) -> Pixels:
        """Return the content of a buffer, which stays in the pool."""
        return np.frombuffer(self._memory[number], np.uint8, count=int(np.prod(shape))).reshape(shape)

    def borrow(self, number: int, shape: tuple[int, ...]) -> Tensor:
        """Main process: return the content of a buffer, which is free again when the last tensor of it is gone.

        If `most_borrowed` buffers are still held, return a copy: otherwise the worker would wait for ever.
        """
        view = self.view(number, shape)
        if self._borrowed >= self._most_borrowed:
            copy = torch.from_numpy(view.copy())
            self.release(number)
            return copy
        self._borrowed += 1
        weakref.finalize(view, self._return, number).atexit = False
        return torch.from_numpy(view)

    def release(self, number: int) -> None:
        """Main process: mark a buffer as free."""
        with contextlib.suppress(OSError):  # the pool is closed
            os.write(self._sink, bytes([number]))

    def close(self) -> None:
        """Main process: close the pipe, after the worker has ended. Tensors that are still held stay valid."""
        for end in (self._source, self._sink):
            os.close(end)
        self._source = self._sink = -1

    def _return(self, number: int) -> None:
        self._borrowed -= 1
        self.release(number)


class WorkerKilledError(WorkError):
    """A worker was killed from outside."""


@dataclass(frozen=True, slots=True)
class SharedPixels:
    """Pixels in a shared buffer of the worker that made them."""

    worker: int
    buffer: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A batch, or a part of one."""

    pixels: Tensor | SharedPixels
    info: SampleInfo
    bad: list[Bad]

    def borrow(self, pools: list[SharedBufferPool]) -> Tensor:
        """Return the pixels without copying them."""
        if isinstance(self.pixels, Tensor):
            return self.pixels
        return pools[self.pixels.worker].borrow(self.pixels.buffer, self.pixels.shape)

    def copy_to(self, target: Tensor, pools: list[SharedBufferPool]) -> None:
        """Copy the pixels to `target` and release their buffer."""
        # NumPy copies with one thread. torch would use all processors, and the workers need these.
        if isinstance(self.pixels, Tensor):
            np.copyto(target.numpy(), self.pixels.numpy())
        else:
            pool = pools[self.pixels.worker]
            np.copyto(target.numpy(), pool.view(self.pixels.buffer, self.pixels.shape))
            pool.release(self.pixels.buffer)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error in a worker, which the main process raises again."""

    error: type[Exception]
    message: str


def from_workers(
    pipeline: wds.DataPipeline, prefetched: int, pools: list[SharedBufferPool]
) -> Generator[Chunk | Failure, None, None]:
    """Run the pipeline in one process for each pool; yield their chunks, one of each process in turn."""

    end_with_parent = _ending_with_parent()
    closing = mmap.mmap(-1, 1)  # shared: not 0 when the workers have to end

    def start(_: int) -> None:
        gc.freeze()  # nothing of the parent is collected here: destructors of its GPU's objects would end this process
        end_with_parent()
        _leave_signals_to_parent(closing)
        cv2.setNumThreads(0)
        for pool in pools:
            pool.only_read_free_numbers()

    chunks = wds.WebLoader(
        pipeline,
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=len(pools),
        prefetch_factor=prefetched,
        worker_init_fn=start,
        multiprocessing_context="fork",  # shares the arrays and the buffers; nothing is loaded again
    )
    yield from _watched(chunks, closing)


def _ending_with_parent() -> Callable[[], None]:
    """Return a function by which a forked worker ends as soon as this process does, however this process is killed.

    The system watches the thread that forks, which in other threads than the main one may end long before the workers.
    There, and on systems without prctl, the end of a pool's pipe has to do.
    """
    parent = os.getpid()
    in_main_thread = threading.current_thread() is threading.main_thread()
    ask = when_parent_ends() if in_main_thread else None

    def bind() -> None:
        if ask is not None:
            ask(signal.SIGKILL)
        if os.getppid() != parent:  # killed before the system watched it
            os._exit(1)

    return bind


def _leave_signals_to_parent(closing: mmap.mmap) -> None:
    """Ignore what a terminal or a scheduler sends to all processes of a job: the main process needs its workers."""

    def end_if_closing(number: int, frame: FrameType | None) -> None:
        if closing[0]:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_if_closing)  # by which torch ends a worker that is late


def _watched(chunks: Iterable[Chunk | Failure], closing: mmap.mmap) -> Generator[Chunk | Failure, None, None]:
    """Yield the chunks unchanged; raise a WorkerKilledError when a worker was killed."""
    iterator = iter(chunks)
    try:
        with _sigchld_handler_kept():
            first = next(iterator, None)  # starts the workers
        if first is None:
            return
        yield first
        del first
        for chunk in iterator:
            yield chunk
            del chunk  # so that its buffer can return to the pool
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise WorkerKilledError(
            f"a worker of the loader was killed ({str(error).splitlines()[0].lower()}); most often memory was short: "
            "take fewer workers"
        ) from None
    finally:
        closing[0] = 1


@contextlib.contextmanager
def _sigchld_handler_kept() -> Iterator[None]:
    """Restore the handler of SIGCHLD, which torch replaces when it starts workers.

    Torch's handler would raise while the caller works with a batch. Without it, the next wait for a chunk finds that a
    worker has died.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)


def _unchanged(chunk: Chunk | Failure) -> Chunk | Failure:
    return chunk
