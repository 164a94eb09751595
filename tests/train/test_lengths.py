"""A run of another length than it began with: what is the same, what is noted, and what is refused."""

import shutil
from pathlib import Path

import pytest
from small_recipes import assert_same, lines, saved, small

from vprep.errors import UsageError
from vtrain.overrides import change
from vtrain.recipes.recipe import Earlier, Length, Recipe
from vtrain.training.lengths import earlier_lengths, with_length
from vtrain.training.train import recipe_in, train


def lengthened(recipe: Recipe, folder: Path, *lengths: int) -> Path:
    """Train for the recipe's steps, and then on to each of the longer lengths."""
    train(recipe, folder)
    for steps in lengths:
        train(change(recipe_in(folder), [f"steps={steps}"]), folder, resume=True)
    return folder


@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_with_a_schedule_of_no_length_a_lengthened_run_is_one_of_that_length_from_the_start(
    schedule: str, shards: Path, tmp_path: Path
) -> None:
    recipe = small("pace", shards, "steps=3", f"schedule.kind={schedule}", "schedule.milestones=1")
    train(change(recipe, ["steps=7"]), tmp_path / "wanted")
    found = lengthened(recipe, tmp_path / "run", 5, 7)
    assert lines(found) == lines(tmp_path / "wanted")
    assert_same(saved(found)["model"], saved(tmp_path / "wanted")["model"])


@pytest.mark.parametrize(
    "settings", [("pace",), ("ascnet", "optim.name=sgd"), ("prp", "data.hold_out=5", "validate.every=1")]
)
def test_the_recipe_of_a_lengthened_run_trains_the_same_again(
    settings: tuple[str, ...], shards: Path, tmp_path: Path
) -> None:
    """Its cosine, and ASCNet's momentum, which follows a cosine too, jump where they did."""
    method, *changes = settings
    found = lengthened(small(method, shards, "steps=3", *changes), tmp_path / "run", 5, 8)
    recipe = recipe_in(found)
    assert recipe.earlier_lengths == (Earlier(until=3, steps=3), Earlier(until=5, steps=5))
    train(recipe, tmp_path / "again")
    assert lines(tmp_path / "again") == lines(found)
    assert_same(saved(tmp_path / "again"), saved(found))


def test_the_learning_rate_of_a_lengthened_cosine_is_that_of_the_new_length(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = small("pace", shards, "steps=4", "schedule.warmup=0")
    train(change(recipe, ["steps=8"]), tmp_path / "whole")
    found = lengthened(recipe, tmp_path / "run", 8)
    rates, whole = ([line["lr"] for line in lines(folder)] for folder in (found, tmp_path / "whole"))
    assert rates[4:] == whole[4:]
    assert rates[3] < whole[3]
    assert (
        f"the run is lengthened from 4 to 8 steps: its cosine now ends there, so the learning rate goes from "
        f"{rates[3]:.3g} to {rates[4]:.3g}; the result is not that of a run of 8 steps from the start\n"
    ) in capsys.readouterr().err


def test_a_run_is_shortened_to_a_step_that_is_still_to_come(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, folder = small("pace", shards, "steps=6", "keep_every=1", "schedule.kind=constant"), tmp_path / "run"
    train(recipe, folder)
    shutil.copy(folder / "kept" / "step_0000003.pt", folder / "last.pt")
    before = (folder / "recipe.json").read_bytes()
    for steps in (1, 3):
        with pytest.raises(UsageError) as error:
            train(change(recipe, [f"steps={steps}"]), folder, resume=True)
        assert str(error.value) == (
            f"the run has done 3 of 6 steps, and its new length is {steps}; write more than 3, or leave the length out"
        )
    assert (folder / "recipe.json").read_bytes() == before
    assert train(change(recipe, ["steps=5"]), folder, resume=True)["trained"] == 2
    said = "the run is shortened from 6 to 5 steps; its schedule (constant) does not depend on the length\n"
    assert said in capsys.readouterr().err
    assert recipe_in(folder).steps == 5


@pytest.mark.parametrize(
    ("before", "step", "wanted"),
    [
        (Length(steps=6, per_epoch=5), 6, [(6, 6)]),
        (Length(steps=6, per_epoch=5), 4, [(4, 6)]),
        (Length(steps=9, per_epoch=5, earlier=(Earlier(until=6, steps=6),)), 6, [(6, 6)]),  # killed at once
        (Length(steps=9, per_epoch=5, earlier=(Earlier(until=6, steps=6),)), 8, [(6, 6), (8, 9)]),
        (Length(steps=9, per_epoch=5, earlier=(Earlier(until=6, steps=6),)), 4, [(4, 6)]),  # back at a kept state
    ],
)
def test_the_lengths_by_which_the_steps_so_far_were_planned(
    before: Length, step: int, wanted: list[tuple[int, int]]
) -> None:
    found = earlier_lengths(before, step)
    assert [(length.until, length.steps) for length in found] == wanted
    later = Length(steps=100, per_epoch=5, earlier=found)
    assert [later.planned(at) for at in range(step)] == [before.planned(at) for at in range(step)]
    assert later.planned(step) == 100


def test_a_length_that_is_written_otherwise_is_no_change(shards: Path) -> None:
    begun = small("pace", shards, "steps=5")
    recipe, note = with_length(change(begun, ["steps=none", "epochs=1"]), begun, 2, videos=20)
    assert (recipe, note) == (begun, "")
