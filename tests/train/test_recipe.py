"""A recipe: how its batch is divided, how long its training is, and what it refuses."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from vprep.errors import UsageError
from vtrain.data.augment.config import AugmentConfig
from vtrain.methods import ascnet, pace, prp, rspnet, supervised
from vtrain.methods.method import MethodConfig
from vtrain.optim.config import Optim
from vtrain.optim.schedule import Schedule
from vtrain.overrides import as_json, change, from_json
from vtrain.recipes.recipe import Data, Length, Recipe, Validate, Watch, for_classes

BASE = Recipe(name="base", method=pace.Config(), backbone="tiny", batch=24, epochs=3, schedule=Schedule(lr=0.1))


@pytest.mark.parametrize(
    ("batch", "accumulate", "world", "at_a_time"),
    [(24, 1, 1, 24), (24, 1, 8, 24), (24, 3, 8, 8), (24, 4, 1, 6), (24, 24, 1, 1), (24, 2, 4, 12)],
)
def test_a_batch_is_divided_into_equal_parts(batch: int, accumulate: int, world: int, at_a_time: int) -> None:
    """Clips at a time over all processes: each process has as many, and as often."""
    assert replace(BASE, batch=batch, accumulate=accumulate).at_a_time(world) == at_a_time
    assert at_a_time % world == 0
    assert at_a_time * accumulate == batch


@pytest.mark.parametrize(
    ("batch", "accumulate", "world", "message"),
    [
        (
            24,
            1,
            7,
            "batch is 24 for 7 processes x accumulate=1; it is divided evenly among them: "
            "set batch=21 or 28, or other processes",
        ),
        (
            24,
            5,
            2,
            "batch is 24 for 2 processes x accumulate=5; it is divided evenly among them: "
            "set batch=20 or 30, or other processes",
        ),
        (
            3,
            2,
            4,
            "batch is 3 for 4 processes x accumulate=2; it is divided evenly among them: "
            "set batch=8, or other processes",
        ),
    ],
)
def test_a_batch_that_cannot_be_divided_is_refused_with_those_that_can(
    batch: int, accumulate: int, world: int, message: str
) -> None:
    whole = replace(BASE, batch=batch, accumulate=accumulate)
    with pytest.raises(UsageError) as error:
        whole.at_a_time(world)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("videos", "changed", "per_epoch", "steps"),
    [
        (240, "", 10.0, 30),
        (250, "", 250 / 24, 32),  # 750 clips: 31.25 batches
        (248, "", 248 / 24, 31),  # 744 clips: exactly 31, though 3 * (248 / 24) need not be
        (24, "epochs=0.5", 1.0, 1),
        (240, "epochs=0.25", 10.0, 3),  # 60 clips: 2.5 batches
        (240, "repeat=4", 40.0, 120),
        (9537, "repeat=10 batch=32 epochs=18", 95370 / 32, 53646),  # 1 716 660 clips: 53645.6 batches
        (240, "steps=7", 10.0, 7),
        (240, "steps=7000", 10.0, 7000),
        (1, "epochs=1", 1 / 24, 1),
        (240_000, "batch=64 epochs=200", 3750.0, 750_000),  # RSPNet's on Kinetics
    ],
)
def test_a_training_is_as_many_batches_as_its_epochs_have(
    videos: int, changed: str, per_epoch: float, steps: int
) -> None:
    assert change(BASE, changed.split()).length(videos) == Length(steps=steps, per_epoch=per_epoch)


@pytest.mark.parametrize("batch", [3, 7, 11, 24, 49])
def test_the_steps_of_an_epoch_are_exact_for_any_batch_and_number_of_epochs(batch: int) -> None:
    for videos in range(1, 300, 7):
        for epochs in range(1, 60, 3):
            wanted = -(-epochs * videos // batch)
            assert replace(BASE, batch=batch, epochs=epochs).length(videos).steps == wanted


def test_a_validation_is_due_with_the_step_that_ends_an_epoch() -> None:
    """With 10 steps an epoch and 35 in all: after each epoch, and at the end."""
    length = Length(steps=35, per_epoch=10.0)
    assert due(length, 1) == [10, 20, 30, 35]
    assert due(length, 2) == [20, 35]
    assert due(length, 0.5) == [5, 10, 15, 20, 25, 30, 35]
    assert due(length, 0.3) == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 35]
    assert due(length, 5) == [35]
    assert due(length, 0) == []


def test_an_epoch_of_a_fraction_of_steps_ends_with_the_step_that_passes_its_end() -> None:
    """10 videos in batches of 4: epochs end at 2.5, 5, 7.5 and 10 steps."""
    length = replace(BASE, batch=4, epochs=4).length(10)
    assert length == Length(steps=10, per_epoch=2.5)
    assert due(length, 1) == [3, 5, 8, 10]
    assert [length.epoch(step) for step in (0, 1, 5, 10)] == [0, 0.4, 2, 4]


def test_each_epoch_is_due_once_whatever_the_batch() -> None:
    for videos in range(30, 200, 7):
        for batch in range(1, 30):
            length = replace(BASE, batch=batch, epochs=9).length(videos)
            found = due(length, 1)
            # The step behind which `epoch` times the videos have been shown.
            assert found == [-(-epoch * videos // batch) for epoch in range(1, 10)]


def test_a_step_that_ends_several_epochs_is_due_once() -> None:
    """3 videos in batches of 24: eight epochs a step."""
    assert due(replace(BASE, epochs=24).length(3), 1) == [1, 2, 3]


def due(length: Length, every: float) -> list[int]:
    return [step for step in range(1, length.steps + 1) if length.due(step, every)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("batch=0", "batch is 0; it must be at least 1"),
        ("accumulate=-1", "accumulate is -1; it must be at least 1"),
        ("repeat=0", "repeat is 0; it must be at least 1"),
        ("log_every=0", "log_every is 0; it must be at least 1"),
        ("save_every=0", "save_every is 0; it must be at least 1"),
        ("steps=0", "steps is 0; it must be at least 1"),
        ("epochs=0", "epochs is 0.0; it must be above 0, and at most 1e9"),
        ("workers=-1", "workers is -1; it must be 0 or more"),
        ("validate.every=-1", "validate.every is -1.0; it must be 0 (never) or a number of epochs"),
        ("watch.every=-0.5", "watch.every is -0.5; it must be 0 (never) or a number of epochs"),
        (
            "schedule.kind=plateau",
            "data.hold_out is 0 and validate.split is empty, but schedule.kind=plateau must have a loss each epoch: "
            "set data.hold_out=N or validate.split=SPLIT and validate.every=1; or set schedule.kind=constant",
        ),
        (
            "schedule.kind=plateau validate.every=2 data.hold_out=5",
            "validate.every is 2, but schedule.kind=plateau must have a loss each epoch: "
            "set validate.every=1; or set validate.every=0, schedule.kind=constant",
        ),
        (
            "schedule.kind=plateau validate.every=1",
            "data.hold_out is 0 and validate.split is empty, but validate.every=1 and schedule.kind=plateau must have "
            "a loss each epoch: set data.hold_out=N or validate.split=SPLIT; or set validate.every=0, "
            "schedule.kind=constant",
        ),
        (
            "keep=best",
            "data.hold_out is 0 and validate.split is empty, but keep=best with best_by=held_out_loss must have videos "
            "to validate on: set data.hold_out=N or validate.split=SPLIT and validate.every=1; or set keep=last",
        ),
        (
            "validate.every=2",
            "data.hold_out is 0 and validate.split is empty, but validate.every=2 must have videos to validate on: "
            "set data.hold_out=N or validate.split=SPLIT; or set validate.every=0",
        ),
    ],
)
def test_impossible_settings_are_refused(words: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        change(BASE, words.split())
    assert str(error.value) == message


@pytest.mark.parametrize("words", ["data.hold_out=800", "validate.split=test"])
def test_a_plateau_needs_held_out_videos_or_another_split(words: str) -> None:
    changed = change(BASE, ["schedule.kind=plateau", "validate.every=1", words])
    assert changed.schedule.kind == "plateau"


@pytest.mark.parametrize(
    ("words", "metric"),
    [
        ("keep=best best_by=loss", "epoch_loss"),
        ("keep=best validate.every=0.5 data.hold_out=5", "held_out_loss"),
        ("best_by=loss", ""),
    ],
)
def test_the_best_epoch_has_the_lowest_of_a_number_in_the_metrics(words: str, metric: str) -> None:
    assert change(BASE, words.split()).best_metric == metric


METHODS: list[tuple[str, MethodConfig]] = [
    ("rspnet", rspnet.Config()),
    ("ascnet", ascnet.Config()),
    ("prp", prp.Config()),
    ("pace", pace.Config(sampling=pace.Sampling(paces=(Fraction(1, 3), 1, 2)))),
    ("supervised", supervised.Config(classes=101)),
]


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_a_recipe_that_json_kept_is_the_same_recipe(name: str, method: MethodConfig) -> None:
    whole = Recipe(
        name=name,
        method=method,
        backbone="r3d18",
        backbone_settings={"width": 16, "blocks": (1, 1, 1, 1)},
        data=Data(shards="a,b", split="train", fold=2, hold_out=80, hold_out_by="group", on_error="skip"),
        batch=24,
        accumulate=2,
        epochs=18.5,
        steps=100,
        optim=Optim(name="lars", nesterov=False, exclude="bias and norm"),
        schedule=Schedule(lr=1 / 3, kind="plateau", milestones=(3, 5)),
        batch_norm="sync",
        weights="runs/a/last.pt",
        validate=Validate(every=1),
        watch=Watch(every=0.5),
        workers=0,
    )
    assert whole.method_name == name
    assert from_json(Recipe, json.loads(json.dumps(as_json(whole)))) == whole
    assert as_json(whole)["method"]["name"] == name


def test_the_clip_is_what_the_network_sees() -> None:
    look = AugmentConfig(size=64)
    sampling = prp.Sampling(frames=8, speeds=(1, 2), looks=(replace(look, normalise="unit"),))
    assert replace(BASE, method=prp.Config(sampling=sampling)).clip == (8, 64, 64)
    assert BASE.clip == (16, 112, 112)


def test_a_method_that_learns_from_labels_gets_the_number_of_classes_of_the_videos() -> None:
    labels = replace(BASE, method=supervised.Config())
    assert for_classes(labels, 51).method == supervised.Config(classes=51)
    given = replace(BASE, method=supervised.Config(classes=7))
    assert for_classes(given, 51) == for_classes(given, None) == given
    assert for_classes(BASE, None) == for_classes(BASE, 51) == BASE
    with pytest.raises(UsageError) as error:
        for_classes(labels, None)
    assert str(error.value) == (
        "the videos have no labels, or their sets disagree on the classes; supervised needs them"
    )
