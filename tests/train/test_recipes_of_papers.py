"""Recipes agree with the papers' tables and the authors' code: each number here was read there."""

import pytest

from vtrain.backbones import Backbone
from vtrain.data.sampling import OneClip
from vtrain.methods import pace
from vtrain.methods.pace.network import Pace
from vtrain.overrides import as_json, from_json
from vtrain.overrides import listed as settings_of
from vtrain.recipes import RECIPES, find, finetuning, named
from vtrain.recipes.recipe import Recipe

LOOK = "method.sampling.looks.0"
SPEEDS, PACES = "method.sampling.speeds", "method.sampling.paces"
OFF = {f"{LOOK}.jitter_chance": "0.0"}
NO_SOLARISE = {"method.sampling.looks.1.solarise": "0.0"}
NO_GREY = {f"method.sampling.looks.{number}.grey": "0.0" for number in (0, 1)}
NO_BLUR = {f"method.sampling.looks.{number}.blur": "0.0" for number in (0, 1)}
ALONE = {"method.weight_cls": "0.0", "method.weight_ctr": "1.0"}

TABLES: dict[str, dict[str, dict[str, str]]] = {
    **{
        f"rspnet-{backbone}-k100": {  # table 1
            "rsp-only": {"method.appearance_weight": "0.0"},
            "avid-only": {"method.motion_weight": "0.0"},
            "sp-avid": {"method.motion": "sp"},
            "rsp-vid": {"method.appearance": "vid"},
        }
        for backbone in ("tsm18", "resnet3d18", "c3d")
    },
    "rspnet-s3dg-k400": {"1000epochs": {"epochs": "1000.0"}},  # table 2
    "rspnet-r2plus1d-k400": {
        "6gpus": {"batch": "192", "method.bn_groups": "6"},
        "speeds421": {"method.sampling.speeds": "4,2,1"},
    },
    "ascnet-resnet3d18-minik200": {  # tables 1a to 1e
        "acp": {"method.tasks": "acp", SPEEDS: "1,2"},
        "scp": {"method.tasks": "scp", SPEEDS: "1,2"},
        "acp-sp": {"method.tasks": "acp+sp", SPEEDS: "1,2"},
        "same": {"method.instances": "same", SPEEDS: "1,2"},
        "different": {"method.instances": "different", SPEEDS: "1,2"},
        "feature": {"method.memory": "feature"},
        "both": {"method.direction": "both"},
        "1-2": {SPEEDS: "1,2"},
        "1-1": {SPEEDS: "1,1"},
        "1-4": {SPEEDS: "1,4"},
        "batch256": {"batch": "256"},
        "batch1024": {"batch": "1024"},
        "jitter": NO_BLUR | NO_GREY | NO_SOLARISE,
        "jitter-blur": NO_GREY | NO_SOLARISE,
        "jitter-blur-grey": NO_SOLARISE,
    },
    "ascnet-resnet3d18-k400": {  # table 4
        "100epochs": {"epochs": "100.0"},
        "300epochs": {"epochs": "300.0"},
        "400epochs": {"epochs": "400.0"},
    },
    "prp-c3d-ucf101": {  # tables 1 and 2
        "dp-1-2": {"method.branches": "DP", SPEEDS: "1,2"},
        "dp-1-2-4": {"method.branches": "DP", SPEEDS: "1,2,4"},
        "dp-1-2-4-8": {"method.branches": "DP"},
        "dp-1-2-4-8-16": {"method.branches": "DP", SPEEDS: "1,2,4,8,16"},
        "gp-r1-no-ma": {"method.branches": "GP", "method.sampling.rate": "1", "method.sampling.mask": "none"},
        "gp-r1": {"method.branches": "GP", "method.sampling.rate": "1"},
        "gp-r2": {"method.branches": "GP"},
        "gp-r4": {"method.branches": "GP", "method.sampling.rate": "4"},
    },
    "pace-r2plus1d-ucf101": {  # tables 1 and 2
        "1to3": {PACES: "1,2,3"} | OFF,
        "1to4": OFF,
        "1to5": {PACES: "1,2,3,4,5"} | OFF,
        "1to6": {PACES: "1,2,3,4,5,6"} | OFF,
        "slow": {PACES: "1/3,1/2,1,2,3"},
        "jitter-clip": {f"{LOOK}.jitter_per": "clip"},
        "same-pace-alone": {"method.contrast": "same pace"} | ALONE,
        "same-context-alone": {"method.contrast": "same context"} | ALONE,
        "same-pace": {"method.contrast": "same pace"},
        "same-context": {"method.contrast": "same context"},
        "same-context-fc": {"method.contrast": "same context", "method.layer": "fc"},
        "same-context-fc-4k": {"method.contrast": "same context", "method.layer": "fc", "method.ctr_dim": "8"},
    },
    "finetune-ascnet-resnet3d18-ucf101": {"16x128": {f"{LOOK}.size": "128"}},  # tables 1f and 3
    "finetune-ascnet-s3dg-ucf101": {
        "16x112": {"method.sampling.frames": "16", f"{LOOK}.size": "112"},
        "32x128": {"method.sampling.frames": "32", f"{LOOK}.size": "128"},
    },
}


