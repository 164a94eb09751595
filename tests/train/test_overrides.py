"""Recipes as text and back: every value gets its type, and what does not fit is refused in a sentence."""

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprep.errors import UsageError
from vtrain.data.augment.config import AugmentConfig
from vtrain.methods import METHODS, NAMES, pace, supervised
from vtrain.methods.method import MethodConfig
from vtrain.optim.schedule import Schedule
from vtrain.overrides import as_json, change, from_json, listed
from vtrain.recipes.recipe import Data, Recipe

CONFIGS: dict[str, MethodConfig] = {
    **{name: entry.config() for name, entry in METHODS.items()},
    "supervised": supervised.Config(classes=5),
}


def recipe(name: str = "pace") -> Recipe:
    schedule = Schedule(lr=0.1)
    return Recipe(name=name, method=CONFIGS[name], backbone="tiny", batch=8, epochs=2, schedule=schedule)


ALL_ELSE = [
    replace(recipe(), backbone_settings={"width": 16, "blocks": (1, 1, 2, 1), "stem": "deep"}),
    replace(recipe(), method=pace.Config(sampling=pace.Sampling(paces=(Fraction(1, 3), Fraction(1, 2), 1, 2)))),
    replace(recipe(), schedule=Schedule(lr=1 / 3, kind="step", milestones=(10, 20))),
    replace(recipe(), steps=7, workers=0, weights="runs/a=b/last.pt", data=Data(subset="one, two.parquet")),
    change(recipe("ascnet"), ["looks.0.blur=0.25", "nesterov=true", "lr=1e-7", "name=ä 視 =,()"]),
]


@pytest.mark.parametrize("whole", [*map(recipe, METHODS), *ALL_ELSE])
def test_a_recipe_comes_back_from_json_as_it_was(whole: Recipe) -> None:
    text = json.dumps(as_json(whole))
    back = from_json(Recipe, json.loads(text))
    assert back == whole
    assert as_json(back) == as_json(whole)


@pytest.mark.parametrize("whole", [*map(recipe, METHODS), *ALL_ELSE])
def test_listed_settings_can_be_given_again(whole: Recipe) -> None:
    said = [f"{key}={value}" for key, value in listed(whole)]
    assert change(whole, said) == whole
    assert change(recipe(whole.method_name), said) == whole


def test_settings_are_listed_as_key_value_takes_them() -> None:
    said = dict(listed(change(recipe("ascnet"), ["backbone_settings.blocks=1,2", "nesterov=true", "looks.1.blur=1/4"])))
    assert said["method.sampling.speeds"] == "4,8"
    assert said["method.sampling.looks.0.blur"] == "1.0"
    assert said["method.sampling.looks.1.blur"] == "0.25"
    assert said["method.sampling.looks.1.crop_size"] == "none"
    assert said["backbone_settings.blocks"] == "1,2"
    assert said["optim.nesterov"] == "true"
    assert said["schedule.milestones"] == ""
    assert "method.sampling.looks" not in said


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("batch=64", "batch", 64),
        ("batch=1e3", "batch", 1000),
        ("batch=64.0", "batch", 64),
        ("batch= 64 ", "batch", 64),
        ("seed=+3", "seed", 3),
        ("schedule.lr=0.3", "schedule.lr", 0.3),
        ("lr=1/3", "schedule.lr", 1 / 3),
        ("lr=3", "schedule.lr", 3.0),
        ("momentum=0", "optim.momentum", 0.0),
        ("nesterov=true", "optim.nesterov", True),
        ("compile=yes", "compile", "yes"),
        ("exclude=bias and norm", "optim.exclude", "bias and norm"),
        ("milestones=3", "schedule.milestones", (3,)),
        ("milestones=3,", "schedule.milestones", (3,)),
        ("milestones=(3, 5)", "schedule.milestones", (3, 5)),
        ("milestones=[3,5]", "schedule.milestones", (3, 5)),
        ("milestones=", "schedule.milestones", ()),
        ("milestones=()", "schedule.milestones", ()),
        ("steps=none", "steps", None),
        ("steps=5", "steps", 5),
        ("weights=none", "weights", None),
        ("weights=a=b.pt", "weights", "a=b.pt"),
        ("name=true", "name", "true"),
        ("name=", "name", ""),
        ("name=視覚", "name", "視覚"),
        ("contrast=same pace", "method.contrast", "same pace"),
        ("paces=1/3,1/2,1,0.25", "method.sampling.paces", (Fraction(1, 3), Fraction(1, 2), 1, Fraction(1, 4))),
        ("backbone_settings.width=16", "backbone_settings", {"width": 16}),
        ("backbone_settings.blocks=1,1,1,1", "backbone_settings", {"blocks": (1, 1, 1, 1)}),
        ("backbone_settings.stem=deep,wide", "backbone_settings", {"stem": "deep,wide"}),
    ],
)
def test_text_becomes_a_value_of_the_settings_type(text: str, path: str, value: object) -> None:
    found: Any = change(recipe(), [text])
    for word in path.split("."):
        found = getattr(found, word)
    assert found == value
    assert type(found) is type(value)


