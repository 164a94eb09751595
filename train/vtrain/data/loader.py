"""From shards to batches.

    positions -> tasks -> chunks (in the workers) -> batches (here) -> device

Which videos a batch holds is a function of its position alone, so neither ranks nor workers nor a resume change it.
WebDataset carries the pipeline and its processes; the order, and which worker makes what, is decided here.
"""

import logging
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TypedDict, Unpack

import torch
import webdataset as wds
from torch.utils.data import get_worker_info

from vprep.errors import UsageError, WorkError
from vtrain.data.batch import Bad, Batch, SampleInfo, batch_of
from vtrain.data.chunks import ChunkMaker, OnError, Task
from vtrain.data.dataset import Videos
from vtrain.data.order import BLOCK, Order, share
from vtrain.data.prefetch import on_device
from vtrain.data.sampler import Sampler
from vtrain.data.sampling import Plan
from vtrain.data.shard_set import ShardSet
from vtrain.data.shard_spec import Spec
from vtrain.data.workers import BufferPool, Chunk, SharedBufferPool, SharedPixels, Stop, from_workers

CHUNK_BYTES = 32 << 20  # of pixels; a larger batch leaves its workers in parts
PREFETCHED = 2  # chunks that a worker makes before they are asked for
HELD = 2  # rooms of a worker that tensors may hold

log = logging.getLogger("vtrain.data")


class Options(TypedDict, total=False):
    """What else a loader can be told; defaults are with the loader."""

    seed: int
    workers: int
    rank: int
    world: int
    position: int
    epochs: int | None
    shuffled: bool
    block: int
    on_error: OnError
    budget: float
    bad: dict[str, Bad] | None
    device: torch.device | str


