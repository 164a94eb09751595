"""Recipes: each trains its method and says what it is; and how recipes are found."""

import inspect
import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from table_fetch import TableFetch
from torch import Tensor, nn

from vprep.errors import UsageError
from vtrain import backbones
from vtrain.backbones import BACKBONES
from vtrain.data.augment.apply import Augment
from vtrain.data.augment.config import stack
from vtrain.data.sampling import Plan, Video, View
from vtrain.methods import METHODS
from vtrain.optim.optimizers import build, set_lr
from vtrain.overrides import as_json, change, from_json
from vtrain.recipes import RECIPES, changes_of, find, finetuning, listed, named, several
from vtrain.recipes.listing import as_lines
from vtrain.recipes.recipe import Recipe, for_classes
from vtrain.recipes.supervised import MAKES, Profile
from vtrain.run_folder import write_json

WORDS = ("released", "paper", "tiny")
USUAL = sorted({find(method, word).name for method in METHODS for word in WORDS} | {"finetune-tiny"})
OTHERS = sorted(RECIPES.keys() - set(USUAL))
BATCH, HEIGHT, WIDTH, CLASSES = 4, 40, 48, 5


# Each trains its method


def reduced(recipe: Recipe) -> Recipe:
    """Return the recipe with a narrow network on small clips."""
    words = ["frames=8", "size=32", f"batch={BATCH}"]
    words += {"rspnet": ["queue=6", "bn_groups=2"], "ascnet": ["pool=6", "queue=6", "hidden=8"]}.get(
        recipe.method_name, []
    )
    if "width" in inspect.signature(BACKBONES[recipe.backbone]).parameters:
        words.append("backbone_settings.width=8")
    return for_classes(change(recipe, words), CLASSES)


def made(recipe: Recipe) -> nn.Module:
    module: nn.Module = METHODS[recipe.method_name].module(
        backbones.backbone(recipe.backbone, **recipe.backbone_settings), recipe.method
    )
    for plan in list(getattr(module, "fetched", {}).values())[:1]:
        side = plan.looks[0].size
        module.fetch = TableFetch(torch.randn(BATCH, 3, plan.length, side, side))  # type: ignore[assignment]
    return module


def seen(plan: Plan, rng: Random) -> tuple[Tensor, dict[str, Tensor]]:
    """Return noise for the clips of a plan, augmented as it says, with its targets."""
    video = Video(key="v", frames=300, fps=25.0, height=HEIGHT, width=WIDTH, label=0)
    samples = [plan(video, rng) for _ in range(BATCH)]
    looks = {view.group: plan.looks[view.group if len(plan.looks) > 1 else 0] for view in samples[0].views}

    def draws(views: Iterable[View]) -> list[dict[str, Any]]:
        return [looks[view.group].draw(rng, HEIGHT, WIDTH, plan.length) for view in views]

    assert all(len(view.frames) == plan.length for sample in samples for view in sample.views)
    noise = np.random.default_rng(0).integers(0, 256, (BATCH, plan.views, plan.length, HEIGHT, WIDTH, 3), np.uint8)
    drawn = {name: torch.from_numpy(array) for name, array in stack([draws(s.views) for s in samples]).items()}
    targets = {name: torch.tensor([sample.targets[name] for sample in samples]) for name in samples[0].targets}
    targets["speed"] = torch.tensor([[view.speed for view in sample.views] for sample in samples])
    targets |= {"row": torch.arange(BATCH), "label": torch.arange(BATCH), "valid": torch.ones(BATCH, dtype=torch.bool)}
    return Augment(plan.looks)(torch.from_numpy(noise), drawn), targets


def take_a_step(name: str) -> None:
    torch.manual_seed(1)
    recipe = reduced(RECIPES[name]())
    module = made(recipe)
    optimizer = build(module, recipe.optim, getattr(module, "lr_factors", {}))
    set_lr(optimizer, recipe.schedule.at_batch(recipe.batch).lr_at(0, 10.0, 100))
    clips, targets = seen(recipe.method.plan(), Random(0))
    weight = next(module.parameters())
    before = weight.detach().clone()
    outputs = module(clips, targets)
    outputs["loss"].backward()
    optimizer.step()
    module.after_step(0.5)  # type: ignore[operator]  # of every method
    assert outputs["loss"].isfinite()
    assert weight.isfinite().all()
    assert not torch.equal(weight, before)


