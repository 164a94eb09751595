"""How long things take that a training does again and again: whole steps of its loop, and the parts of one."""

import time
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import cast

import torch

from vtrain.bench.loader import wait_for
from vtrain.data.augment.apply import Augment
from vtrain.data.batch import Batch
from vtrain.data.loader import AHEAD, Loader
from vtrain.recipes.recipe import Length, Recipe
from vtrain.training.loop import Feed
from vtrain.training.loop import train as loop
from vtrain.training.run import NEVER, Place, Run, targets_of

Mark = float | torch.cuda.Event

SKIPPED = 3  # steps, besides the first; also those that the workers have batches for already


def speed(run: Run, batches: Iterable[Batch], recipe: Recipe, place: Place, seconds: float) -> tuple[float, float]:
    """Seconds of a step of the trainer's loop on these batches, and the share of them that it waited for batches."""
    feed = Feed(cast(Loader, batches), Augment(recipe.method.plan().looks))  # it only goes through them
    clock = _Clock(place, seconds, feed)
    try:
        loop(run, feed, recipe, Length(steps=NEVER, per_epoch=NEVER), clock, place)
    except _OverError:
        return clock.spent / clock.count, clock.waited / clock.spent
    raise KeyboardInterrupt  # which the loop has answered by coming back


class _OverError(Exception):
    """What was to be timed has been timed."""


class _Clock:
    """Times what comes again and again; stands where the loop has its book.

    The first step, in which kernels are looked for or compiled, does not count, nor do those after it whose batches
    were made while it lasted. The device is waited for at the beginning and at the end only.
    """

    def __init__(self, place: Place, seconds: float, feed: Feed | None = None) -> None:
        self._phases = [1, SKIPPED + AHEAD * place.workers, NEVER]  # so long each lasts at most
        self._device, self._seconds, self._feed = place.device, seconds, feed
        self._begin()

    def after_step(self, run: Run, lr: float, stopping: bool) -> None:
        if not stopping:
            self.tick()

    def save(self, run: Run) -> None:
        """There is nothing to go on with."""

    def tick(self) -> None:
        self.count += 1
        if self.count < self._phases[0] and time.perf_counter() - self._began < self._seconds:
            return
        wait_for(self._device)
        self.spent, self.waited = time.perf_counter() - self._began, self._all_waited() - self._before
        self._phases.pop(0)
        if not self._phases:
            raise _OverError
        self._begin()

    def _begin(self) -> None:
        self.count = 0
        self._before = self._all_waited()
        self._began = time.perf_counter()

    def _all_waited(self) -> float:
        return self._feed.waited if self._feed is not None else 0.0


def loader_alone(loader: Loader, place: Place, seconds: float) -> float:
    """Seconds until the next batch is on the device, when nobody does anything with it."""
    clock = _Clock(place, seconds)
    try:
        for _ in loader:
            clock.tick()
    except _OverError:
        pass
    return clock.spent / clock.count


def in_parts(run: Run, batch: Batch, recipe: Recipe, place: Place) -> Iterator[str]:
    """A step as the loop takes it, which stops behind each part and says what that was."""
    augment = Augment(recipe.method.plan().looks)
    for _ in range(recipe.accumulate):
        clips_BNCTHW = augment(batch.clips, batch.draws)
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


def timed(step_in_parts: Callable[[], Iterator[str]], rounds: int, device: torch.device) -> dict[str, float]:
    """Milliseconds of each part of a step, by the device's own clock where it has one: medians of the rounds."""
    taken: list[list[tuple[str, Mark, Mark]]] = []
    for _ in range(rounds):
        taken.append([])
        before = _mark(device)
        for name in step_in_parts():
            after = _mark(device)
            taken[-1].append((name, before, after))
            before = after
    wait_for(device)
    sums = [{name: 0.0 for name, _, _ in marks} for marks in taken]
    for marks, spent in zip(taken, sums, strict=True):
        for name, before, after in marks:
            spent[name] += _between(before, after)
    return {name: median(spent[name] for spent in sums) for name in sums[0]}


def _mark(device: torch.device) -> Mark:
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _between(before: Mark, after: Mark) -> float:
    """Milliseconds; of two events once the device has come by both."""
    if isinstance(before, float) or isinstance(after, float):
        return (cast(float, after) - cast(float, before)) * 1e3
    return float(before.elapsed_time(after))