class Loader:
    """An iterator of batches.

    Its state is `position`, the count of samples that were handed out, and `bad`, the videos that could not be read.
    """

    def __init__(
        self,
        videos: Videos,
        plan: Plan,
        *,
        batch: int,
        seed: int = 0,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        position: int = 0,
        epochs: int | None = None,
        shuffled: bool = True,
        block: int = BLOCK,
        on_error: OnError = "raise",
        budget: float = 0.001,
        bad: dict[str, Bad] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        _refuse_impossible(batch=batch, workers=workers, rank=rank, world=world, on_error=on_error)
        self.videos = videos
        self.batch = batch
        self.position = position
        self.end = None if epochs is None else epochs * len(videos)
        self.bad = {} if bad is None else bad  # the first fault of each bad video, by key; `bad` is added to
        self._most_bad = max(1, int(budget * len(videos)))
        self._rank, self._world, self._workers = rank, world, workers
        self._device = torch.device(device)
        sampler = Sampler(videos, plan, seed)
        self._maker = ChunkMaker(videos, sampler, Order(videos.shard, seed, block=block, shuffled=shuffled), on_error)
        self._shape = (plan.views, plan.length, *sampler.canvas, 3)
        local = batch // world
        self._chunks = min(local, -(-local * prod(self._shape) // CHUNK_BYTES)) if workers else 1
        self._buffers = BufferPool(pinned=self._device.type == "cuda")

    def __len__(self) -> int:
        """Batches that are left of a finite pass."""
        if self.end is None:
            raise TypeError("this loader has no end; give it epochs=")
        return max(0, -(-(self.end - self.position) // self.batch))

    def __iter__(self) -> Iterator[Batch]:
        batches = self._batches()
        # The first batch is made here and not by a thread: workers start, and early errors rise, where the caller is.
        first = next(batches, None)
        if first is None:
            return
        stream = on_device(_with_first(first, batches), self._device)
        del first  # its memory is wanted again
        for batch in stream:
            self.position = batch.position
            self._count(batch.bad)
            yield batch

    def _batches(self) -> Generator[Batch, None, None]:
        size = -(-self.batch // self._world // self._chunks) * prod(self._shape)
        shared = [SharedBufferPool(PREFETCHED + 1 + HELD, HELD, size) for _ in range(self._workers)]
        pipeline = wds.DataPipeline(self._tasks, partial(self._make, shared))
        if not shared:
            yield from self._collect(iter(pipeline), shared)
            return
        stream = from_workers(pipeline, PREFETCHED, shared)
        try:
            yield from self._collect(stream, shared)
        finally:
            stream.close()  # ends the workers now; left to the garbage collector, torch may wait 5 s for each
            for pools in shared:
                pools.close()

    def _steps(self) -> Iterator[tuple[int, list[Task]]]:
        """Where each global batch begins, and this rank's part of it in chunks."""
        first = self.position
        while self.end is None or first < self.end:
            mine = share(first, self.batch, self.end, self._rank, self._world)
            edges = [len(mine) * number // self._chunks for number in range(self._chunks + 1)]
            yield first, [Task(mine[begin:end], self.end) for begin, end in pairwise(edges) if end > begin]
            first += self.batch

    def _tasks(self) -> Iterator[Task]:
        """The chunks that this worker makes: they are dealt out like cards, and collected in the same order."""
        info = get_worker_info()
        mine, workers = (info.id, info.num_workers) if info else (0, 1)
        number = 0
        for _, tasks in self._steps():
            for task in tasks:
                if number % workers == mine:
                    yield task
                number += 1

    def _make(self, shared: list[SharedBufferPool], tasks: Iterable[Task]) -> Iterator[Chunk | Stop]:
        info = get_worker_info()
        try:
            for task in tasks:
                shape = (len(task.positions), *self._shape)
                if info is None:
                    tensor = self._buffers.take(shape)
                    yield Chunk(tensor, *self._maker.make(task, tensor.numpy()))
                else:
                    buffer, pixels = shared[info.id].fill(shape)
                    yield Chunk(SharedPixels(info.id, buffer, shape), *self._maker.make(task, pixels))
        except (UsageError, WorkError) as error:
            yield Stop(type(error), str(error))

    def _collect(self, chunks: Iterator[Chunk | Stop], shared: list[SharedBufferPool]) -> Generator[Batch, None, None]:
        """Batches of the chunks. The pixels of one that came in one piece stay where they are, if they may."""
        for first, tasks in self._steps():
            copied = len(tasks) > 1 or (len(shared) > 0 and self._device.type == "cuda")
            samples = sum(len(task.positions) for task in tasks)
            clips = self._buffers.take((samples, *self._shape)) if copied else None
            facts: list[SampleInfo] = []
            bad: list[Bad] = []
            at = 0
            for task in tasks:
                part = next(chunks)
                if isinstance(part, Stop):
                    raise part.error(part.words)
                if clips is None:
                    clips = part.take(shared)
                else:
                    part.copy_to(clips[at : at + len(task.positions)], shared)
                at += len(task.positions)
                facts.append(part.facts)
                bad += part.bad
            if clips is not None:
                behind = first + self.batch
                yield batch_of(clips, facts, bad, behind if self.end is None else min(behind, self.end))
            del clips, part  # their memory is wanted again

    def _count(self, found: list[Bad]) -> None:
        for bad in found:
            if bad.key not in self.bad:
                log.warning("skipped: %s", bad)
                self.bad[bad.key] = bad
        if len(self.bad) > self._most_bad:
            last = next(reversed(self.bad.values()))
            raise WorkError(
                f"{len(self.bad)} of {len(self.videos)} videos are bad, and {self._most_bad} were allowed; the last: "
                f"{last.shard}, video '{last.key}': {last.what}; vprep verify {Path(last.shard).parent} lists them all"
            )


def open_shards(
    spec: Spec,
    plan: Plan,
    *,
    batch: int,
    subset: Path | None = None,
    split: str | None = None,
    fold: int = 1,
    **options: Unpack[Options],
) -> Loader:
    """A loader of the shards that `spec` names: batches of `batch` videos over all ranks, each with the clips that
    `plan` asks for."""
    videos = ShardSet.open(spec).select(split, fold=fold, subset=subset)
    return Loader(videos, plan, batch=batch, **options)


def _refuse_impossible(*, batch: int, workers: int, rank: int, world: int, on_error: str) -> None:
    if batch < 1 or batch % world:
        raise UsageError(f"batch is {batch} for {world} ranks; it is divided among them: give a multiple of {world}")
    if not 0 <= rank < world:
        raise UsageError(f"rank is {rank} of {world}; ranks count from 0")
    if workers < 0:
        raise UsageError(f"workers is {workers}; 0 works in this process, more are processes of their own")
    if on_error not in ("raise", "skip"):
        raise UsageError(f"on_error is '{on_error}'; there are raise and skip")


def _with_first(first: Batch, others: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
    yield first
    del first
    yield from others