@pytest.mark.parametrize("name", USUAL)
def test_a_step_by_a_methods_main_recipes_changes_its_network(name: str) -> None:
    take_a_step(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_a_step_by_any_other_recipe_changes_its_network(name: str) -> None:
    take_a_step(name)


def test_the_network_and_the_optimiser_of_every_recipe_are_built_at_full_size() -> None:
    built: set[str] = set()
    for make in RECIPES.values():
        recipe = for_classes(make(), CLASSES)
        config = as_json(recipe.method)
        for word in ("looks", "frames", "how", "short"):  # no weight hangs on these
            config["sampling"].pop(word, None)
        kind = json.dumps([recipe.backbone, config, recipe.optim.name])
        if kind not in built:
            with torch.device("meta"):
                module = made(recipe)
            groups = build(module, recipe.optim, getattr(module, "lr_factors", {})).param_groups
            learning = [part for part in module.parameters() if part.requires_grad]
            assert sum(len(group["params"]) for group in groups) == len(learning)
            built.add(kind)
    assert len(built) > 30


@pytest.mark.parametrize(("name", "factors"), [("prp-c3d-ucf101", {1.0, 10.0}), ("prp-c3d-ucf101-paper", {1.0})])
def test_only_in_the_code_prps_rate_head_has_a_higher_learning_rate(name: str, factors: set[float]) -> None:
    recipe = reduced(RECIPES[name]())
    module = made(recipe)
    groups = build(module, recipe.optim, getattr(module, "lr_factors", {})).param_groups
    assert {group["lr_factor"] for group in groups} == factors


# Each says what it is


def test_every_recipe_has_its_name() -> None:
    assert {name: make().name for name, make in RECIPES.items()} == {name: name for name in RECIPES}


def test_every_recipe_comes_back_from_json_as_it_was() -> None:
    for name, make in RECIPES.items():
        recipe = make()
        assert from_json(Recipe, json.loads(json.dumps(as_json(recipe)))) == recipe, name


def test_every_recipe_says_in_one_line_what_it_is_and_what_the_paper_has() -> None:
    for name, make in RECIPES.items():
        said = (make.__doc__ or "").partition("\n")[0]
        assert said.endswith("."), name
        assert "in the paper" in said or "on a CPU" in said, name
    assert RECIPES["pace-r2plus1d-ucf101-1to6"].__doc__ == (
        "Pace, R(2+1)D, UCF101, paces 1 to 6, no jitter: UCF101 71.1 in the paper."
    )
    assert RECIPES["rspnet-s3dg-k400-paper"].__doc__ == (
        "RSPNet, S3D-G, Kinetics-400, as the text has it: UCF101 89.9, HMDB51 59.6 in the paper."
    )
    assert RECIPES["rspnet-tsm18-k100-sp-avid"].__doc__ == (
        "RSPNet, TSM-18, Kinetics-100, SP and A-VID: UCF101 59.8, HMDB51 29.7 in the paper."
    )
    assert RECIPES["finetune-rspnet-c3d-hmdb51"].__doc__ == "Fine-tuning as RSPNet, C3D, HMDB51: 44.6 in the paper."


def test_the_list_has_a_row_for_each() -> None:
    rows = {row["name"]: row for row in listed()}
    assert rows.keys() == RECIPES.keys()
    assert rows["pace-s3dg-ucf101"] == {
        "name": "pace-s3dg-ucf101",
        "method": "pace",
        "backbone": "s3dg_pace",
        "data": "ucf101",
        "epochs": 18.0,
        "steps": None,
        "batch": 32,
        "says": "Pace, S3D-G, UCF101: UCF101 87.1, HMDB51 52.6 in the paper, with the contrastive half.",
    }
    assert [rows[name]["data"] for name in ("pace-tiny", "finetune-tiny", "finetune-rspnet-c3d-ssv2")] == [
        "any",
        "any",
        "ssv2",
    ]
    assert json.dumps(list(rows.values()))


def test_the_list_of_recipes_for_people_has_a_line_or_two_for_each_at_80_columns() -> None:
    head, *lines = as_lines(listed()).splitlines()
    assert head.split() == ["recipe", "length", "batch", "in", "the", "paper"]
    assert max(map(len, [head, *lines])) <= 80
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(RECIPES)
    assert not any(line.startswith(" ") and after.startswith(" ") for line, after in pairwise(lines))
    at = lines.index(next(line for line in lines if line.startswith("pace-s3dg-ucf101 ")))
    assert [" ".join(line.split()) for line in lines[at - 1 : at + 2]] == [
        "pace-r2plus1d-ucf101 18 epochs 30 UCF101 73.9, HMDB51 33.8",
        "pace-s3dg-ucf101 18 epochs 32",
        "UCF101 87.1, HMDB51 52.6, with the contrastive half",
    ]


def test_a_word_that_means_several_recipes_lists_them() -> None:
    tiny, released = several("tiny"), several("released")
    assert tiny is not None
    assert [row["name"] for row in tiny] == [f"{method}-tiny" for method in METHODS]
    assert released is not None
    assert [row["name"] for row in released] == [find(method).name for method in METHODS]
    assert several("prp") == several(None, "prp") == listed("prp")
    assert several("prp-tiny") is several("tiny", "prp") is None  # one recipe


def test_a_changed_recipe_says_which_settings_were_changed() -> None:
    assert changes_of(find("pace", "tiny")) == []
    own = ["data.shards=here", "workers=3", "log_every=1", "weights=a.pt"]
    assert changes_of(change(find("pace", "tiny"), own)) == []
    assert changes_of(change(find("pace", "tiny"), ["steps=4", *own, "lr=0.5"])) == ["steps=4", "schedule.lr=0.5"]
    assert changes_of(find("pace", "tiny", "c3d")) == ["backbone=c3d"]


# How recipes are found


@pytest.mark.parametrize("method", METHODS)
def test_each_method_has_a_released_a_paper_and_a_tiny_recipe(method: str) -> None:
    assert {find(method, word).method_name for word in WORDS} == {method}
    assert find(method, "tiny").name == f"{method}-tiny"


def test_the_three_words_mean_the_published_recipes_of_a_method() -> None:
    published = {
        "rspnet": ["rspnet-r2plus1d-k400", "rspnet-r2plus1d-k400-paper", "rspnet-tiny"],
        "ascnet": ["ascnet-resnet3d18-k400", "ascnet-resnet3d18-k400", "ascnet-tiny"],
        "prp": ["prp-r2plus1d-ucf101", "prp-r2plus1d-ucf101-paper", "prp-tiny"],
        "pace": ["pace-r2plus1d-ucf101", "pace-r2plus1d-ucf101-paper", "pace-tiny"],
        "supervised": [
            "finetune-rspnet-r2plus1d-ucf101",
            "finetune-rspnet-r2plus1d-ucf101-paper",
            "supervised-tiny",
        ],
    }
    assert {method: [find(method, word).name for word in WORDS] for method in published} == published


@pytest.mark.parametrize(
    ("method", "word", "backbone", "name"),
    [
        ("rspnet", "released", "c3d", "rspnet-c3d-k400"),
        ("rspnet", "paper", "s3dg", "rspnet-s3dg-k400-paper"),
        ("rspnet", "released", "tsm18", "rspnet-tsm18-k400"),
        ("rspnet", "rspnet-c3d-k100-rsp-only", "tsm18", "rspnet-tsm18-k100-rsp-only"),
        ("supervised", "released", "s3dg", "finetune-rspnet-s3dg-ucf101"),
    ],
)
def test_another_backbone_has_the_recipe_that_was_published_for_it(
    method: str, word: str, backbone: str, name: str
) -> None:
    assert find(method, word, backbone) == RECIPES[name]()


@pytest.mark.parametrize(
    ("method", "word", "backbone", "like", "name"),
    [
        ("prp", "released", "r3d18", "prp-r2plus1d-ucf101", "prp-r3d18-ucf101"),
        ("pace", "pace-r2plus1d-ucf101-1to6", "c3d", "pace-r2plus1d-ucf101-1to6", "pace-c3d-ucf101-1to6"),
        ("pace", "released", "s3dg", "pace-s3dg-ucf101", "pace-s3dg-ucf101"),
        ("pace", "tiny", "c3d", "pace-tiny", "pace-tiny"),
    ],
)
def test_a_backbone_without_a_published_recipe_replaces_that_of_another(
    method: str, word: str, backbone: str, like: str, name: str
) -> None:
    assert find(method, word, backbone) == replace(RECIPES[like](), backbone=backbone, name=name)


def test_a_run_or_its_recipe_file_names_a_recipe(tmp_path: Path) -> None:
    recipe = replace(find("pace", "tiny"), name="my-own-recipe", backbone_settings={"width": 8})
    write_json(tmp_path / "recipe.json", as_json(recipe))
    assert find("pace", str(tmp_path)) == find("pace", str(tmp_path / "recipe.json")) == named(str(tmp_path)) == recipe
    assert find("pace", str(tmp_path), "tiny") == recipe
    assert find("pace", str(tmp_path), "c3d") == replace(recipe, backbone="c3d", backbone_settings={})


def test_a_file_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    write_json(path, as_json(find("pace", "tiny")) | {"bach": 3})
    assert refusal("pace", str(path)) == f"{path} is no recipe: no setting 'bach'; did you mean 'batch'?"
    path.unlink()
    assert refusal("pace", str(tmp_path)) == f"there is no {path}; name a run's folder or a recipe.json"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pase", "tiny"), f"no method 'pase'; did you mean 'pace'? there are {', '.join(METHODS)}"),
        (
            ("pace", "tiny", "r2plus2d"),
            f"no backbone 'r2plus2d'; did you mean 'r2plus1d'? there are {', '.join(BACKBONES)}, or module:name for "
            "one of your own",
        ),
        (
            ("pace", "prp-tiny"),
            "recipe 'prp-tiny' is one of prp, not of pace; write: vtrain prp --recipe prp-tiny",
        ),
        (
            ("ascnet", "ascnet-resnet3d18-k400-paper"),
            "no recipe 'ascnet-resnet3d18-k400-paper'; did you mean 'ascnet-resnet3d18-k400'? "
            "vtrain recipes lists them all",
        ),
        (("prp", "runs/prp"), "there is no runs/prp; name a run's folder or a recipe.json"),
    ],
)
def test_an_unknown_name_is_refused_with_what_there_is(words: tuple[str, ...], said: str) -> None:
    assert refusal(*words) == said


