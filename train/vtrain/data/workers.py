"""Chunks that are made by processes of their own."""

import signal
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import webdataset as wds
from torch import Tensor

from vprep.errors import WorkError
from vtrain.data.batch import Bad, Facts
from vtrain.data.rooms import SharedRooms


class WorkerKilledError(WorkError):
    """A worker was killed from outside."""


@dataclass(frozen=True, slots=True)
class Lent:
    """Pixels in a room of the worker that made them."""

    worker: int
    room: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a batch."""

    pixels: Tensor | Lent
    facts: Facts
    bad: list[Bad]

    def take(self, rooms: list[SharedRooms]) -> Tensor:
        """The pixels where they are."""
        if isinstance(self.pixels, Tensor):
            return self.pixels
        return rooms[self.pixels.worker].lend(self.pixels.room, self.pixels.shape)

    def copy_to(self, place: Tensor, rooms: list[SharedRooms]) -> None:
        """The pixels elsewhere; a room is free again."""
        # NumPy copies with one thread. torch would take all processors, which the workers need.
        if isinstance(self.pixels, Tensor):
            np.copyto(place.numpy(), self.pixels.numpy())
        else:
            lender = rooms[self.pixels.worker]
            np.copyto(place.numpy(), lender.look(self.pixels.room, self.pixels.shape))
            lender.give_back(self.pixels.room)


@dataclass(frozen=True, slots=True)
class Stop:
    """What went wrong in a worker."""

    error: type[Exception]
    words: str


def from_workers(
    pipeline: wds.DataPipeline, ahead: int, rooms: list[SharedRooms]
) -> Generator[Chunk | Stop, None, None]:
    """What the pipeline yields in each of several processes, in turn: one of the first, one of the second, ..."""

    def begin(_: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the reader's; it ends its workers
        cv2.setNumThreads(0)
        for some in rooms:
            some.only_fill()

    chunks = wds.WebLoader(
        pipeline,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=len(rooms),
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
