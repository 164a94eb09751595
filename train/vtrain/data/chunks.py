"""Chunks of samples, made in a worker, and what is done about samples that are bad.

A bad sample raises, or keeps its slot: another video, drawn from (seed, epoch, key), stands in for it and is marked
as not valid, so all ranks go on with batches of the same size, and any layout with the same ones.
"""

from dataclasses import dataclass
from typing import Literal

from vprep.errors import WorkError
from vtrain.data.batch import Bad, SampleInfo, sample_info
from vtrain.data.dataset import Videos
from vtrain.data.order import Order
from vtrain.data.sampler import Pixels, Planned, Sampler
from vtrain.data.shard_reader import BadSampleError

GROUP = 8  # samples that the disk may fetch at once
TRIES = 16  # at a video that can stand in for a bad one

OnError = Literal["raise", "skip"]


@dataclass(frozen=True, slots=True)
class Task:
    """The positions of a chunk's samples. Those from `end` on only fill up the last batch of a finite pass."""

    positions: range
    end: int | None


class ChunkMaker:
    """Makes chunks of the videos in the order that `order` gives."""

    def __init__(self, videos: Videos, sampler: Sampler, order: Order, on_error: OnError) -> None:
        self._videos = videos
        self._sampler = sampler
        self._order = order
        self._on_error = on_error

    def make(self, task: Task, pixels_MNTHWC: Pixels) -> tuple[SampleInfo, list[Bad]]:
        """Put the pixels of a chunk of M samples where they belong; tell all else of them."""
        drawn = [self._order.at(position) for position in task.positions]
        samples: list[Planned] = []
        bad: list[Bad | None] = []
        for begin in range(0, len(drawn), GROUP):
            some, places = drawn[begin : begin + GROUP], pixels_MNTHWC[begin : begin + GROUP]
            try:
                samples += self._at_once(some, places)
                bad += [None] * len(some)
            except BadSampleError:
                for (epoch, row), place in zip(some, places, strict=True):
                    planned, fault = self._alone(epoch, row, place)
                    samples.append(planned)
                    bad.append(fault)
        wanted = [task.end is None or position < task.end for position in task.positions]
        valid = [fault is None and want for fault, want in zip(bad, wanted, strict=True)]
        return sample_info(samples, valid), [fault for fault in bad if fault is not None]

    def _at_once(self, drawn: list[tuple[int, int]], places: Pixels) -> list[Planned]:
        """Some samples; the disk is told of all of them before the first is read."""
        samples = [self._sampler.plan(epoch, row) for epoch, row in drawn]
        located = [self._sampler.locate(planned) for planned in samples]
        for planned, where, place in zip(samples, located, places, strict=True):
            self._sampler.fill(planned, self._sampler.read(where), place)
        return samples

    def _alone(self, epoch: int, row: int, place: Pixels) -> tuple[Planned, Bad | None]:
        """One sample, or what stands in for it, and why."""
        try:
            return self._at_once([(epoch, row)], place[None])[0], None
        except BadSampleError as error:
            path, key = self._videos.paths[self._videos.shard[row]], self._videos.keys[row].as_py()
            if self._on_error == "raise":
                raise WorkError(
                    f"{path}, video '{key}': {error}; vprep verify {path.parent} says what is damaged, "
                    "and on_error=skip goes on without it"
                ) from None
            planned = self._stand_in(epoch, row, place)
            return planned, Bad(str(path), key, str(error), planned.video.key)

    def _stand_in(self, epoch: int, row: int, place: Pixels) -> Planned:
        for number in range(TRIES):
            try:
                return self._at_once([(epoch, self._sampler.substitute(epoch, row, number))], place[None])[0]
            except BadSampleError:
                continue
        path = self._videos.paths[self._videos.shard[row]]
        raise WorkError(f"{TRIES} videos in a row cannot be used; vprep verify {path.parent} says what is damaged")
