"""vtrain bench step and vtrain bench all: the model alone, the loader alone, both; and what is said about them."""

import math
import multiprocessing
import signal
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from small_recipes import METHODS, small
from torch import nn

from vprep.errors import UsageError
from vtrain.bench import report, step
from vtrain.bench.timing import in_parts, speed, timed
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
# Of a batch of 4, those that gradients come from: the other clips of RSPNet and ASCNet are the targets of these.
LEARNED = {"rspnet": 4, "ascnet": 4, "prp": 4, "pace": 8, "supervised": 4}
RATES = ("model", "loader", "together")
VIEWS = {"rspnet": 2, "ascnet": 2, "prp": 1, "pace": 2, "supervised": 1}


def shown(facts: dict[str, Any]) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(step.as_table(facts), markup=False)
    return capture.get()


@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_taken_apart_and_compared_with_the_backbone_alone(method: str) -> None:
    facts = step.step(small(method, Path("none")), seconds=0.05, device="cpu")
    model = facts["model"]
    assert list(model["parts_ms"]) == PARTS
    assert min(model["parts_ms"].values()) > 0
    assert model["videos_per_s"] == pytest.approx(4 / model["step_ms"] * 1e3, rel=1e-3)
    assert model["clips_per_s"] == pytest.approx(VIEWS[method] * model["videos_per_s"], rel=1e-3)
    assert facts["bare"]["clips"] == LEARNED[method]
    assert facts["over_bare"] == pytest.approx(model["step_ms"] / facts["bare"]["ms"], rel=1e-2)
    assert facts["tflop_per_s"] > 0
    assert "as_authors" not in facts  # what it would be on a CPU is of no use to anybody
    assert f"of the {LEARNED[method]} clips it learns from" in shown(facts)


def test_a_step_in_two_parts_has_as_many_clips_and_both_count() -> None:
    whole = step.step(small("pace", Path("none")), seconds=0.05, device="cpu")
    halves = step.step(small("pace", Path("none"), "accumulate=2"), seconds=0.05, device="cpu")
    assert halves["bare"]["clips"] == whole["bare"]["clips"] == 8
    assert halves["model"]["videos_per_s"] == pytest.approx(4 / halves["model"]["step_ms"] * 1e3, rel=1e-3)

    def step_in_parts() -> Iterator[str]:
        yield from ("augment", "forward", "augment", "forward", "optimiser")

    assert list(timed(step_in_parts, 3, CPU)) == ["augment", "forward", "optimiser"]


class DoneError(Exception):
    pass


class StopsAfterOne:
    def after_step(self, run: Run, lr: float, stopping: bool) -> None:
        raise DoneError(lr)


@pytest.mark.parametrize("change", ["accumulate=1", "accumulate=2"])
def test_the_step_that_is_taken_apart_is_the_trainers_own(change: str) -> None:
    recipe = small("rspnet", Path("none"), change, "batch=8", "schedule.warmup=0")
    batch = step.random_batch(recipe, CPU)
    trained, apart = make(recipe, HERE), make(recipe, HERE)
    feed = Feed(repeat(batch), Augment(recipe.method.plan().looks))  # type: ignore[arg-type]
    with pytest.raises(DoneError) as stopped:
        loop(trained, feed, recipe, Length(steps=10, per_epoch=10), StopsAfterOne(), HERE)
    apart.module.train()
    set_lr(apart.optimizer, stopped.value.args[0])
    assert stopped.value.args[0] > 0
    assert [name for name in in_parts(apart, batch, recipe, HERE) if name not in PARTS[:4]] == PARTS[4:]
    for name, value in trained.module.state_dict().items():
        assert torch.equal(apart.module.state_dict()[name], value), name
    assert trained.means.means() == apart.means.means()


