"""Absurd values: each is refused in one short sentence with the setting's complete name, or is of the right kind."""

import math
from collections.abc import Iterator
from typing import Any

import pytest

from veval import protocol
from vprep.errors import UsageError
from vtrain.overrides import as_json, change, from_json, paths
from vtrain.recipes import find
from vtrain.recipes.recipe import Recipe

METHODS = ("rspnet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ascnet", "prp", "pace", "supervised")))
WORDS = ("nan", "-inf", "-1", "1e400", "0." + "0" * 10_000, "x" * 10_000, ",,", "1/0", "9" * 5000)
VALUES: tuple[Any, ...] = (math.nan, -math.inf, True, None, [], {}, [[[]]], 10**5000, "x" * 1_000_000, [math.nan] * 2)
MOST = 600  # characters of a sentence


def faults(key: str, value: object, error: UsageError | None) -> Iterator[str]:
    """Yield what is wrong with a refusal."""
    said = "" if error is None else str(error)
    named = key in said or ".".join(word for word in key.split(".") if not word.isdigit()) in said
    if error is not None and (not named or len(said) > MOST or "\n" in said):
        yield f"{key}={str(value)[:20] if not isinstance(value, int) else 'a number'}: {said[:200]}"


def refusal(make: Any) -> UsageError | None:  # noqa: ANN401
    try:
        make()
    except UsageError as error:
        return error
    return None


def put(found: Any, path: tuple[str, ...], value: object) -> Any:  # noqa: ANN401
    at = found
    for word in path[:-1]:
        at = at[int(word)] if isinstance(at, list) else at[word]
    at[int(path[-1]) if isinstance(at, list) else path[-1]] = value
    return found


@pytest.mark.parametrize("method", METHODS)
def test_an_absurd_word_is_refused_by_the_settings_name(method: str) -> None:
    recipe = find(method)
    found = [
        fault
        for path in paths(recipe)
        for word in WORDS
        for fault in faults(".".join(path), word, refusal(lambda: change(recipe, [f"{'.'.join(path)}={word}"])))  # noqa: B023
    ]
    assert not found


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_an_absurd_value_in_a_recipes_file_is_refused_by_the_settings_name(method: str) -> None:
    recipe = find(method)
    found = [
        fault
        for path in paths(recipe)
        for value in VALUES
        for fault in faults(
            ".".join(path),
            value,
            refusal(lambda: from_json(Recipe, put(as_json(recipe), path, value))),  # noqa: B023
        )
    ]
    assert not found


def test_an_absurd_setting_of_a_protocol_is_refused_by_its_name() -> None:
    usual = protocol.PRESETS["rspnet"].protocol
    found = [
        fault
        for path in paths(usual)
        for word in WORDS
        for fault in faults(path[0], word, refusal(lambda: change(usual, [f"{path[0]}={word}"])))  # noqa: B023
    ]
    assert not found


@pytest.mark.parametrize(
    ("method", "word", "said"),
    [
        ("rspnet", "tau=0", "method.tau is 0.0; it must be at least 1e-06"),
        ("pace", "temperature=0", "method.temperature is 0.0; it must be at least 1e-06"),
        ("rspnet", "lr=nan", "schedule.lr is 'nan'; it must be a number"),
        ("rspnet", "optim.momentum=2", "optim.momentum is 2.0; it must be from 0 to 0.9999"),
        ("rspnet", "queue=0", "method.queue is 0; it must be at least 1"),
        ("ascnet", "speeds=4", "method.sampling.speeds is '4'; write two, such as 4,8, or 1,1 for equal speeds"),
        ("pace", "paces=1e-300", "method.sampling.paces is '1/1" + "0" * 77 + "... (303 characters)'; it must be from "
         "0.001 to 10000"),
        ("rspnet", "looks.size=0", "method.sampling.looks.size is 0; it must be at least 1 pixel"),
        ("rspnet", "data.fold=7", "data.fold is 7; it must be from 1 to 3"),
        ("supervised", "dropout=1", "method.dropout is 1.0; it must be from 0 to 0.99"),
        ("rspnet", "batch=1e30", "batch is '1e30'; it must be a whole number"),
    ],
)  # fmt: skip
def test_what_no_training_can_mean_is_refused(method: str, word: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        change(find(method), [word])
    assert str(error.value) == said


def test_a_recipe_without_videos_to_validate_on_says_all_that_has_to_change() -> None:
    prp = find("prp")
    with pytest.raises(UsageError) as error:
        change(prp, ["data.hold_out=0"])
    assert str(error.value) == (
        "data.hold_out is 0 and validate.split is empty, but validate.every=1 and schedule.kind=plateau and keep=best "
        "with best_by=held_out_loss must have a loss each epoch: set data.hold_out=N or validate.split=SPLIT; "
        "or set validate.every=0, schedule.kind=constant, keep=last"
    )
    advised = str(error.value).partition("or set ")[2].split(", ")
    assert change(prp, ["data.hold_out=0", *advised]).keep == "last"
