"""vtrain bench step and vtrain bench all: the model alone, the loader alone, both, and the advice on them."""

import math
import multiprocessing
import signal
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from devices import every_device
from rich.console import Console
from small_recipes import METHODS, small
from torch import nn

from vprep.errors import UsageError
from vprep.signals import Stop
from vtrain.bench import report, step
from vtrain.bench.timing import step_in_parts, time_parts, time_training
from vtrain.data.augment.apply import Augment
from vtrain.data.batch import Batch
from vtrain.data.shard_set import ShardSet
from vtrain.optim.optimizers import set_lr
from vtrain.recipes.recipe import Length, Recipe, for_classes
from vtrain.training.loop import Feed
from vtrain.training.loop import train as loop
from vtrain.training.run import Outputs, Place, Run
from vtrain.training.train import make
from vtrain.training.training import feed_of

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
HERE = Place(CPU, torch.float32, 0)
PARTS = ["augment", "forward", "backward", "sums", "optimiser", "after step"]
# The clips of a batch of 4 that gradients come from; the other clips of RSPNet and ASCNet are their targets.
LEARNED = {"rspnet": 4, "ascnet": 4, "prp": 4, "pace": 8, "supervised": 4}
RATES = ("model", "loader", "together")
VIEWS = {"rspnet": 2, "ascnet": 2, "prp": 1, "pace": 2, "supervised": 1}


def shown(measured: dict[str, Any]) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(step.as_table(measured), markup=False)
    return capture.get()


@every_device
@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_timed_in_parts_and_compared_with_the_backbone_alone(method: str, device: torch.device) -> None:
    measured = step.step(small(method, Path("none")), seconds=0.05, device=str(device))
    model = measured["model"]
    assert list(model["parts_ms"]) == PARTS
    assert min(model["parts_ms"].values()) > 0
    assert model["videos_per_s"] == pytest.approx(4 / model["step_ms"] * 1e3, rel=1e-3)
    assert model["clips_per_s"] == pytest.approx(VIEWS[method] * model["videos_per_s"], rel=1e-3)
    assert measured["bare"]["clips"] == LEARNED[method]
    assert measured["over_bare"] == pytest.approx(model["step_ms"] / measured["bare"]["ms"], rel=1e-2)
    assert measured["tflop_per_s"] > 0
    assert set(measured.get("as_authors", ())) == (set() if device.type == "cpu" else set(report.KERNELS))
    assert f"on the {LEARNED[method]} clips that it learns from" in shown(measured)


def test_an_accumulated_step_has_as_many_clips_and_all_of_its_parts_count() -> None:
    full = step.step(small("pace", Path("none")), seconds=0.05, device="cpu")
    halves = step.step(small("pace", Path("none"), "accumulate=2"), seconds=0.05, device="cpu")
    assert halves["bare"]["clips"] == full["bare"]["clips"] == 8
    assert halves["model"]["videos_per_s"] == pytest.approx(4 / halves["model"]["step_ms"] * 1e3, rel=1e-3)

    def in_parts() -> Iterator[str]:
        yield from ("augment", "forward", "augment", "forward", "optimiser")

    assert list(time_parts(in_parts, CPU, 3)) == ["augment", "forward", "optimiser"]


def test_no_round_begins_after_the_time_is_over_but_the_first() -> None:
    rounds = []

    def in_parts() -> Iterator[str]:
        rounds.append(1)
        time.sleep(0.05)
        yield "sleep"

    assert 40 < time_parts(in_parts, CPU, 9, seconds=0)["sleep"] < 5000
    assert len(rounds) == 1
    time_parts(in_parts, CPU, 3)
    assert len(rounds) == 4


class DoneError(Exception):
    pass


class StopsAfterOne:
    def after_step(self, run: Run, lr: float, stopping: bool) -> None:
        raise DoneError(lr)


@pytest.mark.parametrize("change", ["accumulate=1", "accumulate=2"])
def test_the_step_that_is_timed_in_parts_is_the_trainers_own(change: str) -> None:
    recipe = small("rspnet", Path("none"), change, "batch=8", "schedule.warmup=0")
    batch = step.random_batch(recipe, CPU)
    trained, apart = make(recipe, HERE), make(recipe, HERE)
    feed = Feed(repeat(batch), Augment(recipe.method.plan().looks))  # type: ignore[arg-type]
    with pytest.raises(DoneError) as stopped:
        loop(trained, feed, recipe, Length(steps=10, per_epoch=10), StopsAfterOne(), HERE)
    apart.module.train()
    set_lr(apart.optimizer, stopped.value.args[0])
    assert stopped.value.args[0] > 0
    assert [name for name in step_in_parts(apart, batch, recipe, HERE) if name not in PARTS[:4]] == PARTS[4:]
    for name, value in trained.module.state_dict().items():
        assert torch.equal(apart.module.state_dict()[name], value), name
    assert trained.means.means() == apart.means.means()


