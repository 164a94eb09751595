"""Read clips of videos that a method chooses within a step, while the device computes.

The loader knows the next videos long before. Here they follow from the step's own features: a method asks for rows and
speeds, goes on computing, and takes the clips when it needs them. Threads read and decode, because the videos are asked
for in the process that computes; decoding does not hold Python's lock.

B clips   N views   T frames   H height   W width   C channels
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from queue import SimpleQueue

import torch
from torch import Tensor

from vprep.errors import UsageError
from vtrain.data.augment.apply import Augment
from vtrain.data.batch import Bad, SampleInfo, batch_of, sample_info
from vtrain.data.chunks import OnError, SampleMaker
from vtrain.data.dataset import Videos
from vtrain.data.sampler import Pixels, PlannedSample, Sampler
from vtrain.data.sampling import Plan
from vtrain.data.shard_reader import MOST_OPEN, ShardReader
from vtrain.data.workers import BufferPool

MOST_THREADS = 8  # more would wait for Python's lock, which the computing thread needs, too


@dataclass(frozen=True, slots=True)
class Wanted:
    """A clip that was asked for."""

    row: int
    speed: int
    name: str  # takes the place of an epoch; no epoch has it, so the clip is not the one that the loader shows


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the clips that were asked for, without their pixels."""

    info: SampleInfo
    bad: list[Bad]
    known: float  # when the rows were known


class ClipFetcher:
    """Reads one sample of each video that is asked for, by the plan of the wanted speed, and augments it.

    What is drawn is a function of the seed, of `batch`, which whoever feeds the method sets to a name of each batch, of
    the place in that batch, and of speed and video. So it depends on no threads and no ranks, and a resumed training
    reads the same. With on_error="skip" a clip that cannot be read is not valid, and `count` gets its video.

    `threads` threads work; with 0 the caller's thread does, when it takes the clips. All of them together keep as many
    files open as one reader of the loader does.
    """

    def __init__(
        self,
        videos: Videos,
        plans: Mapping[int, Plan],
        *,
        seed: int = 0,
        threads: int = 0,
        rank: int = 0,
        on_error: OnError = "raise",
        count: Callable[[list[Bad]], None] = lambda found: None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.videos = len(videos)
        self.batch: object = 0
        self.waited = 0.0  # seconds that the caller waited for clips whose rows were known
        self._rank, self._count, self._device = rank, count, torch.device(device)
        self._augment = Augment(next(iter(plans.values())).looks)
        samplers = {speed: Sampler(videos, plan, seed) for speed, plan in plans.items()}
        sampler, plan = next(iter(samplers.values())), next(iter(plans.values()))
        self._shape = (plan.views, plan.length, *sampler.canvas, 3)
        self._pool = BufferPool(pinned=self._device.type == "cuda")
        threads = min(threads, MOST_THREADS)
        self._threads = ThreadPoolExecutor(threads, "vtrain fetch") if threads else None
        self._parts = max(1, threads)
        self._readers: SimpleQueue[Reader] = SimpleQueue()
        for _ in range(self._parts):
            self._readers.put(Reader(videos, samplers, on_error, MOST_OPEN // self._parts))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, row_B: Tensor, speed_B: Tensor) -> "Fetching":
        """Begin to read a clip of each video `row_B` at the speed of `speed_B`. The caller does not wait."""
        wanted = HostCopy(torch.stack([row_B, speed_B.to(row_B.dtype)]))
        pixels = self._pool.borrow((len(row_B), *self._shape))
        edges = pairwise(len(row_B) * number // self._parts for number in range(self._parts + 1))
        parts = [range(begin, end) for begin, end in edges if begin < end]
        reads: list[Callable[[], Part]] = [
            partial(self._read, wanted, pixels.numpy(), self.batch, part) for part in parts
        ]
        if self._threads is not None:
            reads = [self._threads.submit(read).result for read in reads]
        return Fetching(self, pixels, reads)

    def _read(self, wanted: "HostCopy", pixels_BNTHWC: Pixels, batch: object, part: range) -> Part:
        """Read the clips `part`."""
        rows, speeds = wanted.values()
        known = time.perf_counter()
        first = self._rank * len(rows)
        clips = [Wanted(rows[at], speeds[at], f"fetch {batch} {first + at} {speeds[at]}") for at in part]
        reader = self._readers.get()
        try:
            samples, faults = reader.read(clips, [pixels_BNTHWC[at] for at in part])
        finally:
            self._readers.put(reader)
        valid = [
            fault is None and sample.row == clip.row for clip, sample, fault in zip(clips, samples, faults, strict=True)
        ]
        bad = [replace(fault, instead="") for fault in faults if fault is not None]
        return Part(sample_info(samples, valid), bad, known)

    def finish(self, pixels: Tensor, reads: list[Callable[[], Part]]) -> tuple[Tensor, Tensor]:
        """Wait until the clips are read; return them on the device, and which are valid."""
        began = time.perf_counter()
        parts = [read() for read in reads]
        self.waited += time.perf_counter() - max(began, *(part.known for part in parts))
        self._count([bad for part in parts for bad in part.bad])
        batch = batch_of(pixels, [part.info for part in parts], [], 0)
        batch = (batch.pin() if self._device.type == "cuda" else batch).to(self._device)
        return self._augment(batch.clips, batch.augmentation), batch.valid


class Reader:
    """Reads and decodes for one thread at a time."""

    def __init__(self, videos: Videos, samplers: Mapping[int, Sampler], on_error: OnError, most_open: int) -> None:
        reader = ShardReader(videos, most_open)
        self._makers = {
            speed: SampleMaker(videos, sampler.with_reader(reader), on_error) for speed, sampler in samplers.items()
        }

    def read(self, clips: list[Wanted], slots: list[Pixels]) -> tuple[list[PlannedSample], list[Bad | None]]:
        """Write the pixels of the clips into their slots; return their samples, and the fault of each."""
        found: dict[int, tuple[PlannedSample, Bad | None]] = {}
        for speed in dict.fromkeys(clip.speed for clip in clips):
            if speed not in self._makers:
                known = ", ".join(map(str, self._makers))
                raise UsageError(f"a method fetches a clip at speed {speed}; its `fetched` has plans for {known}")
            ats = [at for at, clip in enumerate(clips) if clip.speed == speed]
            videos = [(clips[at].name, clips[at].row) for at in ats]
            made = self._makers[speed].make(videos, [slots[at] for at in ats])
            found |= zip(ats, zip(*made, strict=True), strict=True)
        return [found[at][0] for at in range(len(clips))], [found[at][1] for at in range(len(clips))]


@dataclass(frozen=True, slots=True)
class Fetching:
    """Clips that are being read."""

    fetcher: ClipFetcher
    pixels: Tensor
    reads: list[Callable[[], Part]]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def clips(self) -> tuple[Tensor, Tensor]:
        """Return augmented clips [B, N, C, T, H, W], and which samples [B] are valid. The host waits here."""
        return self.fetcher.finish(self.pixels, self.reads)


class HostCopy:
    """A copy of a small tensor on the host, which is made while the host goes on."""

    def __init__(self, tensor: Tensor) -> None:
        cuda = tensor.device.type == "cuda"
        self._copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=cuda)
        self._copy.copy_(tensor, non_blocking=True)
        self._complete = torch.cuda.current_stream(tensor.device).record_event() if cuda else None

    def values(self) -> list[list[int]]:
        """Return the values. The calling thread waits until the device has computed them."""
        if self._complete is not None:
            self._complete.synchronize()
        return self._copy.tolist()
