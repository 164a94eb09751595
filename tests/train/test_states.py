"""A last state that anyone may have written: it is resumed as it is, or refused in one sentence."""

import copy
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_recipes import assert_same, lines, saved, small
from torch import Tensor

from vprep.errors import UsageError, WorkError
from vtrain.overrides import change
from vtrain.training.inputs import recipe_in
from vtrain.training.train import train

State = dict[str, Any]


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("states") / "run"
    train(small("pace", shards, "steps=4"), folder)
    return folder


@pytest.fixture
def resumed(run: Path, tmp_path: Path) -> Callable[[State], Path]:
    """Return a function that resumes the run from another state and returns its folder."""

    def resume(state: State) -> Path:
        folder = Path(shutil.copytree(run, tmp_path / f"run{len(list(tmp_path.iterdir()))}"))
        torch.save(state, folder / "last.pt")
        train(change(recipe_in(folder), ["steps=6"]), folder, resume=True)
        return folder

    return resume


def without(*path: str) -> Callable[[State], None]:
    def act(state: State) -> None:
        for key in path[:-1]:
            state = state[key]
        del state[path[-1]]

    return act


def with_value(value: object, *path: str | int) -> Callable[[State], None]:
    def act(state: State) -> None:
        for key in path[:-1]:
            state = state[key]  # type: ignore[index]
        state[path[-1]] = value  # type: ignore[index]

    return act


WRONG = {
    "it has no 'data'": without("data"),
    "its 'data' is a list": with_value([1], "data"),
    "it has no 'data.hash'": without("data", "hash"),
    "its 'data.videos' is a str": with_value("20", "data", "videos"),
    "its 'optimizer' is a int": with_value(7, "optimizer"),
    "its 'step' is a bool": with_value(True, "step"),
    "its 'step' is a str": with_value("4", "step"),
    "its 'step' is damaged": with_value(-4, "step"),
    "it has no 'sums'": without("sums"),
    "its 'sums.values' is a list": with_value([], "sums", "values"),
    "its 'sums.values' is damaged": with_value(torch.zeros(3), "sums", "values"),
    "its 'sums.epoch_loss' is damaged": with_value(7, "sums", "epoch_loss"),
    "its 'validation_losses' is damaged": with_value(["1"], "validation_losses"),
    "its weights 'more' are not finite": with_value(torch.tensor([1.0, float("nan")]), "model", "more"),
    "its 'bad' is damaged": with_value([["a", "b"]], "bad"),
}


@pytest.mark.parametrize("said", WRONG)
def test_a_state_that_lacks_a_part_or_has_a_wrong_one_is_refused(
    said: str, run: Path, resumed: Callable[[State], Path]
) -> None:
    state = saved(run)
    WRONG[said](state)
    with pytest.raises(UsageError) as error:
        resumed(state)
    assert str(error.value).endswith(
        f"last.pt is no state of a training ({said}); no other state is kept: start another run"
    )


UNFIT = {
    "the optimiser has values of other weights": with_value({}, "optimizer", "state", 999),
    "the optimiser needs exp_avg, exp_avg_sq, step of each weight": without("optimizer", "state", 0, "exp_avg"),  # type: ignore[arg-type]
    "the optimiser's exp_avg does not fit": with_value(torch.zeros(3, 5), "optimizer", "state", 0, "exp_avg"),
    "the optimiser's step does not fit": with_value(torch.zeros(2), "optimizer", "state", 0, "step"),
    "Error(s) in loading state_dict": with_value(torch.zeros(3), "model", "x"),
}


@pytest.mark.parametrize("said", UNFIT)
def test_a_state_that_does_not_fit_the_recipe_s_network_and_optimiser_is_refused(
    said: str, run: Path, resumed: Callable[[State], Path]
) -> None:
    state = saved(run)
    UNFIT[said](state)
    with pytest.raises(UsageError) as error:
        resumed(state)
    assert f"last.pt was not saved by a training with recipe.json ({said}" in str(error.value)


def test_the_options_of_the_optimiser_are_those_of_the_recipe(run: Path, resumed: Callable[[State], Path]) -> None:
    state = saved(run)
    for group in state["optimizer"]["param_groups"]:
        group |= {"weight_decay": 100.0, "betas": (0.0, 0.0)}
    other, same = resumed(state), resumed(saved(run))
    assert_same(saved(other), saved(same))
    assert lines(other) == lines(same)


def parts(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401
    """Yield the path to each part of a state."""
    if path:
        yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from parts(value, (*path, key))


VALUES = (None, True, -1, 2**70, float("nan"), "x", b"y", [], {}, [1, 2], torch.zeros(0), torch.full((2,), 7))
CHANGES: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda tensor: tensor.double(),
    lambda tensor: tensor.reshape(-1),
    lambda tensor: tensor * 0 - 5,
    lambda tensor: tensor + 2**33,
    lambda tensor: tensor * float("nan"),
    lambda tensor: tensor[..., :-1] if tensor.ndim else tensor[None],
)


def mutated(state: State, rng: random.Random) -> State:
    """Return the state with one part removed, replaced or changed; each of its groups is as likely as the others."""
    state = copy.deepcopy(state)
    top = rng.choice([key for key in state if key != "recipe"])
    path = rng.choice([path for path in parts(state) if path[0] == top])
    parent: Any = state
    for key in path[:-1]:
        parent = parent[key]
    old, how = parent[path[-1]], rng.randrange(3)
    if how == 0:
        parent.pop(path[-1])
    else:
        changed = isinstance(old, Tensor) and how == 1
        parent[path[-1]] = rng.choice(CHANGES)(old) if changed else rng.choice(VALUES)
    return state


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_a_mutated_state_is_resumed_or_refused(seed: int, run: Path, resumed: Callable[[State], Path]) -> None:
    state, said = mutated(saved(run), random.Random(seed)), ""
    try:
        assert saved(resumed(state))["step"] == 6
    except (UsageError, WorkError) as error:
        said = str(error)
    assert "\n" not in said
