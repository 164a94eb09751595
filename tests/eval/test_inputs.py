"""Weights and videos are found by the names that users write; what is missing is named in one sentence."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from veval import inputs
from veval.protocol import for_weights
from veval.tasks import classifier
from veval.tasks.finetune import recipe_for
from vprep.errors import UsageError
from vtrain.backbones import backbone
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import OneClip
from vtrain.data.shard_set import ShardSet
from vtrain.methods.supervised import Config
from vtrain.methods.supervised.network import Supervised
from vtrain.overrides import as_json
from vtrain.weights import save_weights
from vtrain.weights.tensor_hash import hash_tensors

CLASSES = ["a", "b", "c"]


def save_run(folder: Path, sampling: OneClip | None = None, **other: Any) -> Path:  # noqa: ANN401
    """A run as the trainer leaves it."""
    torch.manual_seed(1)
    config = Config(classes=3, sampling=sampling or OneClip(frames=4))
    method = Supervised(backbone("tiny"), config)
    info = {
        "step": 7,
        "model": method.state_dict(),
        "method": "supervised",
        "backbone": "tiny",
        "settings": {},
        "clip": [4, 32, 32],
        "normalisation": "unit",
        "classes": CLASSES,
        "data": {"name": "UCF101", "hash": "x"},
        "recipe": {"name": "tiny", "seed": 5, "method": {"name": "supervised", **as_json(config)}},
    }
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text("{}")
    torch.save(info | other, folder / "last.pt")
    return folder


def message(action: Any, *words: Any, **more: Any) -> str:  # noqa: ANN401
    with pytest.raises(UsageError) as error:
        action(*words, **more)
    return str(error.value)


def test_a_run_has_its_network_and_what_results_say_about_it(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    found = inputs.weights(str(run))
    assert found.info.as_dict() == {
        "path": str(run / "last.pt"),
        "hash": hash_tensors(found.net.state_dict()),
        "hash_of": "tensors",
        "method": "supervised",
        "recipe": "tiny",
        "backbone": "tiny",
        "settings": {},
        "dim": 128,
        "step": 7,
        "epochs": None,
        "clip": [4, 32, 32],
        "seed": 5,
        "crop": "largest",
        "normalisation": "unit",
        "data": {"name": "UCF101", "hash": "x"},
    }
    assert not found.net.training
    state = torch.load(run / "last.pt", weights_only=True)["model"]
    assert all(torch.equal(tensor, state[f"backbone.{name}"]) for name, tensor in found.net.state_dict().items())
    assert inputs.weights(str(run / "last.pt")).info == found.info


def test_equal_weights_have_equal_hashes_in_whatever_file_they_are(tmp_path: Path) -> None:
    run, again = save_run(tmp_path / "run"), save_run(tmp_path / "again", step=9)
    first = inputs.weights(str(run))
    save_weights(tmp_path / "a.safetensors", first.net, {"backbone": "tiny"})
    for word in (again, tmp_path / "a.safetensors"):
        assert inputs.weights(str(word)).info.hash == first.info.hash
    with torch.no_grad():
        next(first.net.parameters())[0, 0, 0, 0, 0] += 1e-6
    save_weights(tmp_path / "a.safetensors", first.net, {"backbone": "tiny"})
    assert inputs.weights(str(tmp_path / "a.safetensors")).info.hash != first.info.hash


BEST = {"by": "held_out_loss", "value": 0.25, "step": 4}


def test_a_run_that_keeps_its_best_epoch_stands_for_that_and_its_last_state_for_itself(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", best=BEST, epochs=300.0)
    state = torch.load(run / "last.pt", weights_only=True)
    torch.save(state | {"step": 4, "epochs": 171.0}, run / "best.pt")
    found = inputs.weights(str(run)).info
    # The length of the training is not that until the best epoch: reports compare it with published ones.
    assert found.as_dict().items() >= {
        "path": f"{run}/best.pt", "step": 7, "epochs": 300.0, "kept": "held_out_loss", "kept_step": 4
    }.items()  # fmt: skip
    assert found.epoch == "lowest held_out_loss, 0.25, at step 4"
    assert found == inputs.weights(str(run / "best.pt")).info
    last = inputs.weights(str(run / "last.pt")).info
    assert (last.path, last.step, last.epoch) == (f"{run}/last.pt", 7, "step 7; lowest held_out_loss at step 4")
    assert not {"kept", "kept_step", "epoch"} & set(last.as_dict())
    # Of a classifier, the last layer counts too.
    tested = classifier.load_classifier(str(run))
    assert tested.info == replace(found, hash=hash_tensors(tested.net.state_dict()))
    assert tested.info.hash != found.hash
    alone = tmp_path / "best.pt"
    shutil.copy(run / "best.pt", alone)
    assert (inputs.weights(str(alone)).info.step, inputs.weights(str(alone)).info.epochs) == (4, 171.0)
    assert inputs.weights(f"random:{run}").info.as_dict() == inputs.weights(f"random:{run}/last.pt").info.as_dict()


@pytest.mark.parametrize("best", [{"by": "loss"}, {"by": "loss", "value": "0", "step": 7}, 3, "loss", None])
def test_a_note_of_the_best_epoch_that_is_none_counts_as_absent(best: object, tmp_path: Path) -> None:
    info = inputs.weights(str(save_run(tmp_path / "run", best=best))).info
    assert (info.path, info.kept, info.epoch) == (f"{tmp_path}/run/last.pt", None, "")


def test_the_newest_run_is_the_one_that_was_saved_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert message(inputs.weights) == (
        "there is no run in runs/; name weights with --weights RUN|FILE|random, or train some: "
        "vtrain METHOD --shards SPEC"
    )
    for number, name in enumerate(("new", "newer", "old")):
        run = save_run(tmp_path / "runs" / name)
        os.utime(run / "last.pt", (1000 + number % 2, 1000 + number % 2))
    (tmp_path / "runs" / "newest without a state").mkdir()
    assert inputs.newest_run() == Path("runs/newer")
    assert inputs.weights().info.path == "runs/newer/last.pt"


def test_random_weights_are_those_of_their_seed() -> None:
    first, again, other = (inputs.weights("random", backbone="tiny", seed=seed) for seed in (1, 1, 2))
    assert first.info == again.info
    assert first.info.hash != other.info.hash
    assert (first.info.method, first.info.seed) == ("random", 1)
    states = [list(one.net.state_dict().values()) for one in (first, again)]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    before = torch.random.get_rng_state()
    inputs.weights("random", backbone="tiny", seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_file_with_a_backbone_says_which_normalisation_it_expects(tmp_path: Path) -> None:
    file = tmp_path / "r3d.safetensors"
    seen = {"scale": 1, "channels": "rgb", "mean": inputs.KINETICS[0], "std": inputs.KINETICS[1], "word": None}
    save_weights(file, backbone("tiny"), {"backbone": "tiny", "origin": "torchvision", "normalisation": seen})
    info = inputs.weights(str(file)).info
    assert (info.method, info.normalisation, info.recipe) == ("torchvision", "kinetics", None)
    seen["mean"] = (0.1, 0.2, 0.3)
    save_weights(file, backbone("tiny"), {"backbone": "tiny", "normalisation": seen})
    assert "there are imagenet, unit, bgr255, kinetics" in message(inputs.weights, str(file))


def test_another_backbone_than_the_weights_have_is_refused(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    assert message(inputs.weights, str(run), backbone="r3d") == (
        f"{run}/last.pt has the backbone tiny, and --backbone names r3d; leave out --backbone"
    )


def test_missing_weights_are_named_in_one_sentence(tmp_path: Path) -> None:
    assert message(inputs.weights, str(tmp_path / "no")) == (
        f"there is no {tmp_path / 'no'}; name a run's folder or a .safetensors file"
    )
    (tmp_path / "empty").mkdir()
    assert "holds no last.pt" in message(inputs.weights, str(tmp_path / "empty"))


def test_a_classifier_has_the_outputs_of_the_method_that_trained_it(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    found = classifier.load_classifier(str(run))
    torch.manual_seed(1)
    method = Supervised(backbone("tiny"), Config(classes=3, sampling=OneClip(frames=4))).eval()
    clips = torch.rand(2, 3, 4, 32, 32)
    with torch.no_grad():
        wanted = method.head(method.backbone(clips).mean((2, 3, 4)))
        assert torch.allclose(found.net(clips), wanted, atol=1e-6)
    assert found.classes == CLASSES
    assert not found.net.training


@pytest.mark.parametrize(
    ("sampling", "seen"),
    [
        (OneClip(frames=4), {"step": 1, "crop_size": None}),
        (
            OneClip(
                frames=4, step=2, how="cover", short="replace", looks=(AugmentConfig(crop="random", crop_size=112),)
            ),
            {"step": 2, "crop_size": 112, "how": "cover", "clips": 2},
        ),
    ],
)
def test_a_classifier_knows_how_its_clips_were_sampled_and_cropped(
    tmp_path: Path, sampling: OneClip, seen: dict[str, Any]
) -> None:
    assert classifier.load_classifier(str(save_run(tmp_path / "run", sampling))).trained_on == seen


def test_weights_that_predict_no_classes_cannot_be_tested(tmp_path: Path) -> None:
    state = {f"backbone.{name}": tensor for name, tensor in backbone("tiny").state_dict().items()}
    run = save_run(tmp_path / "run", method="rspnet", model=state, classes=None)
    assert message(classifier.load_classifier, str(run)) == (
        f"{run / 'last.pt'} was trained by 'rspnet', so it cannot predict classes; name a fine-tuned run, which is "
        f"made by: veval finetune --weights {run / 'last.pt'}"
    )
    file = tmp_path / "net.safetensors"
    save_weights(file, backbone("tiny"), {"backbone": "tiny"})
    assert "holds only a backbone, so it cannot predict classes" in message(classifier.load_classifier, str(file))


def test_videos_are_selected_by_split_with_what_results_say_about_them(shards: Path) -> None:
    data = inputs.open_data(str(shards), ["train", "test"], fold=2)
    assert {split: len(some) for split, some in data.videos.items()} == data.info.videos == {"train": 20, "test": 4}
    opened = ShardSet.open(shards)
    assert data.info.as_dict() == {
        "shards": str(shards), "name": "synth", "side": 24, "hash": opened.fingerprint, "split": "train,test",
        "fold": 2, "subset": None, "videos": {"train": 20, "test": 4},
        "fingerprints": {split: opened.select(split, fold=2).fingerprint for split in ("train", "test")},
        "classes": 4, "failures": 0,
    }  # fmt: skip
    assert len(inputs.open_data(str(shards), None).videos["all"]) == 24


def test_an_empty_split_is_refused(shards: Path) -> None:
    assert "of split 'val' in fold 1" in message(inputs.open_data, str(shards), ["val"])


def test_without_a_name_the_set_in_the_usual_folder_is_taken(
    shards: Path, grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message(inputs.open_data, None, None) == (
        "no folder 'data_shards'; a set is made with: vprep shard VIDEOS --out data_shards"
    )
    (tmp_path / "data_shards").mkdir()
    (tmp_path / "data_shards" / "one").symlink_to(shards)
    assert inputs.open_data(None, None).info.shards == "data_shards/one"
    (tmp_path / "data_shards" / "two").symlink_to(grey)
    assert message(inputs.open_data, None, None) == (
        "there are 2 sets in data_shards: data_shards/one, data_shards/two; choose one with --shards"
    )


def test_videos_without_labels_are_refused(shards: Path, grey: Path) -> None:
    both = f"{shards},{grey}"
    data = inputs.open_data(both, None)
    assert message(inputs.demand_labels, data.videos["all"], data.info) == (
        f"{both} has no labels (its sets have different classes); shard it with --labels FILE, or name a single set"
    )


def test_classes_that_do_not_match_are_refused(grey: Path) -> None:
    data = inputs.open_data(str(grey), None)
    known = ["a dark", "b grey", "c white"]
    classifier.demand_classes(known, data.videos["all"], data.info)
    end = "; test on the data set that the network was fine-tuned on"
    assert message(classifier.demand_classes, ["a dark", "b", "c white"], data.videos["all"], data.info) == (
        f"the weights predict 3 classes, {grey} has 3, and they differ (class 1 is 'b' and 'b grey'){end}"
    )
    assert message(classifier.demand_classes, [*known, "d"], data.videos["all"], data.info) == (
        f"the weights predict 4 classes, {grey} has 3, and they differ (their numbers){end}"
    )


def test_random_like_a_run_is_its_network_before_it_has_learned(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    found = inputs.weights(f"random:{run}", seed=3)
    of_run = inputs.weights(str(run)).info
    assert found.info.hash == inputs.weights("random", backbone="tiny", seed=3).info.hash != of_run.hash
    for name in ("backbone", "settings", "clip", "crop", "normalisation"):
        assert getattr(found.info, name) == getattr(of_run, name)
    assert (found.info.method, found.info.like, found.info.path) == ("random", of_run.method, "random")
    assert found.info.as_dict()["like"] == of_run.method


@pytest.mark.parametrize(
    ("word", "protocol", "normalise", "crop_size", "recipe"),
    [
        ("prp-c3d-ucf101", "prp", "unit", 112, "finetune-prp-c3d-ucf101"),
        ("pace-r2plus1d-ucf101", "pace-p5", "bgr255", 112, "finetune-pace-r2plus1d-ucf101"),
        ("finetune-vcop-r3d-ucf101", "vcop", "unit", 112, "finetune-vcop-r3d-ucf101"),
        ("rspnet-resnet3d18-k100", "rspnet", "imagenet", None, "finetune-rspnet-resnet3d18-ucf101"),
        ("ascnet-resnet3d18-minik200", "ascnet", "imagenet", None, "finetune-ascnet-resnet3d18-ucf101"),
    ],
)
def test_random_like_a_recipe_is_measured_and_fine_tuned_as_its_authors_do(
    word: str, protocol: str, normalise: str, crop_size: int | None, recipe: str
) -> None:
    info = inputs.weights(f"random:{word}").info
    found = for_weights("features", info)
    assert (found.name, found.normalise, found.crop_size, found.clip) == (
        protocol,
        normalise,
        crop_size,
        (16, 112, 112),
    )
    assert recipe_for(info, "UCF101")[0].name == recipe
    assert (info.method, info.path, info.recipe, info.backbone) == ("random", "random", None, word.split("-")[-2])


def test_random_like_an_unknown_word_names_a_recipe_that_is_close() -> None:
    assert message(inputs.weights, "random:prp-c3d-ucf110") == (
        "no recipe 'prp-c3d-ucf110'; did you mean 'prp-c3d-ucf101'? vtrain recipes lists them all"
    )