def differing(one: Recipe, other: Recipe) -> dict[str, str]:
    """Return the settings of `other` that differ from those of `one`."""
    before, after = (dict(settings_of(from_json(Recipe, as_json(recipe)))) for recipe in (one, other))
    return {key: value for key, value in after.items() if before.get(key) != value and key != "name"}


@pytest.mark.parametrize("base", TABLES)
def test_a_row_of_a_table_differs_from_its_recipe_where_the_paper_says(base: str) -> None:
    found = {row: differing(RECIPES[base](), RECIPES[f"{base}-{row}"]()) for row in TABLES[base]}
    assert found == TABLES[base]


@pytest.mark.parametrize(
    ("backbone", "lr", "batch", "clip"),
    [
        ("resnet3d18", 0.4, 256, (16, 112, 112)),
        ("c3d", 0.2, 128, (16, 112, 112)),
        ("r2plus1d", 0.1, 128, (16, 112, 112)),
        ("s3dg", 0.2, 256, (16, 224, 224)),
        ("tsm18", 0.4, 256, (8, 112, 112)),
    ],
)
def test_rspnets_learning_rates_on_4_gpus(backbone: str, lr: float, batch: int, clip: tuple[int, ...]) -> None:
    recipe = find("rspnet", "released", backbone)
    assert (recipe.backbone, recipe.batch, recipe.clip, recipe.epochs) == (backbone, batch, clip, 200)
    schedule = recipe.schedule.at_batch(recipe.batch)
    assert schedule.lr == pytest.approx(lr)
    # Once an epoch, to a thousandth; there is no warm-up.
    at = [schedule.lr_at(step, 10.0, 2000) for step in (0, 9, 1000, 1999)]
    assert at[:3] == pytest.approx([lr, lr, lr * (0.001 + 0.999 / 2)])
    assert lr * 0.001 < at[3] < lr * 0.0012


def test_rspnets_r2plus1d_on_6_gpus_has_the_learning_rate_of_its_authors() -> None:
    recipe = named("rspnet-r2plus1d-k400-6gpus")
    assert recipe.schedule.at_batch(recipe.batch).lr == pytest.approx(0.15)


def test_rspnets_text_differs_from_its_code() -> None:
    assert differing(find("rspnet", "released"), find("rspnet", "paper")) == {
        "method.margin": "0.15",
        "method.margin_on": "cosine",
        "method.positives": "same",
        "method.bn_groups": "2",
        f"{LOOK}.grey": "0.0",
        f"{LOOK}.flip": "0.0",
        f"{LOOK}.blur": "0.5",
        f"{LOOK}.blur_sigma": "1.5,1.5",
        f"{LOOK}.blur_kernel": "3",
        "batch": "64",
        "schedule.lr": "0.1",
        "schedule.scaling": "none",
        "schedule.floor": "0.0",
        "schedule.per": "step",
        "stored.fps": "25.0",
    }


def test_ascnets_learning_rate_is_proportional_to_its_batch() -> None:
    for name, lr in (("", 1.2), ("-batch256", 0.6), ("-batch1024", 2.4)):
        recipe = named(f"ascnet-resnet3d18-minik200{name}")
        assert recipe.schedule.at_batch(recipe.batch).lr == pytest.approx(lr)
        assert (recipe.optim.name, recipe.optim.weight_decay, recipe.batch_norm) == ("lars", 1e-6, "sync")


def test_prps_text_differs_from_its_code() -> None:
    assert differing(find("prp", "released"), find("prp", "paper")) == {
        f"{LOOK}.crop": "random",
        "method.sampling.mask": "paper",
        "method.interpolated": "included",
        "method.fc_lr": "1.0",
        "schedule.kind": "constant",
    }


