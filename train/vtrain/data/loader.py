"""From shards to batches on a device.

    positions   each position of an endless stream of epochs has a video (order.py)
    tasks       the positions of a batch, shared among ranks and cut into parts (`_tasks_of_batches`)
    chunks      a worker reads and decodes the videos of a task (chunks.py, sampler.py, shard_reader.py, workers.py)
    batches     the main process puts the chunks of a batch together (`_collect`, batch.py)
    device      a batch is copied to the device while the previous batch is used (prefetch.py)

The videos of a batch are a function of its position alone, so they do not depend on ranks, workers or a resume.
WebDataset runs the pipeline and its processes; this file decides the order, and which worker makes which chunk.
"""

import logging
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypedDict, Unpack

import torch
import webdataset as wds
from torch.utils.data import get_worker_info

from vprep.errors import UsageError, WorkError
from vprep.processors import demand_workers
from vtrain.data.batch import Bad, Batch, SampleInfo, batch_of
from vtrain.data.buffers import MOST_BORROWED, PER_WORKER, PREFETCHED, Buffers
from vtrain.data.cache.ahead import ahead_of
from vtrain.data.cache.place import CachePlace
from vtrain.data.chunks import ChunkMaker, OnError, Task
from vtrain.data.dataset import Videos, folder_of
from vtrain.data.order import Order, share
from vtrain.data.prefetch import on_device
from vtrain.data.sampler import Sampler
from vtrain.data.sampling import Plan
from vtrain.data.shard_set import ShardSet
from vtrain.data.shard_spec import Spec
from vtrain.data.workers import BufferPool, Chunk, Failure, SharedBufferPool, SharedPixels, from_workers

log = logging.getLogger("vtrain.data")


class Options(TypedDict, total=False):
    """Further arguments of `Loader`, which defines their defaults."""

    seed: int
    workers: int
    rank: int
    world: int
    position: int
    epochs: int | None
    shuffled: bool
    on_error: OnError
    budget: float
    bad: dict[str, Bad] | None
    device: torch.device | str