def test_the_last_words_of_a_path_are_enough() -> None:
    for key in ("lr", "schedule.lr"):
        assert change(recipe(), [f"{key}=0.5"]).schedule.lr == 0.5
    for key in ("frames", "sampling.frames", "method.sampling.frames"):
        assert change(recipe(), [f"{key}=4"]).method.sampling.frames == 4


def test_a_key_that_is_also_the_end_of_other_keys_means_itself() -> None:
    """`name` is the recipe's, though optim.name ends with it, too."""
    changed = change(recipe(), ["name=mine"])
    assert (changed.name, changed.optim.name) == ("mine", "sgd")


def looks(changed: Recipe) -> tuple[AugmentConfig, ...]:
    return changed.method.sampling.looks


def test_a_number_chooses_a_group_of_a_tuple_and_without_it_all_are_changed() -> None:
    before = looks(recipe("ascnet"))
    assert [look.blur for look in before] == [1.0, 0.1]
    for key in ("looks.0.blur", "0.blur", "method.sampling.looks.0.blur"):
        assert looks(change(recipe("ascnet"), [f"{key}=0.5"])) == (replace(before[0], blur=0.5), before[1])
    for key in ("blur", "looks.blur", "method.sampling.looks.blur"):
        assert [look.blur for look in looks(change(recipe("ascnet"), [f"{key}=0.5"]))] == [0.5, 0.5]


def test_of_several_values_for_a_setting_the_last_holds() -> None:
    changed = change(recipe("ascnet"), ["batch=3", "blur=0.5", "looks.1.blur=0.25", "batch=4"])
    assert changed.batch == 4
    assert [look.blur for look in looks(changed)] == [0.5, 0.25]


def test_settings_that_need_each_other_change_together() -> None:
    """Each of these alone is refused."""
    words = ["schedule.kind=plateau", "validate.every=1", "data.hold_out=5"]
    for some in (words[:1], words[1:2], words[:2]):
        with pytest.raises(UsageError):
            change(recipe("prp"), some)
    assert change(recipe("prp"), words).schedule.kind == "plateau"
    sizes = ["looks.size=3", "looks.blur_kernel=5"]
    with pytest.raises(UsageError):
        change(recipe(), sizes[:1])
    assert looks(change(recipe(), sizes))[0].size == 3


def test_a_change_returns_a_new_recipe_and_leaves_the_old_one() -> None:
    whole = replace(recipe(), backbone_settings={"width": 4})
    changed = change(whole, ["backbone_settings.width=8", "backbone_settings.blocks=1,1", "frames=3"])
    assert changed.backbone_settings == {"width": 8, "blocks": (1, 1)}
    assert whole == replace(recipe(), backbone_settings={"width": 4})