def test_prps_code_lowers_the_learning_rate_when_the_loss_on_800_videos_stays() -> None:
    recipe = find("prp", "released")
    assert (recipe.batch, recipe.epochs, recipe.data.hold_out, recipe.validate.every) == (8, 300, 800, 1)
    losses = [1.0] + [2.0] * 51
    assert recipe.schedule.lr_at(10, 1.0, 300, losses[:-1]) == pytest.approx(0.01)
    assert recipe.schedule.lr_at(10, 1.0, 300, losses) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("rspnet-r2plus1d-k400", "epoch_loss"),
        ("rspnet-c3d-k100-paper", "epoch_loss"),
        ("prp-c3d-ucf101", "held_out_loss"),
        ("prp-r3d-ucf101-paper", "held_out_loss"),
        ("ascnet-resnet3d18-k400", ""),
        ("pace-r2plus1d-ucf101", ""),
        ("finetune-vcop-c3d-hmdb51", "held_out_loss"),
        ("finetune-prp-c3d-ucf101-paper", "held_out_loss"),
        ("finetune-rspnet-c3d-ucf101", ""),
        ("finetune-ascnet-resnet3d18-ucf101", ""),
        ("finetune-pace-r2plus1d-ucf101", ""),
        ("prp-tiny", ""),
    ],
)
def test_the_epoch_is_kept_that_the_authors_keep(name: str, metric: str) -> None:
    assert named(name).best_metric == metric


def test_paces_epoch_on_ucf101_shows_each_video_ten_times() -> None:
    recipe = find("pace", "released")
    assert recipe.length(9537).steps == 18 * 9537 * 10 / 30
    assert [recipe.schedule.lr_at(epoch, 1.0, 18) for epoch in (0, 5, 6, 12)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5])
    assert (recipe.optim.weight_decay, named("pace-r2plus1d-k400").repeat) == (0.005, 1)


def test_pace_shows_s3dg_64_large_frames() -> None:
    recipe = find("pace", "paper", "s3dg_pace")
    assert (recipe.name, recipe.clip, recipe.batch) == ("pace-s3dg-ucf101-paper", (64, 224, 224), 32)


@pytest.mark.parametrize(
    ("name", "batch", "lr", "epochs", "kind", "milestones", "clip"),
    [
        ("rspnet-c3d-ucf101", 40, 0.005, 30, "cosine", (), (16, 112, 112)),
        ("rspnet-resnet3d18-ucf101", 64, 0.1, 30, "cosine", (), (16, 112, 112)),
        ("rspnet-r2plus1d-ucf101", 32, 0.1, 30, "cosine", (), (16, 112, 112)),
        ("rspnet-s3dg-ucf101", 8, 0.005, 50, "cosine", (), (64, 224, 224)),
        ("rspnet-c3d-hmdb51", 12, 0.005, 100, "step", (50, 70, 90), (16, 112, 112)),
        ("rspnet-resnet3d18-hmdb51", 128, 0.01, 30, "step", (50, 70, 90), (16, 112, 112)),
        ("rspnet-r2plus1d-hmdb51", 32, 0.1, 30, "cosine", (), (16, 112, 112)),
        ("rspnet-s3dg-hmdb51", 8, 0.005, 50, "cosine", (), (64, 224, 224)),
        ("rspnet-c3d-ssv2", 32, 0.1, 50, "cosine", (), (16, 112, 112)),
        ("rspnet-resnet3d18-ssv2", 64, 0.01, 50, "step", (20, 40), (16, 112, 112)),
        ("rspnet-s3dg-ssv2", 32, 0.01, 50, "step", (20, 40), (16, 224, 224)),
        ("rspnet-tsm18-ucf101", 128, 0.1, 30, "cosine", (), (8, 112, 112)),
        ("rspnet-tsm18-hmdb51", 128, 0.1, 30, "cosine", (), (8, 112, 112)),
        ("rspnet-tsm18-ssv2", 128, 0.01, 50, "step", (20, 40), (8, 112, 112)),
        ("rspnet-tsm18-hmdb51-paper", 128, 0.01, 70, "cosine", (), (8, 112, 112)),
        ("rspnet-s3dg-ucf101-paper", 8, 0.01, 30, "cosine", (), (64, 224, 224)),
        ("rspnet-c3d-hmdb51-paper", 12, 0.01, 70, "cosine", (), (16, 112, 112)),
        ("rspnet-c3d-ssv2-paper", 32, 0.01, 50, "step", (20, 40), (16, 112, 112)),
        ("ascnet-resnet3d18-ucf101", 64, 0.1, 30, "cosine", (), (16, 112, 112)),
        ("prp-c3d-ucf101", 8, 0.001, 160, "step", (100,), (16, 112, 112)),
        ("prp-c3d-ucf101-paper", 8, 0.01, 150, "constant", (100,), (16, 112, 112)),
        ("vcop-r3d-hmdb51", 8, 0.001, 150, "constant", (), (16, 112, 112)),
        ("pace-r2plus1d-hmdb51", 30, 0.003, 18, "step", (6, 12), (16, 112, 112)),
        ("pace-s3dg-ucf101", 32, 0.01, 18, "step", (6, 12), (64, 224, 224)),
    ],
)
def test_fine_tuning_is_that_of_the_authors(
    name: str, batch: int, lr: float, epochs: float, kind: str, milestones: tuple[int, ...], clip: tuple[int, ...]
) -> None:
    recipe = find("supervised", f"finetune-{name}")
    schedule = recipe.schedule
    assert (recipe.batch, schedule.lr, schedule.scaling, recipe.epochs) == (batch, lr, "none", epochs)
    assert (schedule.kind, schedule.milestones, recipe.clip) == (kind, milestones, clip)


