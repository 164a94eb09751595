"""The sizes of a loader's buffers, known before any of them is made."""

from dataclasses import dataclass
from math import prod

from vprep.errors import UsageError
from vprep.memory import memory_with_swap
from vprep.text import byte_size

CHUNK_BYTES = 32 << 20  # of pixels; a worker makes a larger batch in several chunks
PREFETCHED = 2  # chunks that a worker makes before they are asked for
MOST_BORROWED = 2  # shared buffers of a worker that tensors may hold
PER_WORKER = PREFETCHED + 1 + MOST_BORROWED
FITTING = 0.9  # of the memory, to which a proposed number fills it


@dataclass(frozen=True, slots=True)
class Buffers:
    """The buffers for batches of `videos`, whose pixels have this shape each: views, frames, height, width, 3."""

    videos: int
    shape: tuple[int, ...]
    workers: int

    @property
    def chunks(self) -> int:
        """Parts of a batch, each made by one worker."""
        return min(self.videos, -(-self.videos * prod(self.shape) // CHUNK_BYTES)) if self.workers else 1

    @property
    def chunk(self) -> int:
        """Bytes of a part."""
        return -(-self.videos // self.chunks) * prod(self.shape)

    @property
    def of_batch(self) -> int:
        """Bytes of a batch that is put together; one that is a single part stays where its worker wrote it."""
        return 0 if self.workers and self.chunks == 1 else self.videos * prod(self.shape)

    def of_workers(self, batches: int) -> int:
        """Bytes that the workers write in the course of so many batches; they begin with those made ahead."""
        each = max(PREFETCHED, min(PER_WORKER, batches * self.chunks // max(1, self.workers)))
        return self.workers * each * self.chunk

    def demand_memory(self) -> None:
        """Refuse buffers that are larger than the memory."""
        needed, there = self.of_batch + self.of_workers(0), memory_with_swap()
        if needed <= there:
            return
        views, frames, height, width, _ = self.shape
        each = prod(self.shape)
        fitting = int(FITTING * there) // (each * (1 + PREFETCHED * (self.workers > 0)))
        advice = f"{fitting} such videos would fit: take a smaller batch, or fewer workers than {self.workers}"
        if fitting < self.videos and fitting * (1 + self.workers) < 2:
            most = int(FITTING * there) // (height * width * 3 * (1 + PREFETCHED * self.workers))
            advice = f"at most {most} frames of a video in all its clips would fit: take fewer clips or frames"
        raise UsageError(
            f"a batch of {self.videos} with {views} clips of {frames} frames of {height} x {width} pixels each needs "
            f"{byte_size(needed)} of memory, and this machine has {byte_size(there)}; {advice}"
        )
