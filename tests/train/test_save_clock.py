"""A state is saved by time as well as by steps."""

from pathlib import Path

import pytest
from small_recipes import assert_same, begin, saved, small, until

from vtrain.overrides import as_json, change, from_json
from vtrain.recipes.recipe import Recipe
from vtrain.training.save_clock import FIRST, SaveClock
from vtrain.training.train import train


def test_the_first_state_is_due_within_a_minute_and_later_ones_each_so_many_minutes() -> None:
    now = 0.0
    clock = SaveClock(10, lambda: now)
    due = []
    for now in range(0, 3600, 5):
        if clock.due(may_wait=False):
            due.append(now)
            clock.saved()
    assert due == [FIRST, *range(645, 3600, 600)]
    assert due[0] < 60


def test_a_save_for_another_reason_counts_too() -> None:
    now = 0.0
    clock = SaveClock(2, lambda: now)
    now = 100.0
    clock.saved()
    now = 219.0
    assert not clock.due(may_wait=True)
    now = 220.0
    assert clock.due(may_wait=True)


@pytest.mark.parametrize(("minutes", "first"), [(0.5, 30), (0, None)])
def test_less_than_a_minute_is_kept_from_the_start_and_zero_is_never(minutes: float, first: int | None) -> None:
    now = 0.0
    clock = SaveClock(minutes, lambda: now)
    due = None
    for now in range(4000):
        if clock.due(may_wait=True):
            due = now
            break
    assert due == first


def test_a_training_saves_by_time_and_the_end_is_the_same(shards: Path, tmp_path: Path) -> None:
    words = ("steps=100000", "save_every=100000", "log_every=100000", "save_minutes=0.0002")
    folder, recipe = tmp_path / "run", small("pace", shards, *words, "schedule.kind=constant")
    process = begin(recipe, folder)
    until((folder / "last.pt").exists)
    process.kill()
    process.join()
    step = saved(folder)["step"]
    length = [f"steps={step + 2}", "save_minutes=0", "log_every=1"]
    assert train(change(recipe, length), folder, resume=True)["steps"] == step + 2
    train(change(recipe, length), tmp_path / "wanted")
    assert_same(saved(folder)["model"], saved(tmp_path / "wanted")["model"])


def test_a_recipe_of_an_older_version_saves_by_time_too(shards: Path) -> None:
    older = as_json(small("pace", shards))
    del older["save_minutes"], older["earlier_lengths"]
    assert from_json(Recipe, older).save_minutes == 10