def refusal(*words: str) -> str:
    with pytest.raises(UsageError) as caught:
        find(*words)
    return str(caught.value)


def test_fine_tuning_that_was_not_published_is_as_the_most_similar_that_was() -> None:
    published: list[tuple[str, str, str, Profile, str]] = [
        ("rspnet", "ucf101", "c3d", "released", "finetune-rspnet-c3d-ucf101"),
        ("rspnet", "ucf101", "c3d", "paper", "finetune-rspnet-c3d-ucf101-paper"),
        ("supervised", "hmdb51", "s3dg", "released", "finetune-rspnet-s3dg-hmdb51"),
        ("ascnet", "ucf101", "resnet3d18", "paper", "finetune-ascnet-resnet3d18-ucf101"),
        ("vcop", "ucf101", "r3d", "paper", "finetune-vcop-r3d-ucf101"),
        ("pace", "hmdb51", "s3dg_pace", "released", "finetune-pace-s3dg-hmdb51"),
        ("prp", "ucf101", "tiny", "released", "finetune-tiny"),
    ]
    for method, dataset, backbone, profile, name in published:
        assert finetuning(method, dataset, backbone, profile) == RECIPES[name]()
    for method, dataset, backbone, name in (
        ("rspnet", "ssv2", "r2plus1d", "finetune-rspnet-resnet3d18-ssv2"),
        ("prp", "ucf101", "resnet3d18", "finetune-prp-r2plus1d-ucf101"),
        ("pace", "ucf101", "s3dg", "finetune-pace-s3dg-ucf101"),
    ):
        found, like = finetuning(method, dataset, backbone), RECIPES[name]()
        assert found == replace(like, backbone=backbone, name=f"finetune-{method}-{backbone}-{dataset}")


def test_fine_tuning_on_other_data_or_for_another_method_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        finetuning("prp", "ucf11", "c3d")
    assert str(caught.value) == "no fine-tuning of prp on 'ucf11'; did you mean 'ucf101'? there are ucf101, hmdb51"
    with pytest.raises(UsageError) as caught:
        finetuning("rspnt", "ucf101", "c3d")
    assert str(caught.value) == (
        f"no fine-tuning of method 'rspnt'; did you mean 'rspnet'? there are {', '.join(MAKES)}, supervised"
    )


def test_tiny_recipes_take_videos_of_any_size() -> None:
    for method in METHODS:
        recipe = find(method, "tiny")
        clips_of_a_step = recipe.batch * getattr(recipe.method.sampling, "clips", 1)
        assert (recipe.backbone, clips_of_a_step, recipe.schedule.kind) == ("tiny", 32, "cosine")
        for height, width in ((128, 171), (24, 32), (9, 40)):
            for look in recipe.method.sampling.looks:
                ((top, left, tall, wide),) = look.draw(Random(1), height, width, 8)["box"]
                assert 0 <= top <= top + tall <= height
                assert 0 <= left <= left + wide <= width