@pytest.mark.parametrize("method", METHODS)
def test_the_batch_of_noise_is_what_the_loader_would_hand_over(method: str, shards: Path) -> None:
    recipe = small(method, shards)
    made = step.random_batch(recipe, CPU)
    (real,) = [next(iter(feed_of(recipe, ShardSet.open(shards).select(), None, HERE).loader))]
    for field in fields(Batch):
        ours, theirs = getattr(made, field.name), getattr(real, field.name)
        if field.name in ("targets", "draws"):
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
    ours, theirs = make(recipe, HERE), step.channels_first(make(recipe, HERE))
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
    for _ in in_parts(run, batch, recipe, HERE):
        pass
    return found[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_model_loader_and_both_are_timed_on_the_same_videos(shards: Path, workers: int) -> None:
    before = signal.getsignal(signal.SIGINT)
    recipe = small("rspnet", shards, "batch=8", "accumulate=2")
    facts = step.all(recipe, ShardSet.open(shards).select(), workers=workers, seconds=0.1, device="cpu")
    slower = min(facts[name]["videos_per_s"] for name in ("model", "loader"))
    assert facts["ratio"] == pytest.approx(facts["together"]["videos_per_s"] / slower, rel=1e-2)
    assert all(facts[name]["clips_per_s"] == pytest.approx(2 * facts[name]["videos_per_s"], rel=1e-2) for name in RATES)
    assert 0 < facts["together"]["waited"] < 1
    assert facts["bottleneck"] in ("model", "loader", "processors")
    assert facts["advice"]
    assert (facts["videos"], facts["workers"]) == (30, workers)
    text = shown(facts)
    assert f"loader alone, workers={workers}" in text
    assert f"bottleneck: {facts['bottleneck']}" in text
    assert facts["advice"][0] in text
    assert not multiprocessing.active_children()
    assert signal.getsignal(signal.SIGINT) is before


def test_classes_of_a_supervised_recipe_are_those_of_the_videos(shards: Path) -> None:
    facts = step.all(small("supervised", shards), ShardSet.open(shards).select(), workers=0, seconds=0.02, device="cpu")
    assert facts["model"]["videos_per_s"] > 0


def test_without_time_three_steps_are_taken_of_which_the_last_counts() -> None:
    recipe = small("pace", Path("none"))
    batch, run, place = step.random_batch(recipe, CPU), make(recipe, HERE), replace(HERE, workers=5)
    batches = iter([batch] * 10)
    speed(run, batches, recipe, place, 0.0)
    assert (run.step, len(list(batches))) == (3, 7)


def test_ctrl_c_ends_the_timing() -> None:
    recipe = small("pace", Path("none"))
    batch = step.random_batch(recipe, CPU)

    def batches() -> Iterator[Batch]:
        yield from (batch, batch)
        signal.raise_signal(signal.SIGINT)
        yield from repeat(batch)

    with pytest.raises(KeyboardInterrupt):
        speed(make(recipe, HERE), batches(), recipe, HERE, math.inf)


def test_what_cannot_be_timed_is_one_sentence() -> None:
    with pytest.raises(UsageError) as error:
        step.step(small("pace", Path("none")), seconds=1, device="tpu9")
    assert str(error.value) == "--device is 'tpu9'; there are cpu and cuda"
    with pytest.raises(UsageError) as error:
        step.step(small("pace", Path("none"), "precision=bf16"), seconds=1, device="cpu")
    assert str(error.value).startswith("precision is bf16 on a CPU")


def both(model: float, loader: float, ratio: float, **others: str | int) -> dict[str, Any]:
    """Facts of a machine with 16 processors and a GPU."""
    facts = {"device": "a GPU", "processors": 16, "workers": 4, "precision": "bf16", "ratio": ratio}
    facts |= {"model": {"videos_per_s": model, "parts_ms": {"augment": 1.0, "forward": 9.0}}}
    facts |= {"loader": {"videos_per_s": loader}} | others
    return facts | {"bottleneck": report.bottleneck(facts)}


@pytest.mark.parametrize(
    ("facts", "who", "advice"),
    [
        (both(100, 40, 0.99), "loader", ["the model could take 2.5 times what the loader gives: set workers=10"]),
        (
            both(100, 10, 0.99),
            "loader",
            [
                "the model could take 10 times what the loader gives: set workers=16, though 40 would be needed "
                "to keep up"
            ],
        ),
        (
            both(100, 40, 0.99, workers=16),
            "loader",
            [
                "the model could take 2.5 times what the loader gives, and all 16 processors decode: smaller frames "
                "(vprep shard --size) or more processors help; vtrain bench loader shows where the time goes"
            ],
        ),
        (both(100, 200, 0.99), "model", ["the model is slower than the loader: more workers do not help"]),
        (
            both(100, 200, 0.99, precision="float32"),
            "model",
            [
                "the model is slower than the loader: more workers do not help",
                "the GPU computes in float32: set precision=auto, which takes bf16",
            ],
        ),
        (
            both(100, 200, 0.8, workers=16),
            "model",
            [
                "the model is slower than the loader: more workers do not help",
                "together they reach 80% of the slower one; leave one processor to what feeds the GPU: workers=15",
            ],
        ),
        (
            both(100, 200, 0.8),
            "model",
            [
                "the model is slower than the loader: more workers do not help",
                "together they reach 80% of the slower one; the GPU waits for something else between the steps: "
                "try other numbers of workers",
            ],
        ),
        (
            both(10, 200, 0.7, device="cpu"),
            "processors",
            [
                "network and workers share 16 processors, so together they reach 70% of the slower one: "
                "a GPU helps, or a smaller network"
            ],
        ),
    ],
)
def test_the_bottleneck_is_named_and_what_helps_is_said(facts: dict[str, Any], who: str, advice: list[str]) -> None:
    assert facts["bottleneck"] == who
    assert report.advice_on_both(facts) == advice


def test_augmentation_that_takes_much_of_a_step_is_spoken_of() -> None:
    facts = {"device": "a GPU", "precision": "bf16", "model": {"parts_ms": {"augment": 3.0, "forward": 7.0}}}
    assert report.advice_on_model(facts) == ["augmentation is 30% of a step: leave out what the looks can do without"]


def test_on_a_gpu_the_authors_way_is_told_beside_ours() -> None:
    facts = step.step(small("pace", Path("none")), seconds=0.02, device="cpu")
    found = {"cudnn_default": {"videos_per_s": 50.0, "clips_per_s": 100.0, "times": 3.5}}
    assert (
        "eager, in float32 and channels first, with cuDNN's choice of kernels: 50.0 videos/s; "
        "ours is 3.50 times as fast"
    ) in shown(facts | {"as_authors": found})
    assert "does not fit into this GPU's memory" in shown(facts | {"as_authors": None})