@pytest.mark.parametrize(
    ("name", "word", "message"),
    [
        ("pace", "batch", "'batch' is no setting; settings are written key=value"),
        ("pace", "", "'' is no setting; settings are written key=value"),
        ("pace", "=3", "'=3' is no setting; settings are written key=value"),
        ("pace", "optim.weight_decai=1", "no setting 'optim.weight_decai'; did you mean 'optim.weight_decay'?"),
        ("pace", "weight_decai=1", "no setting 'weight_decai'; did you mean 'weight_decay'?"),
        ("pace", "Batch=1", "no setting 'Batch'; did you mean 'batch'?"),
        ("pace", "batch.=1", "no setting 'batch.'; did you mean 'batch'?"),
        ("pace", "optim=sgd", "no setting 'optim'; did you mean 'optim.eta'?"),
        ("pace", "paces.0=1", "no setting 'paces.0'; did you mean 'paces'?"),
        ("ascnet", "looks.2.blur=1", "no setting 'looks.2.blur'; did you mean 'method.sampling.looks.blur'?"),
        ("ascnet", "looks.-1.blur=1", "no setting 'looks.-1.blur'; did you mean 'method.sampling.looks.blur'?"),
        (
            "ascnet",
            "method.sampling.looks.².x=1",
            "no setting 'method.sampling.looks.².x'; did you mean 'method.sampling.looks.size'?",
        ),
        ("prp", "method.weights.rate=1", "no setting 'method.weights.rate'; did you mean 'method.weight_rec'?"),
        ("pace", "backbone_settings.=1", "no setting 'backbone_settings.'; did you mean 'backbone'?"),
        ("pace", "backbone_settings.a.b=1", "no setting 'backbone_settings.a.b'; did you mean 'backbone'?"),
        (
            "rspnet",
            "momentum=0.5",
            "'momentum' may be method.momentum or optim.momentum; write one of them",
        ),
        ("pace", "every=1", "'every' may be validate.every or watch.every; write one of them"),
        ("pace", "batch=", "batch is ''; it must be a whole number"),
        ("pace", "batch=1.5", "batch is '1.5'; it must be a whole number"),
        ("pace", "batch=0x10", "batch is '0x10'; it must be a whole number"),
        ("pace", "batch=none", "batch is 'none'; it must be a whole number"),
        ("pace", "batch=true", "batch is 'true'; it must be a whole number"),
        ("pace", "batch=1/0", "batch is '1/0'; it must be a whole number"),
        ("pace", "batch=1e999999999", "batch is '1e999999999'; it must be a whole number"),
        ("pace", "lr=1e-999999999", "schedule.lr is '1e-999999999'; it must be a number"),
        ("pace", "lr=0e999999999", "schedule.lr is '0e999999999'; it must be a number"),
        ("pace", "lr=1e309", "schedule.lr is '1e309'; it must be a number"),
        ("pace", "lr=nan", "schedule.lr is 'nan'; it must be a number"),
        ("pace", "lr=-inf", "schedule.lr is '-inf'; it must be a number"),
        ("pace", "lr=1,5", "schedule.lr is '1,5'; it must be a number"),
        ("pace", "lr=0.1=2", "schedule.lr is '0.1=2'; it must be a number"),
        ("pace", "steps=x", "steps is 'x'; it must be a whole number"),
        ("pace", "nesterov=yes", "optim.nesterov is 'yes'; it must be true or false"),
        ("pace", "nesterov=True", "optim.nesterov is 'True'; it must be true or false"),
        ("pace", "nesterov=1", "optim.nesterov is '1'; it must be true or false"),
        ("pace", "compile=true", "compile is 'true'; there are no, yes"),
        (
            "pace",
            "kind=cosin",
            "schedule.kind is 'cosin'; did you mean 'cosine'? there are constant, cosine, step, plateau",
        ),
        ("pace", "milestones=3,,5", "schedule.milestones is ''; it must be a whole number"),
        ("pace", "milestones=3;5", "schedule.milestones is '3;5'; it must be a whole number"),
        ("pace", "scale=0.2", "method.sampling.looks.scale is '0.2'; it must be 2 values with commas"),
        ("pace", "scale=0.2,0.5,1", "method.sampling.looks.scale is '0.2,0.5,1'; it must be 2 values with commas"),
        ("pace", "paces=1,x", "method.sampling.paces is 'x'; it must be a number or a fraction such as 1/3"),
        ("pace", "batch=0", "batch is 0; it must be at least 1"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_with_what_to_write(name: str, word: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        change(recipe(name), [word])
    assert str(error.value) == message


def test_an_unknown_key_without_a_similar_one_is_answered_with_all_keys() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Two:
        one: int = 1
        other: int = 2

    with pytest.raises(UsageError) as error:
        change(Two(), ["zzz=1"])
    assert str(error.value) == "no setting 'zzz'; there are one, other"


def test_of_many_settings_the_groups_are_named() -> None:
    with pytest.raises(UsageError, match=r"^no setting 'zzz'; there are name, method[.][*], backbone, ") as error:
        change(recipe(), ["zzz=1"])
    assert "data.*, stored.*, batch" in str(error.value)
    assert len(str(error.value)) < 400


PLAIN = as_json(recipe())


def sampling(given: object) -> object:
    return PLAIN | {"method": {"name": "pace", "sampling": given}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "recipe is []; it must be a group of settings"),
        (None, "recipe is None; it must be a group of settings"),
        ("pace", "recipe is 'pace'; it must be a group of settings"),
        ({}, "no value for 'name'; write one"),
        (PLAIN | {"schedule": {}}, "no value for 'schedule.lr'; write one"),
        (PLAIN | {"bach": 8}, "no setting 'bach'; did you mean 'batch'?"),
        (PLAIN | {"zzz": 8}, "no setting 'zzz'; remove it"),
        (PLAIN | {"data": {"fould": 1}}, "no setting 'data.fould'; did you mean 'fold'?"),
        (PLAIN | {"data": {"name": "ucf"}}, "no setting 'data.name'; remove it"),
        (PLAIN | {"optim": []}, "optim is []; it must be a group of settings"),
        (PLAIN | {"optim": None}, "optim is None; it must be a group of settings"),
        (PLAIN | {"optim": {"nesterov": []}}, "optim.nesterov is '[]'; it must be true or false"),
        (PLAIN | {"optim": {"name": ["sgd"]}}, "optim.name is '['sgd']'; there are sgd, lars, adamw"),
        (PLAIN | {"method": []}, "method is []; it must be a group of settings with 'name' for its kind"),
        (PLAIN | {"method": None}, "method is None; it must be a group of settings with 'name' for its kind"),
        (PLAIN | {"method": "pace"}, "method is 'pace'; it must be a group of settings with 'name' for its kind"),
        (PLAIN | {"method": {}}, f"method.name is 'none'; there are {', '.join(NAMES)}"),
        (
            PLAIN | {"method": {"name": ["pace"]}},
            f"method.name is '['pace']'; there are {', '.join(NAMES)}",
        ),
        (
            PLAIN | {"method": {"name": "pac"}},
            f"method.name is 'pac'; did you mean 'pace'? there are {', '.join(NAMES)}",
        ),
        (
            PLAIN | {"method": {"name": "prp", "contrast": "none"}},
            "no setting 'method.contrast'; did you mean 'interpolated'?",
        ),
        (sampling({"paces": 3}), "method.sampling.paces is 3; it must be several values, such as 1,2"),
        (
            sampling({"paces": [1, None]}),
            "method.sampling.paces is 'none'; it must be a number or a fraction such as 1/3",
        ),
        (sampling({"looks": {}}), "method.sampling.looks is {}; it must be several values, such as 1,2"),
        (sampling({"looks": [3]}), "method.sampling.looks is 3; it must be a group of settings"),
        (sampling({"looks": [{"bluur": 1}]}), "no setting 'method.sampling.looks.bluur'; did you mean 'blur'?"),
        (PLAIN | {"batch": None}, "batch is 'none'; it must be a whole number"),
        (PLAIN | {"batch": True}, "batch is 'true'; it must be a whole number"),
        (PLAIN | {"batch": [8]}, "batch is '[8]'; it must be a whole number"),
        (PLAIN | {"batch": {}}, "batch is '{}'; it must be a whole number"),
        (PLAIN | {"batch": 8.5}, "batch is '8.5'; it must be a whole number"),
        (PLAIN | {"epochs": float("nan")}, "epochs is 'nan'; it must be a number"),
        (PLAIN | {"epochs": float("inf")}, "epochs is 'inf'; it must be a number"),
        (PLAIN | {"epochs": 10**400}, f"epochs is '1{'0' * 79}... (401 characters)'; it must be a number"),
        (PLAIN | {"name": 5}, "name is '5'; it must be a word"),
        (PLAIN | {"compile": False}, "compile is 'false'; there are no, yes"),
        (PLAIN | {"backbone_settings": []}, "backbone_settings is []; it must be a group"),
        (
            PLAIN | {"backbone_settings": {"width": None}},
            "backbone_settings.width is 'none'; it must be a whole number",
        ),
        (
            PLAIN | {"backbone_settings": {"width": 1.5}},
            "backbone_settings.width is '1.5'; it must be a whole number",
        ),
    ],
)
def test_json_of_another_shape_is_one_sentence(given: object, message: str) -> None:
    with pytest.raises(UsageError) as error:
        from_json(Recipe, given)
    assert str(error.value) == message


def test_settings_that_json_leaves_out_have_their_defaults() -> None:
    given = {
        "name": "pace",
        "method": {"name": "pace"},
        "backbone": "tiny",
        "batch": 8,
        "epochs": 2,
        "schedule": {"lr": 0.1},
    }
    assert from_json(Recipe, given) == recipe()
    assert from_json(Recipe, given | {"epochs": "2", "schedule": {"lr": "1/10"}, "batch": 8.0}) == recipe()
    tenth = from_json(Recipe, given | {"method": {"name": "pace", "sampling": {"paces": [0.1]}}})
    assert isinstance(tenth.method, pace.Config)
    assert tenth.method.sampling.paces == (Fraction(1, 10),)


KEYS = [key for key, _ in listed(recipe("ascnet"))]
TEXTS = st.one_of(st.text(max_size=12), st.text("0123456789.,-+e_/() ntruefals", max_size=12))


@given(
    key=st.one_of(st.sampled_from(KEYS), st.text(max_size=9)), more=st.sampled_from(["", ".", ".0", ".x"]), value=TEXTS
)
@settings(max_examples=150)
def test_any_typed_setting_is_carried_out_or_refused_in_a_sentence(key: str, more: str, value: str) -> None:
    try:
        changed = change(recipe("ascnet"), [f"{key}{more}={value}"])
    except UsageError:
        return
    assert from_json(Recipe, json.loads(json.dumps(as_json(changed)))) == changed


WRONG = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@given(key=st.sampled_from(KEYS), depth=st.integers(1, 5), value=WRONG)
@settings(max_examples=150)
def test_any_json_is_taken_or_refused_in_a_sentence(key: str, depth: int, value: object) -> None:
    found = said = as_json(recipe("ascnet"))
    words = key.split(".")[:depth]
    for word in words[:-1]:
        found = found[int(word) if isinstance(found, list) else word]
    found[int(words[-1]) if isinstance(found, list) else words[-1]] = value
    try:
        made = from_json(Recipe, said)
    except UsageError:
        return
    assert from_json(Recipe, as_json(made)) == made
