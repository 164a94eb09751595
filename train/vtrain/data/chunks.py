"""Make chunks of samples in a worker, and handle bad samples.

A bad sample raises an error, or another video takes its slot. That video is drawn from (seed, epoch, key) and marked
as not valid. So all ranks continue with batches of the same size, which do not depend on ranks and workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vprep.errors import WorkError
from vtrain.data.batch import Bad, SampleInfo, sample_info
from vtrain.data.cache.ahead import Ahead
from vtrain.data.dataset import Videos
from vtrain.data.order import Order
from vtrain.data.sampler import Pixels, PlannedSample, Sampler
from vtrain.data.shard_reader import BadSampleError

READ_AHEAD = 8  # samples that the system is asked to read from disk at once
MOST_SUBSTITUTES = 16  # videos that are tried in the slot of a bad one

OnError = Literal["raise", "skip"]


@dataclass(frozen=True, slots=True)
class Task:
    """The positions of a chunk's samples. Positions from `end` on only fill up the last batch of a finite pass."""

    positions: range
    end: int | None


class SampleMaker:
    """Makes samples of videos that are named by their rows, and replaces bad ones."""

    def __init__(self, videos: Videos, sampler: Sampler, on_error: OnError) -> None:
        self._videos = videos
        self._sampler = sampler
        self._on_error = on_error

    def make(
        self, videos: Sequence[tuple[object, int]], slots_MNTHWC: Sequence[Pixels]
    ) -> tuple[list[PlannedSample], list[Bad | None]]:
        """Write the pixels of M videos, each given by epoch and row; return their samples, and the fault of each."""
        samples: list[PlannedSample] = []
        faults: list[Bad | None] = []
        for begin in range(0, len(videos), READ_AHEAD):
            group, slots = videos[begin : begin + READ_AHEAD], slots_MNTHWC[begin : begin + READ_AHEAD]
            try:
                samples += self._samples(group, slots)
                faults += [None] * len(group)
            except BadSampleError:
                for (epoch, row), slot in zip(group, slots, strict=True):
                    planned, fault = self._sample_or_substitute(epoch, row, slot)
                    samples.append(planned)
                    faults.append(fault)
        return samples, faults

    def _samples(self, videos: Sequence[tuple[object, int]], slots: Sequence[Pixels]) -> list[PlannedSample]:
        """Make several samples; the system is asked for the bytes of all of them before the first is read."""
        samples = [self._sampler.plan(epoch, row) for epoch, row in videos]
        self._sampler.begin([planned.row for planned in samples])
        located = [self._sampler.locate(planned) for planned in samples]
        for planned, where, slot in zip(samples, located, slots, strict=True):
            self._sampler.fill(planned, self._sampler.read(where), slot)
        return samples

    def _sample_or_substitute(self, epoch: object, row: int, slot: Pixels) -> tuple[PlannedSample, Bad | None]:
        """Make one sample. If it is bad, raise, or return a sample of another video together with the fault."""
        try:
            return self._samples([(epoch, row)], [slot])[0], None
        except BadSampleError as error:
            number, key = int(self._videos.shard[row]), self._videos.keys[row].as_py()
            name = self._videos.name_of(number)
            if self._on_error == "raise":
                raise WorkError(
                    f"{name}, video '{key}': {error}; find what is damaged with: vprep verify "
                    f"{self._videos.set_of(number)}, "
                    "or skip bad videos with: data.on_error=skip (veval: --skip-bad)"
                ) from None
            planned = self._substitute(epoch, row, slot)
            return planned, Bad(name, key, str(error), planned.video.key)

    def _substitute(self, epoch: object, row: int, slot: Pixels) -> PlannedSample:
        for number in range(MOST_SUBSTITUTES):
            try:
                return self._samples([(epoch, self._sampler.substitute(epoch, row, number))], [slot])[0]
            except BadSampleError:
                continue
        folder = self._videos.set_of(int(self._videos.shard[row]))
        raise WorkError(
            f"{MOST_SUBSTITUTES} videos in a row cannot be used; find what is damaged with: vprep verify {folder}"
        )


class ChunkMaker:
    """Makes chunks of the videos at given positions of `order`."""

    def __init__(
        self, videos: Videos, sampler: Sampler, order: Order, on_error: OnError, ahead: Ahead | None = None
    ) -> None:
        self._samples = SampleMaker(videos, sampler, on_error)
        self._order = order
        self._ahead = ahead

    def make(self, task: Task, pixels_MNTHWC: Pixels) -> tuple[SampleInfo, list[Bad]]:
        """Write the pixels of the task's M samples; return everything else about them, and the bad videos."""
        if self._ahead is not None:
            self._ahead.reach(task.positions.start)
        videos = [self._order.at(position) for position in task.positions]  # epoch and row of each
        samples, faults = self._samples.make(videos, list(pixels_MNTHWC))
        wanted = [task.end is None or position < task.end for position in task.positions]
        valid = [fault is None and want for fault, want in zip(faults, wanted, strict=True)]
        return sample_info(samples, valid), [fault for fault in faults if fault is not None]