def test_rspnets_c3d_on_ssv2_follows_a_cosine_in_its_code_and_steps_in_its_text() -> None:
    released, paper = (finetuning("rspnet", "ssv2", "c3d", profile).schedule for profile in ("released", "paper"))
    # Once an epoch: 0.1 x (0.001 + 0.999 x (1 + cos(pi x epoch / 50)) / 2).
    at = [released.lr_at(epoch, 1.0, 50) for epoch in (0, 20, 25, 40)]
    assert at == pytest.approx([0.1, 0.0654854, 0.05005, 0.0096396], rel=1e-5)
    assert [paper.lr_at(epoch, 1.0, 50) for epoch in (0, 19, 20, 39, 40)] == pytest.approx(
        [0.01, 0.01, 0.001, 0.001, 0.0001]
    )


def test_tsm_is_fine_tuned_with_the_frames_of_its_pre_training() -> None:
    before = find("rspnet", "rspnet-tsm18-k100", None)
    assert {finetuning("rspnet", data, "tsm18").clip for data in ("ucf101", "hmdb51", "ssv2")} == {before.clip}


def test_fine_tuning_shows_clips_as_the_authors_do() -> None:
    for method, dataset, said in (
        ("rspnet", "ucf101", ("area", 0.5, "imagenet", "consecutive", "loop", 0)),
        ("rspnet", "ssv2", ("area", 0.0, "imagenet", "cover", "loop", 0)),
        ("ascnet", "hmdb51", ("area", 0.5, "imagenet", "consecutive", "loop", 0)),
        ("prp", "ucf101", ("random", 0.0, "unit", "consecutive", "loop", 800)),
        ("vcop", "hmdb51", ("random", 0.0, "unit", "consecutive", "loop", 400)),
        ("pace", "hmdb51", ("random", 0.5, "bgr255", "consecutive", "restart", 0)),
    ):
        recipe = finetuning(method, dataset, "c3d")
        sampling = recipe.method.sampling
        (look,) = sampling.looks
        assert isinstance(sampling, OneClip)
        assert said == (look.crop, look.flip, look.normalise, sampling.how, sampling.short, recipe.data.hold_out)
        assert look.jitter_chance == 0 or not any(look.jitter)


def test_training_on_labels_has_the_settings_of_haras_code_and_the_clips_of_the_tables() -> None:
    clips = {"resnet3d18-k400": (16, 112, 112), "s3dg-k400": (64, 224, 224), "c3d-sports1m": (16, 112, 112)}
    for name, clip in clips.items():
        recipe = find("supervised", f"supervised-{name}")
        assert (recipe.batch, recipe.epochs, recipe.clip, recipe.optim.weight_decay) == (128, 200, clip, 1e-3)
        at = [recipe.schedule.at_batch(128).lr_at(epoch, 1.0, 200) for epoch in (0, 49, 50, 100, 150)]
        assert at == pytest.approx([0.1, 0.1, 1e-2, 1e-3, 1e-4])
        (look,) = recipe.method.sampling.looks
        assert (look.crop, look.scale, look.flip) == ("area", (0.25, 1.0), 0.5)


def test_paces_layer_of_4k_has_4104_parameters() -> None:
    config = named("pace-r2plus1d-ucf101-same-context-fc-4k").method
    assert isinstance(config, pace.Config)
    net = Pace(Backbone(512), config)  # R(2+1)D has 512 channels
    assert sum(parameter.numel() for parameter in net.layer.parameters()) == 512 * 8 + 8 == 4104
