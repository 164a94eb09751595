"""Between two lines of metrics a training never waits for its device: the host reads no value of a step.

ASCNet's bank is the exception: once for each search the host waits for an event, which tells whose clips are read.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from devices import CPU, needs_gpu, waiting_is_an_error
from host_waits import HostWaits
from small_recipes import METHODS, small
from torch import Tensor, nn

from vtrain.data import Loader
from vtrain.data.augment.apply import Augment
from vtrain.data.fetch import HostCopy
from vtrain.data.shard_set import ShardSet
from vtrain.optim.config import Optim
from vtrain.optim.optimizers import build
from vtrain.recipes.recipe import Length, Recipe, for_classes
from vtrain.training.loop import train as loop
from vtrain.training.run import Place, Run, RunningMeans, targets_of
from vtrain.training.train import make
from vtrain.training.training import let_fetch

STEPS = 2
EVERY = {
    **{method: (method, "optim.name=sgd") for method in METHODS},
    "lars": ("pace", "optim.name=lars"),
    "sgd with nesterov": ("prp", "optim.name=sgd", "optim.nesterov=true"),
    "in two parts": ("rspnet", "batch=8", "accumulate=2"),
    "memory of clips": ("ascnet", "memory=clip"),
    "memory of features": ("ascnet", "memory=feature", "direction=both"),
}


class Batches:
    """A feed of batches that are on the device already."""

    def __init__(self, recipe: Recipe, shards: Path, device: torch.device, run: Run) -> None:
        plan = recipe.method.plan()
        videos = ShardSet.open(shards).select(split="train")
        loader = Loader(videos, plan, batch=recipe.at_a_time(1), seed=recipe.seed)
        self.batches = [one.to(device) for one in islice(loader, STEPS * recipe.accumulate)]
        self.augment = Augment(plan.looks)
        let_fetch(run, recipe, loader, Place(device, torch.float32, 0))

    def __iter__(self) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        for one in self.batches:
            yield self.augment(one.clips, one.augmentation), targets_of(one)


class NoBook:
    """A monitor that never writes."""

    def after_step(self, run: Run, lr: float, stopping: bool) -> None:
        pass


def run_steps(settings: tuple[str, ...], shards: Path, device: torch.device, seen: AbstractContextManager[Any]) -> Run:
    """Run the training's own loop: first some steps that allocate memory and choose kernels, then some under `seen`."""
    method, *changes = settings
    recipe = for_classes(small(method, shards, *changes), 5)
    place = Place(device, torch.bfloat16 if device.type == "cuda" else torch.float32, 0)
    run = make(recipe, place)
    feed = Batches(recipe, shards, device, run)
    for context, steps in ((nullcontext(), STEPS), (seen, 2 * STEPS)):
        with context:
            loop(run, feed, recipe, Length(steps=steps, per_epoch=5), NoBook(), place)  # type: ignore[arg-type]
    assert run.step == 2 * STEPS
    return run


@pytest.mark.parametrize("settings", EVERY.values(), ids=EVERY)
def test_a_step_makes_the_host_wait_for_nothing(settings: tuple[str, ...], shards: Path) -> None:
    waits = HostWaits()
    run_steps(settings, shards, CPU, waits)
    assert waits.found == []


def test_a_wait_in_the_loop_would_be_seen(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunningMeans, "add", lambda self, step, outputs: outputs["loss"].item())
    waits = HostWaits()
    run_steps(("pace", "optim.name=sgd"), shards, CPU, waits)
    assert waits.found == ["_local_scalar_dense"] * STEPS


@pytest.mark.parametrize(
    ("changes", "each_step"), [((), 1), (("direction=both",), 2), (("memory=feature",), 0), (("memory=clip",), 0)]
)
def test_ascnets_bank_alone_waits_and_only_to_learn_whose_clips_to_read(
    changes: tuple[str, ...], each_step: int, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, values = [], HostCopy.values
    monkeypatch.setattr(HostCopy, "values", lambda copy: read.append(copy) or values(copy))
    run_steps(("ascnet", "optim.name=sgd", *changes), shards, torch.device("cpu"), nullcontext())
    assert len(read) == 2 * STEPS * each_step


def test_adamw_reads_nothing_of_a_device() -> None:
    """Except the number of its step, which it keeps on the host. On a meta device, reading is an error."""
    net = nn.Linear(2, 3, device="meta")
    optimiser = build(net, Optim(name="adamw"))
    for _ in range(2):
        net(torch.zeros(4, 2, device="meta")).sum().backward()
        optimiser.step()
    assert [state["step"].device.type for state in optimiser.state.values()] == ["cpu", "cpu"]


@needs_gpu
@pytest.mark.parametrize("settings", [*EVERY.values(), ("pace", "optim.name=adamw")], ids=[*EVERY, "adamw"])
def test_a_step_on_a_gpu_makes_the_host_wait_for_nothing(
    settings: tuple[str, ...], device: torch.device, shards: Path
) -> None:
    run_steps(settings, shards, device, waiting_is_an_error())
