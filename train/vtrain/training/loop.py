"""The training loop. It knows no method: a step's loss is computed in `methods/`, and `run` holds what changes.

B batch   N views   C channels   T frames   H height   W width
"""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor

from vprep.signals import deferred
from vtrain.data.augment.apply import Augment
from vtrain.data.fetch import ClipFetcher
from vtrain.data.loader import Loader
from vtrain.data.order import seed_from
from vtrain.data.workers import WorkerKilledError
from vtrain.distributed import Vote, rank
from vtrain.optim.optimizers import set_lr
from vtrain.recipes.recipe import Length, Recipe
from vtrain.training.outputs import compiler_errors_named, errors_named, with_loss
from vtrain.training.run import Place, Run, targets_of


class Feed:
    """Augmented clips with their targets; `fetch` reads further clips, for a method that chooses them within a step."""

    def __init__(self, loader: Loader, augment: Augment, fetch: ClipFetcher | None = None) -> None:
        self.loader = loader
        self.augment = augment
        self.fetch = fetch
        self._waited = 0.0

    @property
    def waited(self) -> float:
        """The seconds that the training waited for clips so far."""
        return self._waited + (self.fetch.waited if self.fetch is not None else 0.0)

    def __iter__(self) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        batches = iter(self.loader)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - began
            if batch is None:
                return
            if self.fetch is not None:
                self.fetch.batch = batch.position
            yield self.augment(batch.clips, batch.augmentation), targets_of(batch)

    def without_workers(self) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Return the batches that follow the last one, read in this process."""
        self.loader.workers = 0
        return iter(self)


class Monitor(Protocol):
    """Called after each step: logs, validates and saves when due."""

    def after_step(self, run: Run, lr: float, stopping: bool) -> None: ...


def train(run: Run, feed: Feed, recipe: Recipe, length: Length, monitor: Monitor, place: Place) -> int:
    """Train `run` to its last step and return 0, or the number of the signal that stopped it, saved, before."""
    schedule = recipe.schedule.at_batch(recipe.batch)
    run.module.train()
    with deferred() as asked, Vote(asked, place.device) as vote:
        batches = _Batches(feed, asked)
        while run.step < length.steps:
            planned = length.planned(run.step)
            lr = schedule.lr_at(run.step, length.per_epoch, planned, run.validation_losses)
            set_lr(run.optimizer, lr)

            for left in reversed(range(recipe.accumulate)):
                clips_BNCTHW, targets = batches.next()
                # After the loader, which draws a number when it starts its workers.
                torch.manual_seed(seed_from(recipe.seed, "step", run.step, left, rank()))
                with run.alone() if left else nullcontext(), compiler_errors_named(recipe.compile == "yes"):
                    with place.autocast(), errors_named("forward", recipe.method_name):
                        outputs = with_loss(run.model(clips_BNCTHW, targets), recipe.method_name)
                    (outputs["loss"] / recipe.accumulate).backward()  # type: ignore[no-untyped-call]
                run.means.add(run.step, outputs)

            run.optimizer.step()
            run.optimizer.zero_grad(set_to_none=True)
            run.step += 1
            run.method.after_step(run.step / planned)

            stopped_by = vote.result()
            monitor.after_step(run, lr, stopped_by > 0)
            if stopped_by:
                return 0 if run.step == length.steps else stopped_by
    return 0


class _Batches:
    """The batches of a feed. They still come when the training was asked to stop and its workers have ended.

    A scheduler ends all processes of a job, the workers too, and the last save may be long ago.
    """

    def __init__(self, feed: Feed, asked: list[int]) -> None:
        self._feed, self._asked = feed, asked
        self._batches = iter(feed)

    def next(self) -> tuple[Tensor, dict[str, Tensor]]:
        try:
            return next(self._batches)
        except WorkerKilledError:
            if not self._was_asked():
                raise
        self._batches = self._feed.without_workers()
        return next(self._batches)

    def _was_asked(self) -> bool:
        """Return whether the training was asked to stop, or is so now: the workers may have heard it earlier."""
        if not self._asked:
            time.sleep(0.5)
        return bool(self._asked)