@pytest.mark.parametrize("method", METHODS)
def test_the_batch_of_noise_is_like_the_loaders(method: str, shards: Path) -> None:
    recipe = small(method, shards)
    made = step.random_batch(recipe, CPU)
    (real,) = [next(iter(feed_of(recipe, ShardSet.open(shards).select(), None, HERE).loader))]
    for field in fields(Batch):
        ours, theirs = getattr(made, field.name), getattr(real, field.name)
        if field.name in ("targets", "augmentation"):
            assert like(ours) == like(theirs)
        elif field.name == "clips":
            assert (ours.dtype, ours.shape[:3], ours.shape[5]) == (theirs.dtype, theirs.shape[:3], 3)
        elif isinstance(ours, torch.Tensor):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), field.name


def like(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize("method", METHODS)
def test_channels_first_changes_the_layout_everywhere_and_the_numbers_nowhere(method: str) -> None:
    recipe = for_classes(small(method, Path("none"), "seed=3"), 5)
    batch = step.random_batch(recipe, CPU)
    ours, theirs = step.made(recipe, HERE), step.channels_first(step.made(recipe, HERE))
    ours.module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    seen = []

    def note(net: nn.Module, args: tuple[torch.Tensor]) -> None:
        seen.append(args[0].is_contiguous() and net.weight.is_contiguous())

    for module in theirs.module.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_pre_hook(note)
            assert getattr(module, "kernels", "3d") == "3d"
    losses = [once(run, batch, recipe) for run in (ours, theirs)]
    assert len(seen) >= 8
    assert all(seen)
    for name, value in losses[0].items():
        assert losses[1][name].item() == pytest.approx(value.item(), rel=1e-3, abs=1e-4), name


def once(run: Run, batch: Batch, recipe: Recipe) -> Outputs:
    found: list[Outputs] = []
    torch.manual_seed(0)
    run.module.train()
    run.module.register_forward_hook(lambda module, args, outputs: found.append(outputs))
    for _ in step_in_parts(run, batch, recipe, HERE):
        pass
    return found[0]


@every_device
@pytest.mark.parametrize("workers", [0, 1])
def test_model_loader_and_both_are_timed_on_the_same_videos(workers: int, device: torch.device, shards: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    recipe = small("rspnet", shards, "batch=8", "accumulate=2")
    measured = step.all(recipe, ShardSet.open(shards).select(), workers=workers, seconds=0.1, device=str(device))
    slower = min(measured[name]["videos_per_s"] for name in ("model", "loader"))
    assert measured["ratio"] == pytest.approx(measured["together"]["videos_per_s"] / slower, rel=1e-2)
    assert all(
        measured[name]["clips_per_s"] == pytest.approx(2 * measured[name]["videos_per_s"], rel=1e-2) for name in RATES
    )
    assert 0 < measured["together"]["waited"] < 1
    assert measured["bottleneck"] in ("model", "loader", "processors")
    assert measured["advice"]
    assert (measured["videos"], measured["workers"]) == (30, workers)
    text = shown(measured)
    assert f"loader alone, workers={workers}" in text
    assert f"bottleneck: {measured['bottleneck']}" in text
    assert measured["advice"][0] in text
    assert not multiprocessing.active_children()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_benchmark_leaves_the_random_numbers_of_the_program_as_they_were() -> None:
    before = torch.get_rng_state()
    step.step(small("pace", Path("none")), seconds=0.02, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_classes_of_a_supervised_recipe_are_those_of_the_videos(shards: Path) -> None:
    measured = step.all(
        small("supervised", shards), ShardSet.open(shards).select(), workers=0, seconds=0.02, device="cpu"
    )
    assert measured["model"]["videos_per_s"] > 0


def test_without_time_three_steps_are_taken_and_the_last_counts() -> None:
    recipe = small("pace", Path("none"))
    batch, run, place = step.random_batch(recipe, CPU), make(recipe, HERE), replace(HERE, workers=5)
    batches = iter([batch] * 10)
    time_training(run, batches, recipe, place, 0.0)
    assert (run.step, len(list(batches))) == (3, 7)


def test_ctrl_c_ends_the_timing() -> None:
    recipe = small("pace", Path("none"))
    batch = step.random_batch(recipe, CPU)

    def batches() -> Iterator[Batch]:
        yield from (batch, batch)
        signal.raise_signal(signal.SIGINT)
        yield from repeat(batch)

    with pytest.raises(Stop):
        time_training(make(recipe, HERE), batches(), recipe, HERE, math.inf)


def test_what_cannot_be_timed_is_refused_in_one_sentence() -> None:
    with pytest.raises(UsageError) as error:
        step.step(small("pace", Path("none")), seconds=1, device="tpu9")
    assert str(error.value).startswith("there is no device 'tpu9' (")
    with pytest.raises(UsageError) as error:
        step.step(small("pace", Path("none"), "precision=bf16"), seconds=1, device="cpu")
    assert str(error.value).startswith("precision is bf16 on a CPU")


def both(model: float, loader: float, ratio: float, **others: str | int) -> dict[str, Any]:
    """Return what would be measured on a machine with 16 processors and a GPU."""
    measured = {"device": "a GPU", "processors": 16, "workers": 4, "precision": "bf16", "ratio": ratio}
    measured |= {"model": {"videos_per_s": model, "parts_ms": {"augment": 1.0, "forward": 9.0}}}
    measured |= {"loader": {"videos_per_s": loader}} | others
    return measured | {"bottleneck": report.bottleneck(measured)}


@pytest.mark.parametrize(
    ("measured", "who", "advice"),
    [
        (both(100, 40, 0.99), "loader", ["the model is 2.5 times as fast as the loader: set workers=10"]),
        (
            both(100, 10, 0.99),
            "loader",
            ["the model is 10 times as fast as the loader: set workers=16; 40 workers would keep up"],
        ),
        (
            both(100, 40, 0.99, workers=16),
            "loader",
            [
                "the model is 2.5 times as fast as the loader, and all 16 processors decode already: use smaller "
                "frames (vprep shard --size) or more processors; vtrain bench loader shows which stage is slow"
            ],
        ),
        (both(100, 200, 0.99), "model", ["the model is slower than the loader: more workers do not help"]),
        (
            both(100, 200, 0.99, precision="float32"),
            "model",
            [
                "the model is slower than the loader: more workers do not help",
                "the GPU computes in float32: set precision=auto for bf16",
            ],
        ),
        (
            both(100, 200, 0.8, workers=16),
            "model",
            [
                "the model is slower than the loader: more workers do not help",
                "together they reach 80% of the slower one's speed; leave one processor to the process that feeds the "
                "GPU: set workers=15",
            ],
        ),
        (
            both(100, 200, 0.8),
            "model",
            [
                "the model is slower than the loader: more workers do not help",
                "together they reach 80% of the slower one's speed; something else delays the steps: try other numbers "
                "of workers",
            ],
        ),
        (
            both(10, 200, 0.7, device="cpu"),
            "processors",
            [
                "the network and the workers share 16 processors and together reach 70% of the slower one's speed: "
                "use a GPU or a smaller network"
            ],
        ),
    ],
)
def test_the_bottleneck_is_named_with_advice(measured: dict[str, Any], who: str, advice: list[str]) -> None:
    assert measured["bottleneck"] == who
    assert report.advice_on_both(measured) == advice


def test_augmentation_that_takes_much_of_a_step_is_mentioned() -> None:
    measured = {"device": "a GPU", "precision": "bf16", "model": {"parts_ms": {"augment": 3.0, "forward": 7.0}}}
    assert report.advice_on_model(measured) == [
        "augmentation takes 30% of a step: leave out augmentations that are not needed"
    ]


def test_on_a_gpu_the_output_compares_with_the_way_published_code_runs() -> None:
    measured = step.step(small("pace", Path("none")), seconds=0.02, device="cpu")
    found = {"cudnn_default": {"videos_per_s": 50.0, "clips_per_s": 100.0, "times": 3.5}}
    assert (
        "as published code runs (eager, float32, channels first), with cuDNN's choice of kernels: 50.0 videos/s; "
        "ours is 3.50 times as fast"
    ) in shown(measured | {"as_authors": found})
    assert "does not fit into this GPU's memory" in shown(measured | {"as_authors": None})
