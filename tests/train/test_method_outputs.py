"""A method from outside whose code is wrong is refused in one sentence that says what to correct, and where."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from vprep.errors import UsageError, WorkError
from vtrain import recipes
from vtrain.backbones import Backbone
from vtrain.data.sampling import OneClip, Plan
from vtrain.methods import registry
from vtrain.methods.method import MethodEntry
from vtrain.overrides import change
from vtrain.recipes.recipe import Recipe
from vtrain.training.outputs import compiler_errors_named, errors_named
from vtrain.training.train import train


@pytest.fixture(autouse=True)
def no_method_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ADDED", {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    NAME: ClassVar[str] = "mine"
    sampling: OneClip = field(default_factory=OneClip)

    def plan(self) -> Plan:
        return self.sampling


class Module(nn.Module):
    def __init__(self, backbone: Backbone, config: Config, output: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.backbone = backbone
        self.output = output

    def forward(self, clips: Tensor, targets: dict[str, Tensor]) -> Any:  # noqa: ANN401
        return self.output(self.backbone(clips[:, 0]).float().square().mean((1, 2, 3, 4)))

    def after_step(self, progress: float) -> None: ...


def recipe_of(shards: Path, module: Callable[..., nn.Module]) -> Recipe:
    """Return a short training by a method with this module."""
    registry.add(MethodEntry(summary="Mine.", module=module, config=Config))
    words = [f"data.shards={shards}", "frames=4", "size=16", "batch=4", "steps=2", "workers=0"]
    return change(recipes.find("mine", "tiny"), words)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda losses: losses.mean(), 'returns a Tensor; it must return a dict with "loss"'),
        (lambda losses: (losses.mean(), {}), 'returns a tuple; it must return a dict with "loss"'),
        (lambda losses: None, 'returns a NoneType; it must return a dict with "loss"'),
        (lambda losses: {"los": losses}, 'returns no "loss" but "los"; return the loss under this name'),
        (lambda losses: {"loss": losses}, 'returns "loss" with shape (4,); return its mean'),
        (lambda losses: {"loss": losses.mean().item()}, 'returns a float as "loss"; it must be a tensor'),
        (
            lambda losses: {"loss": losses.mean().detach()},
            'returns a "loss" that does not depend on any weight; compute it with gradients',
        ),
        (
            lambda losses: {"loss": losses.mean(), "order_accuracy": "high"},
            'returns a str as "order_accuracy"; it must be a tensor',
        ),
        (
            lambda losses: {"loss": losses.mean(), "order_accuracy": losses},
            'returns "order_accuracy" with shape (4,); return its mean',
        ),
    ],
)
def test_outputs_that_cannot_be_learned_from_are_refused_in_a_sentence(
    output: Callable[[Tensor], Any], message: str, shards: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(shards, lambda backbone, config: Module(backbone, config, output))
    with pytest.raises(UsageError) as error:
        train(recipe, tmp_path / "run")
    assert str(error.value) == f"forward of method 'mine' {message}"


class Unfit(Module):
    """Multiplies matrices that do not fit: torch raises the error in a file of its own."""

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__(backbone, config, lambda losses: nn.functional.linear(losses, torch.ones(1, 3)))


class Unbuilt(Module):
    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__(backbone, config, lambda losses: losses)
        self.head = {}["head"]


def test_an_error_in_forward_is_a_sentence_that_names_the_line_of_the_method(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkError) as error:
        train(recipe_of(shards, Unfit), tmp_path / "run")
    source, start = inspect.getsourcelines(Unfit)
    line = start + next(number for number, text in enumerate(source) if "linear(losses" in text)
    assert str(error.value).startswith("forward of method 'mine' raised RuntimeError (")
    assert str(error.value).endswith(f") at {__file__}, line {line}; correct it there")


def test_an_error_while_the_module_is_built_is_a_sentence(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkError) as error:
        train(recipe_of(shards, Unbuilt), tmp_path / "run")
    assert str(error.value).startswith(f"building the module of method 'mine' raised KeyError ('head') at {__file__}, ")


def test_an_error_of_a_built_in_method_keeps_its_traceback() -> None:
    with pytest.raises(KeyError), errors_named("forward", "pace"):
        _ = {}["head"]


def test_an_error_of_a_compiled_step_is_one_sentence_that_says_how_to_train_without() -> None:
    wanted = r"^the compiled step failed \(no compiler\); leave out compile=yes: the losses are the same without$"
    with pytest.raises(WorkError, match=wanted), compiler_errors_named(compiled=True):
        raise RuntimeError("no compiler\nand a long trace")
    with pytest.raises(RuntimeError, match="no compiler"), compiler_errors_named(compiled=False):
        raise RuntimeError("no compiler\nand a long trace")
