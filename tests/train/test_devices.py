"""A training computes the same on every device: its losses, its weights after a resume, its statistics of batch norm.

A GPU adds in another order, so its losses agree to a tolerance: RELATIVE in float32 without TF32. bf16 rounds
to 8 bits: the losses of two steps agree to HALF, and then the weights differ. Between kinds of CPUs float32 is 7e-7 off
at most; bf16 on a CPU is 0.017 off in the first step and 0.041 in the second.
"""

import io
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

import pytest
import torch
from devices import CPU, GPU, NEEDS_GPU, Trained, comparable, every_device, needs_gpu
from small_recipes import METHODS, assert_same, small

from vtrain.doctor import run_checks
from vtrain.overrides import change
from vtrain.recipes.recipe import Recipe

STEPS, BATCH = 4, 16
RELATIVE, HALF = {"cpu": 1e-5, "cuda": 1e-3}, (0.05, 0.1)
# A rounding to bf16 changes which neighbours the bank of ASCNet finds: by torch on a CPU, up to 11 % of `scp`.
OF_BANK = (0.15, 0.25)
LR = ("schedule.lr=0.001", "schedule.warmup=0")  # small: else a rounding is a hundred times as large some steps later
SMOOTH = ("size=24", "tau=1", "margin=4")  # the published temperature makes a rounding of RSPNet 14 times as large
SAME = {"supervised": ("dropout=0",), "rspnet": SMOOTH}  # a GPU draws other random numbers
VARIANTS = {
    **{method: (method, *SAME.get(method, ())) for method in METHODS},
    "one group of batch norm": ("rspnet", *SMOOTH, "bn_groups=1"),
    "four groups of batch norm": ("rspnet", *SMOOTH, "bn_groups=4"),
    "in two parts": ("rspnet", *SMOOTH, "accumulate=2"),
    "memory of features": ("ascnet", "memory=feature", "direction=both"),
}


def recipe_of(settings: tuple[str, ...], shards: Path, *more: str) -> Recipe:
    method, *own = settings
    return small(method, shards, f"steps={STEPS}", f"batch={BATCH}", *LR, *own, *more)


def assert_near(found: list[dict[str, float]], wanted: list[dict[str, float]], relative: Sequence[float]) -> None:
    """Compare the losses of as many steps as there are tolerances, but no accuracies: they count clips."""
    assert len(found) == len(wanted) == STEPS
    for step, (ours, theirs, most) in enumerate(zip(found, wanted, relative, strict=False)):
        assert ours.keys() == theirs.keys()
        for name in (name for name in theirs if not name.endswith("accuracy") and name != "neighbours"):
            assert ours[name] == pytest.approx(theirs[name], rel=most, abs=1e-6), f"{name} of step {step + 1}"
    assert all(isfinite(number) for numbers in found for number in numbers.values())


@every_device
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_the_losses_of_a_training_from_shards_are_those_of_the_cpu(
    settings: tuple[str, ...], device: torch.device, shards: Path
) -> None:
    recipe = recipe_of(settings, shards, "precision=float32")
    with comparable():
        wanted = Trained(recipe, CPU).go().numbers
        found = Trained(change(recipe, ["workers=1"]), device).go().numbers
    assert_near(found, wanted, STEPS * [RELATIVE[device.type]])


@needs_gpu
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_the_losses_in_bf16_are_near_those_in_float32(
    settings: tuple[str, ...], device: torch.device, shards: Path
) -> None:
    wanted = Trained(recipe_of(settings, shards), CPU).go().numbers
    trained = Trained(recipe_of(settings, shards, "workers=1"), device).go()
    assert trained.training.place.precision == torch.bfloat16
    assert_near(trained.numbers, wanted, OF_BANK if settings == ("ascnet",) else HALF)


@pytest.mark.parametrize(
    ("device", "precision"),
    [(CPU, "float32"), *(pytest.param(GPU, name, marks=NEEDS_GPU) for name in ("float32", "bf16"))],
    ids=str,
)
@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_training_has_the_state_of_an_undisturbed_one_to_the_last_bit(
    method: str, precision: str, device: torch.device, shards: Path
) -> None:
    recipe = small(method, shards, f"steps={STEPS}", f"precision={precision}", "workers=1")
    with comparable(to_the_bit=True):
        wanted = Trained(recipe, device).go()
        stopped, resumed = Trained(recipe, device).go(STEPS // 2), Trained(recipe, device)
        file = io.BytesIO()
        torch.save(stopped.run.state(), file)
        resumed.run.load(torch.load(io.BytesIO(file.getvalue()), map_location="cpu", weights_only=True))
        resumed.go()
    assert stopped.run.step == STEPS // 2
    assert stopped.numbers + resumed.numbers == wanted.numbers
    assert_same(resumed.run.state(), wanted.run.state())


@every_device
def test_the_momentum_copy_moves_in_one_call_to_the_weights_that_the_formula_gives(
    device: torch.device, shards: Path
) -> None:
    trained = Trained(recipe_of(("rspnet",), shards), device).go(1)
    method = trained.run.module
    keep = trained.training.recipe.method.momentum  # type: ignore[attr-defined]
    pairs = list(zip(method.key_backbone.parameters(), method.backbone.parameters(), strict=True))  # type: ignore[operator, union-attr]
    wanted = [keep * copy.double() + (1 - keep) * weight.double() for copy, weight in pairs]
    trained.run.method.after_step(0.5)
    for (copy, _), exact in zip(pairs, wanted, strict=True):
        assert torch.allclose(copy.double(), exact, rtol=1e-5, atol=1e-7)


@needs_gpu  # a CPU takes minutes to compile
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch itself
@pytest.mark.parametrize("method", ["rspnet", "pace"])
def test_a_compiled_training_has_the_losses_of_an_eager_one(method: str, device: torch.device, shards: Path) -> None:
    # Of smaller clips the last map has one position, whose layout the compiler (torch 2.11) and cuDNN see differently.
    recipe = change(recipe_of((method,), shards, "precision=float32"), ["size=32"])
    with comparable():
        wanted = Trained(recipe, device).go().numbers
        found = Trained(change(recipe, ["compile=yes"]), device).go().numbers
    torch.compiler.reset()
    assert_near(found, wanted, STEPS * [RELATIVE[device.type]])


@needs_gpu
def test_the_doctor_finds_a_gpu_that_can_train(device: torch.device) -> None:
    found = {check.name: check for check in run_checks()}
    for name in ("cuda", "cudnn", f"bf16 on {device}", f"channels_last_3d on {device}"):
        assert found[name].ok, found[name]
