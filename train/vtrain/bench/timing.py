"""Measure repeated work: the steps of a loop, and the parts of one step."""

import time
from collections.abc import Callable, Iterable, Iterator
from math import inf
from statistics import median
from typing import cast

import torch

from vprep.signals import Stop
from vtrain.data.augment.apply import Augment
from vtrain.data.batch import Batch
from vtrain.data.buffers import PREFETCHED
from vtrain.data.loader import Loader
from vtrain.machine import wait_for
from vtrain.recipes.recipe import Length, Recipe
from vtrain.training.loop import Feed
from vtrain.training.loop import train as loop
from vtrain.training.run import NEVER, Place, Run, targets_of

Mark = float | torch.cuda.Event

SKIPPED = 3  # steps that do not count after the first, besides those whose batches the workers had ready


class MeasuredError(Exception):
    """Ends a loop when its time has been measured."""


class Clock:
    """Measures how long the steps of a loop take: the loop calls `tick` after each.

    Three phases follow each other. The first step does not count, because kernels are chosen or compiled in it. The
    steps after it do not count either, because their batches were read while it ran. The third phase is measured. The
    clock waits for the device only where a phase ends. `tick` ends the last phase with a MeasuredError.
    """

    def __init__(self, device: torch.device, workers: int, seconds: float, feed: Feed | None = None) -> None:
        self._most = [1, SKIPPED + PREFETCHED * workers, NEVER]  # steps of each phase
        self._device, self._seconds, self._feed = device, seconds, feed
        self.first = 0.0  # seconds of the first step
        self._begin()

    def after_step(self, run: Run, lr: float, stopping: bool) -> None:
        """Tick, as the monitor of a training loop."""
        if not stopping:
            self.tick()

    def tick(self) -> None:
        self._count += 1
        if self._count < self._most[0] and time.perf_counter() - self._began < self._seconds:
            return
        wait_for(self._device)
        spent = time.perf_counter() - self._began
        self.seconds, self.waited = spent / self._count, (self._all_waited() - self._waited_before) / spent
        self.first = self.first or spent
        self._most.pop(0)
        if not self._most:
            raise MeasuredError
        self._begin()

    def _begin(self) -> None:
        self._count = 0
        self._waited_before = self._all_waited()
        self._began = time.perf_counter()

    def _all_waited(self) -> float:
        return self._feed.waited if self._feed is not None else 0.0


def time_training(
    run: Run, batches: Iterable[Batch], recipe: Recipe, place: Place, seconds: float
) -> tuple[float, float]:
    """Return the seconds per step of the training loop on these batches, and the share spent waiting for batches."""
    # A Feed only iterates over them.
    feed = Feed(cast(Loader, batches), Augment(recipe.method.plan().looks), run.fetch)
    clock = Clock(place.device, place.workers, seconds, feed)
    try:
        stopped_by = loop(run, feed, recipe, Length(steps=NEVER, per_epoch=NEVER), clock, place)
    except MeasuredError:
        return clock.seconds, clock.waited
    raise Stop(stopped_by)  # the loop returns only when it was asked to stop


def time_loader(loader: Loader, device: torch.device, workers: int, seconds: float) -> tuple[float, float]:
    """Return the seconds per batch of a loader whose batches are not used, and the seconds until its first batch."""
    clock = Clock(device, workers, seconds)
    try:
        for _ in loader:
            clock.tick()
    except MeasuredError:
        pass
    return clock.seconds, clock.first


def step_in_parts(run: Run, batch: Batch, recipe: Recipe, place: Place) -> Iterator[str]:
    """Take a step as the training loop does, and yield the name of each part after it."""
    augment = Augment(recipe.method.plan().looks)
    for _ in range(recipe.accumulate):
        clips_BNCTHW = augment(batch.clips, batch.augmentation)
        yield "augment"
        with place.autocast():
            outputs = run.model(clips_BNCTHW, targets_of(batch))
        yield "forward"
        (outputs["loss"] / recipe.accumulate).backward()
        yield "backward"
        run.means.add(run.step, outputs)
        yield "sums"
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    yield "optimiser"
    run.step += 1
    run.method.after_step(0.0)
    yield "after step"


def time_parts(
    in_parts: Callable[[], Iterator[str]], device: torch.device, rounds: int, seconds: float = inf
) -> dict[str, float]:
    """Return the milliseconds of each part, the median of the rounds; no round begins after `seconds`.

    A part ends where `in_parts` yields its name; parts of the same name add up. On a GPU the times are the GPU's own.
    """
    marks: list[list[tuple[str, Mark, Mark]]] = []
    end = time.perf_counter() + seconds
    while len(marks) < rounds and not (marks and time.perf_counter() > end):
        marks.append([])
        before = _mark(device)
        for name in in_parts():
            after = _mark(device)
            marks[-1].append((name, before, after))
            before = after
    wait_for(device)
    sums = [{name: 0.0 for name, _, _ in marks_of_round} for marks_of_round in marks]
    for marks_of_round, spent in zip(marks, sums, strict=True):
        for name, before, after in marks_of_round:
            spent[name] += _between(before, after)
    return {name: median(spent[name] for spent in sums) for name in sums[0]}


def _mark(device: torch.device) -> Mark:
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _between(before: Mark, after: Mark) -> float:
    """Return milliseconds between two marks that the device has passed."""
    if isinstance(before, float) or isinstance(after, float):
        return (cast(float, after) - cast(float, before)) * 1e3
    return float(before.elapsed_time(after))