class Loader:
    """An iterator of batches of `batch` videos over all ranks, of which this rank has `batch / world`.

    Its state is `position`, the number of samples that all ranks have received, and `bad`, the videos that could not be
    used. With on_error="skip" these are replaced, until they are more than the share `budget` of all videos.
    `workers` processes read and decode; with 0 this process does. Without `epochs` there is no end.
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
        on_error: OnError = "raise",
        budget: float = 0.001,
        bad: dict[str, Bad] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        _check_arguments(batch=batch, workers=workers, rank=rank, world=world, on_error=on_error)
        self.videos = videos
        self.batch = batch
        self.position = position
        self.end = None if epochs is None else epochs * len(videos)
        self.bad = {} if bad is None else bad  # the first fault of each bad video, by key; the caller's own dict
        self._most_bad = max(1, int(budget * len(videos)))
        self._rank, self._world = rank, world
        self.workers = workers  # may change before the next iterator is made
        self._device = torch.device(device)
        sampler = Sampler(videos, plan, seed)
        order = Order(videos.shard, seed, shuffled=shuffled)
        self._ahead = None if videos.remote is None else ahead_of(videos.remote, videos.shard, order, self.end)
        self._maker = ChunkMaker(videos, sampler, order, on_error, self._ahead)
        self._shape = (plan.views, plan.length, *sampler.canvas, 3)
        self._buffers = Buffers(batch // world, self._shape, workers)
        self._buffers.demand_memory()
        self._chunks_per_batch = self._buffers.chunks
        self._pool = BufferPool(pinned=self._device.type == "cuda")

    def __len__(self) -> int:
        """Return the number of batches that are left of a finite pass."""
        if self.end is None:
            raise TypeError("this loader has no end; give it epochs=")
        return max(0, -(-(self.end - self.position) // self.batch))

    def __iter__(self) -> Iterator[Batch]:
        batches = self._host_batches()
        # The caller's thread makes the first batch, so that workers start, and early errors are raised, in it.
        first = next(batches, None)
        if first is None:
            return
        stream = on_device(_with_first(first, batches), self._device)
        del first  # so that its buffer can return to the pool
        for batch in stream:
            self.position = batch.position
            self.count(batch.bad)
            yield batch

    def _host_batches(self) -> Generator[Batch, None, None]:
        pools = [SharedBufferPool(PER_WORKER, MOST_BORROWED, self._buffers.chunk) for _ in range(self.workers)]
        pipeline = wds.DataPipeline(self._tasks_of_this_worker, partial(self._make_chunks, pools))
        if not pools:
            try:
                yield from self._collect(iter(pipeline), pools)
            finally:
                if self._ahead is not None:
                    self._ahead.close()
            return
        chunks = from_workers(pipeline, PREFETCHED, pools)
        try:
            yield from self._collect(chunks, pools)
        finally:
            chunks.close()  # ends the workers now; when the garbage collector does it, torch may wait 5 s for each
            for pool in pools:
                pool.close()

    def _tasks_of_batches(self) -> Iterator[tuple[int, list[Task]]]:
        """Yield for each global batch its first position, and the tasks of this rank's part of it."""
        first = self.position
        while self.end is None or first < self.end:
            local = share(first, self.batch, self.end, self._rank, self._world)
            edges = [len(local) * number // self._chunks_per_batch for number in range(self._chunks_per_batch + 1)]
            yield first, [Task(local[begin:end], self.end) for begin, end in pairwise(edges) if end > begin]
            first += self.batch

    def _tasks_of_this_worker(self) -> Iterator[Task]:
        """Yield every n-th task, n being the number of workers; `_collect` takes the chunks in the same order."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        number = 0
        for _, tasks in self._tasks_of_batches():
            for task in tasks:
                if number % workers == worker:
                    yield task
                number += 1

    def _make_chunks(self, pools: list[SharedBufferPool], tasks: Iterable[Task]) -> Iterator[Chunk | Failure]:
        """Read and decode the videos of each task, in a worker or, without workers, in this process."""
        info = get_worker_info()
        try:
            for task in tasks:
                shape = (len(task.positions), *self._shape)
                if info is None:
                    tensor = self._pool.borrow(shape)
                    yield Chunk(tensor, *self._maker.make(task, tensor.numpy()))
                else:
                    buffer, pixels = pools[info.id].wait_for_buffer(shape)
                    yield Chunk(SharedPixels(info.id, buffer, shape), *self._maker.make(task, pixels))
        except (UsageError, WorkError) as error:
            yield Failure(type(error), str(error))

    def _collect(
        self, chunks: Iterator[Chunk | Failure], pools: list[SharedBufferPool]
    ) -> Generator[Batch, None, None]:
        """Yield batches of the chunks. If possible, the pixels of a batch of one chunk are not copied."""
        for first, tasks in self._tasks_of_batches():
            copied = len(tasks) > 1 or (len(pools) > 0 and self._device.type == "cuda")
            samples = sum(len(task.positions) for task in tasks)
            clips = self._pool.borrow((samples, *self._shape)) if copied else None
            infos: list[SampleInfo] = []
            bad: list[Bad] = []
            at = 0
            for task in tasks:
                chunk = next(chunks)
                if isinstance(chunk, Failure):
                    raise chunk.error(chunk.message)
                if clips is None:
                    clips = chunk.borrow(pools)
                else:
                    chunk.copy_to(clips[at : at + len(task.positions)], pools)
                at += len(task.positions)
                infos.append(chunk.info)
                bad += chunk.bad
            if clips is not None:
                after = first + self.batch
                yield batch_of(clips, infos, bad, after if self.end is None else min(after, self.end))
            del clips, chunk  # so that their buffers can return to the pool

    def count(self, found: list[Bad]) -> None:
        """Note bad videos; raise a WorkError when they are more than the budget."""
        for bad in found:
            if bad.key not in self.bad:
                log.warning("skipped: %s", bad)
                self.bad[bad.key] = bad
        if len(self.bad) > self._most_bad:
            last = next(reversed(self.bad.values()))
            raise WorkError(
                f"{len(self.bad)} of {len(self.videos)} videos are bad, and {self._most_bad} were allowed; the last: "
                f"{last.shard}, video '{last.key}': {last.what}; list them all with: vprep verify "
                f"{folder_of(last.shard)}"
            )


def open_shards(
    spec: Spec,
    plan: Plan,
    *,
    batch: int,
    subset: Path | None = None,
    split: str | None = None,
    fold: int = 1,
    cache: CachePlace | None = None,
    **options: Unpack[Options],
) -> Loader:
    """Return a loader of the shards that `spec` names; each video of a batch has the clips that `plan` chooses.

    `split`, `fold` and `subset` select videos as `ShardSet.select` does; `cache` is where shards of a store are copied
    to; the other options are those of `Loader`.
    """
    videos = ShardSet.open(spec, cache).select(split, fold=fold, subset=subset)
    return Loader(videos, plan, batch=batch, **options)


def _check_arguments(*, batch: int, workers: int, rank: int, world: int, on_error: str) -> None:
    if batch < 1 or batch % world:
        raise UsageError(f"batch is {batch} for {world} ranks; it is divided among them: write a multiple of {world}")
    if not 0 <= rank < world:
        raise UsageError(f"rank is {rank} of {world}; ranks count from 0")
    if workers < 0:
        raise UsageError(f"workers is {workers}; write 0 to work in this process, or the number of worker processes")
    demand_workers(workers)
    if on_error not in ("raise", "skip"):
        raise UsageError(f"on_error is '{on_error}'; write raise or skip")


def _with_first(first: Batch, others: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
    yield first
    del first
    yield from others
