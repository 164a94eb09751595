"""Between the steps of a training: log the numbers, measure on held-out videos and save the state, each when due."""

import resource
import sys
import time
from collections.abc import Callable
from math import inf
from typing import Any

import torch

from vprep.errors import WorkError
from vtrain import run_folder
from vtrain.distributed import rank
from vtrain.meeting import wait_for_all
from vtrain.training.advice import Waiting
from vtrain.training.log import Metrics, StepProgress, note
from vtrain.training.loop import Feed
from vtrain.training.run import Observation, Run
from vtrain.training.save_clock import SaveClock
from vtrain.training.training import Training


class Monitor:
    """Called after each step of a training: logs, validates and saves when due.

    All ranks take the same decisions; the first rank writes.
    """

    def __init__(
        self, training: Training, feed: Feed, *, first: int, validate: Observation | None, watch: Observation | None,
        on_keep: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.recipe, self.length = training.folder, training.recipe, training.length
        self.feed, self._again = feed, training.again
        self.last: dict[str, Any] = {}  # the numbers of the last line
        self._info, self._device = training.info.as_dict(), training.place.device
        self._validate, self._watch, self._on_keep = validate, watch, on_keep
        self._metrics = Metrics(self.folder / run_folder.METRICS, first) if rank() == 0 else None
        self.progress = StepProgress(first, self.length.steps, self.length.per_epoch)
        self._since = (time.perf_counter(), first, 0.0)  # of the last line: time, step and seconds waited so far
        self._paused = 0.0
        self._save_clock = SaveClock(self.recipe.save_minutes)
        self._waiting = Waiting(training.place, lambda: feed.waited)

    def after_step(self, run: Run, lr: float, stopping: bool) -> None:
        last = run.step == self.length.steps
        measured = self._measured(run)
        best = self._is_best(run, measured)
        logged = run.step % self.recipe.log_every == 0
        if measured or last or logged:
            self._write(run, lr, measured)
        timed = self._save_clock.due(may_wait=logged)
        keep = self.recipe.keep_every > 0 and run.step % self.recipe.keep_every == 0
        if last or stopping or keep or best or timed or run.step % self.recipe.save_every == 0:
            self.save(run, keep, best)
        if rank() == 0:
            self.progress.move(run.step)
            note(self._waiting.after_step())

    def close(self) -> None:
        if self._metrics is not None:
            self._metrics.close()

    def _measured(self, run: Run) -> dict[str, float]:
        """Return the measurements that are due, on videos that the network does not learn from."""
        measured: dict[str, float] = {}
        began = time.perf_counter()
        if self._validate is not None and self.length.due(run.step, self.recipe.validate.every):
            found = self._validate(run)
            run.validation_losses.append(found["loss"])
            measured |= {f"held_out_{name}": value for name, value in found.items()}
        if self._watch is not None and self.length.due(run.step, self.recipe.watch.every):
            measured |= {f"watch_{name}": value for name, value in self._watch(run).items()}
        if self.recipe.best_metric == "epoch_loss" and self.length.ends(run.step):
            measured["epoch_loss"] = run.means.end_epoch()
        self._paused += time.perf_counter() - began
        return measured

    def _is_best(self, run: Run, measured: dict[str, float]) -> bool:
        """Return whether this epoch is the best so far, and note it in `run`. Of equal epochs the first is the best."""
        value = measured.get(self.recipe.best_metric, inf)
        is_best = value < (inf if run.best is None else run.best.value)
        if is_best:
            run.best = run_folder.Best(by=self.recipe.best_by, value=value, step=run.step)
        return is_best

    def _write(self, run: Run, lr: float, measured: dict[str, float]) -> None:
        self._refuse_nan(run)
        run.share_bad()
        means = run.means.means()
        run.means.clear()
        (then, step, waited), now = self._since, time.perf_counter()
        seconds = max(now - then - self._paused, 1e-9)
        self.last = {
            "step": run.step,
            "epoch": round(self.length.epoch(run.step), 4),
            **means,
            "lr": lr,
            **measured,
            "clips_per_s": round((run.step - step) * self.recipe.batch / seconds, 2),
            "wait": round(min(1.0, (self.feed.waited - waited) / seconds), 4),
            "memory_mb": memory_mb(self._device),
            "skipped": len(run.bad),
        }
        self._since, self._paused = (now, run.step, self.feed.waited), 0.0
        if self._metrics is not None:
            self._write_line(self._metrics)
            self.progress.numbers(run.step, self.last)

    def _write_line(self, metrics: Metrics) -> None:
        try:
            metrics.write(self.last)
        except OSError as error:
            raise WorkError(
                f"{self.folder / run_folder.METRICS} cannot be written ({run_folder.reason(error)}); "
                f"{run_folder.standing(self.folder)}: fix that and {self._again}"
            ) from None

    def save(self, run: Run, keep: bool = False, best: bool = False) -> None:
        began = time.perf_counter()
        self._refuse_nan(run)
        state = {**self._info, "epochs": round(self.length.epoch(run.step), 4), **run.state()}
        if rank() == 0:
            run_folder.save(self.folder, state, keep=keep, best=best, again=self._again)
            if keep and self._on_keep is not None:
                self._on_keep()
        if keep and self._on_keep is not None:
            wait_for_all()  # it may take longer than an exchange of tensors may wait
        self._save_clock.saved()
        self._paused += time.perf_counter() - began

    def _refuse_nan(self, run: Run) -> None:
        step = run.means.bad_step()
        if step is None and not run.finite():
            step = run.step - 1  # at the latest
        if step is not None:
            raise WorkError(
                f"the loss or the weights are not finite since step {step}; {run_folder.standing(self.folder)}: "
                "lower schedule.lr or add schedule.warmup"
            )


def memory_mb(device: torch.device) -> int:
    """Return the largest memory use so far in MB: of the GPU, or without a GPU of this process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
