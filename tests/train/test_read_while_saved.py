"""Weights that are read while a training saves are those of one state, complete, and described as they are."""

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from small_recipes import saved, small
from torch import Tensor

from veval.inputs import weights
from vtrain import run_folder
from vtrain.training.train import train
from vtrain.weights.export import export

STEPS = (1, 2, 3)


@pytest.fixture(scope="module")
def written(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a run whose last and best states another process replaces without end: each weight is the step."""
    folder = tmp_path_factory.mktemp("written") / "run"
    train(small("pace", shards, "steps=1", "keep=best", "best_by=loss"), folder)
    states = [state_of(saved(folder), step) for step in STEPS]
    run_folder.save(folder, states[0], best=True)
    process = multiprocessing.get_context("fork").Process(target=write_without_end, args=(folder, states))
    process.start()
    yield folder
    assert process.is_alive()
    process.kill()
    process.join()


def state_of(state: run_folder.State, step: int) -> run_folder.State:
    model = {name: full(tensor, step) for name, tensor in state["model"].items()}
    best = {"by": "loss", "value": 1 / step, "step": step}
    return state | {"model": model, "step": step, "best": best, "padding": "x" * 5000 * step}


def full(tensor: Tensor, value: int) -> Tensor:
    return torch.full_like(tensor, value) if tensor.is_floating_point() else tensor


def write_without_end(folder: Path, states: list[run_folder.State]) -> None:
    while True:
        for state in states:
            run_folder.save(folder, state, best=True)


def the_value(tensors: dict[str, Tensor]) -> float:
    values = {value for tensor in tensors.values() if tensor.is_floating_point() for value in tensor.unique().tolist()}
    (value,) = values
    return float(value)


def test_weights_and_their_description_are_of_the_same_step(written: Path) -> None:
    hashes: dict[int | None, str] = {}
    for _ in range(15):
        found = weights(str(written))
        assert the_value(dict(found.net.state_dict())) == found.info.kept_step
        assert hashes.setdefault(found.info.kept_step, found.info.hash) == found.info.hash
    assert len(set(hashes.values())) == len(hashes) > 1


def test_an_export_is_of_one_step_and_names_it(written: Path, tmp_path: Path) -> None:
    for number in range(4):
        out = tmp_path / f"{number}.safetensors"
        said = export(written, out)["weights"]
        with safe_open(out, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            described = json.loads(file.metadata()["vtrain"])
        step = the_value(tensors)
        assert described["step"] == step
        assert f"at step {step:.0f}" in said
