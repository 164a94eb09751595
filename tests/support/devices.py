"""The devices that a test runs on: the CPU, and a GPU where there is one; and trainings that compute the same on both.

`pytest -m gpu` runs the tests that need a GPU.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from vtrain.recipes.recipe import Recipe
from vtrain.training.loop import train as loop
from vtrain.training.run import Run
from vtrain.training.train import make
from vtrain.training.training import Training

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS computes the same twice only with it

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
NEEDS_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))
ON_GPU = pytest.param(GPU, marks=NEEDS_GPU, id="cuda")
needs_gpu = pytest.mark.parametrize("device", [ON_GPU])
every_device = pytest.mark.parametrize("device", [pytest.param(CPU, id="cpu"), ON_GPU])


@contextmanager
def comparable(*, to_the_bit: bool = False) -> Iterator[None]:
    """Compute in float32 without TF32 while the block runs; and `to_the_bit` in the same order each time, too."""
    before = torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=to_the_bit, allow_tf32=False)
    torch.use_deterministic_algorithms(to_the_bit)
    try:
        with cudnn:
            yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Let an operation for which the host waits for a GPU raise an error while the block runs."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Recorder:
    """A monitor that keeps the numbers of each step, and stops a training after step `last`."""

    def __init__(self, last: int | None = None) -> None:
        self.numbers: list[dict[str, float]] = []
        self._last = last

    def after_step(self, run: Run, lr: float, stopping: bool) -> None:
        self.numbers.append(run.means.means())
        run.means.clear()
        if run.step == self._last:
            raise StoppedError

    def save(self, run: Run) -> None:
        """Do nothing."""


class StoppedError(Exception):
    """Ends a training."""


class Trained:
    """A training from shards on a device. `numbers` has those of each step."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.training = Training.open(recipe, device, Path("not written"))
        self.run = make(self.training.recipe, self.training.place)
        self.numbers: list[dict[str, float]] = []

    def go(self, last: int | None = None) -> "Trained":
        """Train from the run's step to step `last`, or to the end."""
        recorder, training = Recorder(last), self.training
        with suppress(StoppedError):
            loop(self.run, training.feed(self.run), training.recipe, training.length, recorder, training.place)
        self.numbers += recorder.numbers
        return self
