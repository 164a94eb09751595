"""The training loop. It knows no method: a step's loss is computed in `methods/`, and `run` holds what changes.

B batch   N views   C channels   T frames   H height   W width
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from vtrain.data.augment.apply import Augment
from vtrain.data.fetch import ClipFetcher
from vtrain.data.loader import Loader
from vtrain.data.order import seed_from
from vtrain.data.workers import WorkerKilledError
from vtrain.distributed import rank, world
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


class Monitor(Protocol):
    """Called after each step: logs, validates and saves when due."""

    def after_step(self, run: Run, lr: float, stopping: bool) -> None: ...

    def save(self, run: Run) -> None: ...


def train(run: Run, feed: Feed, recipe: Recipe, length: Length, monitor: Monitor, place: Place) -> bool:
    """Train `run` to its last step and return True; return False when it was asked to stop before."""
    schedule, batches = recipe.schedule.at_batch(recipe.batch), iter(feed)
    run.module.train()
    with stop_asked() as asked:
        while run.step < length.steps:
            planned = length.planned(run.step)
            lr = schedule.lr_at(run.step, length.per_epoch, planned, run.validation_losses)
            set_lr(run.optimizer, lr)

            for left in reversed(range(recipe.accumulate)):
                try:
                    clips_BNCTHW, targets = next(batches)
                except WorkerKilledError:
                    # A scheduler ends all processes of a job, the workers too, and the last save may be long ago.
                    if not asked or world() > 1 or left != recipe.accumulate - 1:
                        raise
                    monitor.save(run)
                    return False
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

            stopping = agreed(asked, run.step % recipe.log_every == 0)
            monitor.after_step(run, lr, stopping)
            if stopping:
                return run.step == length.steps
    return True


@contextmanager
def stop_asked() -> Iterator[list[str]]:
    """Yield a list into which Ctrl-C and SIGTERM write their names. A second Ctrl-C ends the process at once."""
    asked: list[str] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(signal.Signals(number).name)

    # Python delivers signals to the main thread only.
    main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def agreed(asked: list[str], now: bool) -> bool:
    """Return whether to stop. Several processes ask each other only when `now`, all after the same step."""
    if world() == 1 or not now:
        return bool(asked) and world() == 1
    device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    flag = torch.tensor(len(asked), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag.item())
