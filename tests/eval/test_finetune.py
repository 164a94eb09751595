"""Fine-tuning: the recipe follows the weights and the data, the epoch is chosen as the result says, a stopped training
goes on, and a result holds what is needed to repeat it."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import begin, veval
from small_recipes import assert_same, lines, saved, small
from split_sets import with_splits

from veval import commands, inputs
from veval.evaluation import Data, Evaluation, Execution, WeightsInfo
from veval.protocol import for_weights
from veval.results import report, result
from veval.tasks import video_accuracy
from veval.tasks.classifier import load_classifier
from veval.tasks.finetune import FineTuning, best_on_test, demand_folder, holding_out, recipe_for, run_training
from vprep.errors import UsageError
from vtrain.backbones import backbone as new
from vtrain.data.augment.apply import Augment
from vtrain.data.dataset import GROUP, Videos
from vtrain.data.loader import Loader
from vtrain.data.shard_set import ShardSet
from vtrain.overrides import change, from_json
from vtrain.recipes import RECIPES
from vtrain.recipes.recipe import Recipe
from vtrain.training.inputs import recipe_in, resolved, selected
from vtrain.training.run import targets_of
from vtrain.training.train import method_of, train
from vtrain.weights import load_backbone
from vtrain.weights.tensor_hash import hash_tensors

pytestmark = pytest.mark.slow

Made = dict[str, Any]
EPOCHS = ("batch=4", "steps=9")  # 16 videos: two epochs and a step


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of pace prediction, with the network that has no settings."""
    folder = tmp_path_factory.mktemp("runs") / "pace"
    recipe = small("pace", shards, "steps=2")
    train(Recipe(**{name: getattr(recipe, name) for name in recipe.__slots__} | {"backbone_settings": {}}), folder)
    return folder


def tuned(
    weights: str, shards: Path, folder: Path, *words: str, select: str | None = None, protocol: str | None = None
) -> Made:
    """As the command has it, with two clips."""
    start = inputs.weights(weights, backbone="tiny" if weights == "random" else None)
    data = data_of(shards)
    small_clips = ("frames=4", "size=16") if weights == "random" else ()
    recipe, _ = recipe_for(start.info, data.info.name)
    recipe = change(recipe, [f"data.shards={shards}", "workers=0", *EPOCHS, *small_clips, *words])
    found = commands.finetune(
        FineTuning(
            weights=start, recipe=recipe, folder=folder, data=data, execution=Execution(), selection=select,
            protocol=protocol, words=["clips=2"],
        )
    )  # fmt: skip
    assert found is not None
    return found


def data_of(shards: Path) -> Data:
    return inputs.open_data(str(shards), ("test",))


def measured(state: Path, data: Data, clips: int) -> Made:
    """The numbers of a test of a saved state."""
    network = load_classifier(str(state))
    protocol = for_weights("testing", network.info, None, [f"clips={clips}"], network.trained_on)
    found = video_accuracy.measure(Evaluation(network=network, data=data, protocol=protocol))
    assert found is not None
    return found


def weights_of(**known: Any) -> WeightsInfo:  # noqa: ANN401
    """Weights without a network."""
    usual = {"path": "w/last.pt", "method": "rspnet", "backbone": "r2plus1d", "clip": [16, 112, 112]}
    return WeightsInfo(**{"hash": "x", "dim": 512, "normalisation": "imagenet", **usual, **known})


@pytest.mark.parametrize("method", ["pace", "prp"])
def test_network_clips_and_normalisation_are_those_of_the_weights(method: str, shards: Path, tmp_path: Path) -> None:
    train(small(method, shards, "steps=1"), tmp_path / method)
    start = inputs.weights(str(tmp_path / method))
    recipe, note = recipe_for(start.info, "UCF101")
    assert (recipe.name, recipe.weights, note) == ("finetune-tiny", str(tmp_path / method / "last.pt"), "")
    assert (recipe.backbone, recipe.backbone_settings, recipe.clip) == ("tiny", {"width": 4}, (4, 16, 16))
    normalise = recipe.method.sampling.looks[0].normalise
    assert normalise == start.info.normalisation == {"pace": "imagenet", "prp": "unit"}[method]
    recipe = change(recipe, [f"data.shards={shards}", "workers=0", "batch=4", "steps=2"])
    tuning = FineTuning(
        weights=start, recipe=recipe, folder=tmp_path / "run", data=data_of(shards), execution=Execution()
    )
    found = commands.finetune(tuning)
    assert found is not None
    assert {name: found["protocol"][name] for name in ("frames", "size", "normalise")} == {
        "frames": 4, "size": 16, "normalise": normalise
    }  # fmt: skip


@pytest.mark.parametrize(
    ("known", "dataset", "word", "name"),
    [
        ({}, "UCF101", "", "finetune-rspnet-r2plus1d-ucf101"),
        ({}, "HMDB51", "paper", "finetune-rspnet-r2plus1d-hmdb51-paper"),
        ({"backbone": "s3dg"}, "SSv2", "released", "finetune-rspnet-s3dg-ssv2"),
        ({"method": "prp", "backbone": "c3d"}, "UCF101", "", "finetune-prp-c3d-ucf101"),
        ({"method": "pace", "backbone": "s3dg_pace"}, "HMDB51", "", "finetune-pace-s3dg-hmdb51"),
        ({"method": "ascnet", "backbone": "resnet3d18"}, "UCF101", "paper", "finetune-ascnet-resnet3d18-ucf101"),
        ({"method": "vcop", "backbone": "r3d"}, "UCF101", "", "finetune-vcop-r3d-ucf101"),
        ({"method": "random", "backbone": "r3d", "path": "random"}, "UCF101", "", "finetune-rspnet-r3d-ucf101"),
        ({"method": "torchvision", "backbone": "r3d18"}, "UCF101", "", "finetune-rspnet-r3d18-ucf101"),
        ({}, "UCF101", "finetune-prp-c3d-ucf101", "finetune-prp-c3d-ucf101"),
    ],
)
def test_the_recipe_is_that_of_the_weights_method_for_these_videos(
    known: Made, dataset: str, word: str, name: str
) -> None:
    weights = weights_of(**known)
    recipe, note = recipe_for(weights, dataset, word)
    assert (recipe.name, recipe.backbone, note) == (name, weights.backbone, "")
    assert recipe.weights == (None if weights.path == "random" else "w/last.pt")
    if name in RECIPES:  # all but what follows from the weights is the published recipe
        assert (recipe.batch, recipe.epochs, recipe.schedule, recipe.data) == (
            RECIPES[name]().batch, RECIPES[name]().epochs, RECIPES[name]().schedule, RECIPES[name]().data
        )  # fmt: skip
        assert recipe.clip == RECIPES[name]().clip


@pytest.mark.parametrize(
    ("method", "dataset"), [("prp", "my films"), ("pace", "SSv2"), ("rspnet", "UCF101+HMDB51"), ("random", "a/b")]
)
def test_on_data_sets_that_no_paper_has_the_recipe_of_ucf101_is_used_and_a_note_says_so(
    method: str, dataset: str
) -> None:
    recipe, note = recipe_for(weights_of(method=method), dataset)
    like = "rspnet" if method == "random" else method
    assert recipe.name == f"finetune-{like}-r2plus1d-ucf101"
    assert note == f"no paper fine-tunes {like} on '{dataset}'; using {recipe.name}, with no videos held out"
    # The 800 videos are for UCF101 only.
    assert (recipe.data.hold_out, recipe.validate.every) == (0, 0)


def test_weights_with_a_normalisation_that_training_does_not_have_are_refused() -> None:
    with pytest.raises(UsageError) as error:
        recipe_for(weights_of(normalisation="kinetics"), "UCF101")
    assert str(error.value) == (
        "w/last.pt expects clips normalised as torchvision does, which training cannot do; name other weights"
    )


def test_held_out_videos_are_validated_on_each_epoch() -> None:
    plain, prp = RECIPES["finetune-rspnet-c3d-ucf101"](), RECIPES["finetune-prp-c3d-ucf101"]()

    def held_out(recipe: Recipe) -> tuple[int, str, float]:
        return recipe.data.hold_out, recipe.data.hold_out_by, recipe.validate.every

    assert held_out(holding_out(plain, None)) == (0, "video", 0)
    assert held_out(holding_out(plain, 10, "group")) == (10, "group", 1)
    assert held_out(holding_out(prp, None)) == (800, "video", 1)
    assert held_out(holding_out(prp, None, "group")) == (800, "group", 1)
    assert held_out(holding_out(prp, 0)) == (0, "video", 0)
    often = change(plain, ["data.hold_out=5", "validate.every=0.5"])
    assert held_out(holding_out(often, 7)) == (7, "video", 0.5)


def test_it_starts_from_the_weights_and_from_scratch_with_a_network_of_the_seed(
    run: Path, shards: Path, tmp_path: Path
) -> None:
    for word in (str(run), "random"):
        tuned(word, shards, tmp_path / Path(word).name, "schedule.lr=0", "schedule.warmup=0", "weight_decay=0")
        begun, _ = load_backbone(tmp_path / Path(word).name)
        start = inputs.weights(word, backbone="tiny")
        for (name, weight), other in zip(begun.named_parameters(), start.net.parameters(), strict=True):
            assert torch.equal(weight, other), (word, name)


def test_a_fine_tuned_run_is_tested_to_the_same_numbers(run: Path, shards: Path, tmp_path: Path) -> None:
    found = tuned(str(run), shards, tmp_path / "run")
    network = load_classifier(str(tmp_path / "run"))
    protocol = for_weights("testing", network.info, None, ["clips=2"], network.trained_on)
    again = commands.accuracy(Evaluation(network=network, data=data_of(shards), protocol=protocol))
    assert again is not None
    for name in ("top1", "top5", "predictions", "confusion", "fusions", "intervals", "dropped"):
        assert again[name] == found[name], name
    shared = {name: word for name, word in found["protocol"].items() if name in again["protocol"]}
    assert shared == again["protocol"]
    assert (found["weights"]["method"], again["weights"]["method"]) == ("pace", "supervised")
    assert found["weights"]["hash"] == hash_tensors(inputs.weights(str(run)).net.state_dict())
    assert found["fine_tuned"]["hash"] == again["weights"]["hash"] == hash_tensors(network.net.state_dict())


def test_a_result_holds_what_is_needed_to_train_the_same_network_again(run: Path, shards: Path, tmp_path: Path) -> None:
    found = tuned(str(run), shards, tmp_path / "run", "seed=5")
    result.write(tmp_path / "r.json", found)
    held = json.loads((tmp_path / "r.json").read_bytes())["fine_tuned"]
    train(from_json(Recipe, held["by"]), tmp_path / "again")
    assert_same(saved(tmp_path / "again"), saved(tmp_path / "run"))
    assert (held["seed"], held["data"]["videos"], held["step"]) == (5, 16, 9)
    assert found["protocol"].items() >= {
        "selection": "last", "fine_tuned_by": "finetune-tiny", "epochs": 2.25, "clips": 2
    }.items()  # fmt: skip
    assert found["weights"]["data"]["hash"] == load_backbone(run)[1]["data"]["hash"]


STEPS = 13


def states_of(path: Path) -> Made:
    """Weights and step."""
    state = torch.load(path, weights_only=True)
    return {"step": state["step"], **state["model"]}


HELD_OUT = ("lr=0.01", "warmup=0", "data.hold_out=4", "data.hold_out_by=group", f"steps={STEPS}")


def split_of(folder: Path) -> tuple[Videos, Videos]:
    """The videos that a fine-tuning has learned from, and those that it has held out."""
    recipe = recipe_in(folder)
    learned, held = selected(recipe, ShardSet.open(recipe.data.shards))
    assert held is not None
    groups = [{GROUP.search(key).group(1) for key in some.keys.to_pylist()} for some in (learned, held)]  # type: ignore[union-attr]
    assert not groups[0] & groups[1]
    assert (len(learned) + len(held), len(held) >= 4) == (16, True)
    return learned, held


def test_the_epoch_that_is_best_on_the_test_videos_is_that_of_a_loop_over_all_epochs_and_the_result_says_so(
    run: Path, shards: Path, tmp_path: Path
) -> None:
    found = tuned(str(run), shards, tmp_path / "run", *HELD_OUT, select="best-on-test")
    data, recipe = data_of(shards), recipe_in(tmp_path / "run")
    learned, _ = split_of(tmp_path / "run")

    every = round(len(learned) / 4)
    assert recipe.keep_every == every
    train(recipe, tmp_path / "again")  # where the states of all epochs are kept
    states = sorted((tmp_path / "again" / "kept").glob("*.pt"))
    assert [int(path.stem[5:]) for path in states] == list(range(every, STEPS + 1, every))
    states += [tmp_path / "again" / "last.pt"] if STEPS % every else []
    tops = [measured(path, data, clips=1)["top1"] for path in states]
    assert [one["top1"] for one in found["tried"]] == tops
    wanted = states[tops.index(max(tops))]
    assert_same(states_of(Path(found["fine_tuned"]["path"])), states_of(wanted))
    assert found["protocol"]["selection"] == "best-on-test"
    left = list((tmp_path / "run" / "kept").glob("*.pt"))
    assert [path.name for path in left] == ([wanted.name] if wanted.parent.name == "kept" else [])
    again = measured(Path(found["fine_tuned"]["path"]), data, clips=2)
    assert (again["top1"], again["predictions"]) == (found["top1"], found["predictions"])


@pytest.mark.parametrize(
    ("select", "words"),
    [("best-on-held-out", ()), (None, ("keep=best",))],
    ids=["asked for", "as the recipe has it"],
)
def test_the_epoch_with_the_lowest_loss_on_held_out_videos_is_tested_and_the_result_says_so(
    select: str | None, words: tuple[str, ...], run: Path, shards: Path, tmp_path: Path
) -> None:
    """Held-out videos are cropped at random, as the training's are, and not in the centre as in a test."""
    clips = ("crop=random", "crop_size=12", "flip=0")
    words = ("validate.every=1", "schedule.kind=constant", *clips, *HELD_OUT, *words)
    found = tuned(str(run), shards, tmp_path / "run", *words, select=select)
    losses = {
        line["step"]: held_out_loss(tmp_path / "run", steps=line["step"], folder=tmp_path / f"{line['step']}")
        for line in lines(tmp_path / "run")
        if "held_out_loss" in line
    }
    assert list(losses) == [3, 6, 9, 12, STEPS]
    assert [one["step"] for one in found["tried"]] == list(losses)
    assert [one["held_out_loss"] for one in found["tried"]] == pytest.approx(list(losses.values()), rel=1e-5)
    step = min(losses, key=lambda step: losses[step])
    assert step < STEPS, "the last epoch must not be the best, or the test shows nothing"
    assert found["fine_tuned"].items() >= {
        "path": str(tmp_path / "run" / "best.pt"), "kept": "held_out_loss", "kept_step": step, "step": STEPS
    }.items()  # fmt: skip
    assert found["protocol"].items() >= {"selection": "best-on-held-out", "epochs": round(STEPS / 3, 2)}.items()
    assert_same(states_of(tmp_path / "run" / "best.pt"), states_of(tmp_path / str(step) / "last.pt"))
    again = measured(tmp_path / "run", data_of(shards), clips=2)
    assert (again["top1"], again["predictions"]) == (found["top1"], found["predictions"])
    assert not (tmp_path / "run" / "kept").exists()

    last = tuned(str(run), shards, tmp_path / "run", *words, *(("keep=best",) if select else ()), select="last")
    assert (last["protocol"]["selection"], last["tried"]) == ("last", [])
    assert last["fine_tuned"]["path"] == str(tmp_path / "run" / "last.pt")
    assert "kept" not in last["fine_tuned"]


def held_out_loss(run: Path, *, steps: int, folder: Path) -> float:
    """Train so many steps, and return the mean loss of the held-out videos, computed clip by clip."""
    recipe = change(recipe_in(run), [f"steps={steps}"])
    train(recipe, folder)
    module = method_of(recipe, new(recipe.backbone, **recipe.backbone_settings)).eval()
    module.load_state_dict(torch.load(folder / "last.pt", weights_only=True)["model"])
    _, held = split_of(folder)
    loader = Loader(held, recipe.method.plan(), batch=1, seed=recipe.seed, epochs=1, shuffled=False)
    augment, losses = Augment(recipe.method.plan().looks), []
    with torch.no_grad():
        for batch in loader:
            logits = module(augment(batch.clips, batch.augmentation), targets_of(batch))
            losses.append(logits["loss"].item())
    return sum(losses) / len(held)


def test_a_fine_tuning_that_an_older_version_began_goes_on_with_its_last_epoch(
    run: Path, shards: Path, tmp_path: Path
) -> None:
    words = ("data.hold_out=4", "validate.every=1", "keep=best")
    tuned(str(run), shards, tmp_path / "run", *words[:2])
    path = tmp_path / "run" / "recipe.json"
    recipe = json.loads(path.read_text())
    del recipe["keep"], recipe["best_by"]
    path.write_text(json.dumps(recipe))
    assert tuned(str(run), shards, tmp_path / "run", *words)["protocol"]["selection"] == "last"


def test_without_held_out_videos_the_last_epoch_is_tested() -> None:
    prp = RECIPES["finetune-prp-c3d-ucf101"]()
    assert [holding_out(prp, count).keep for count in (None, 400, 0)] == ["best", "best", "last"]
    by_loss = change(prp, ["best_by=loss"])
    assert holding_out(by_loss, 0).keep == "best"


def test_of_states_that_are_equally_good_the_first_is_taken_and_the_others_are_removed(
    shards: Path, tmp_path: Path
) -> None:
    train(small("supervised", shards, "steps=4"), tmp_path / "run")
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    videos = inputs.open_data(str(shards), ("train",)).videos["train"]
    rows = [row for row, label in enumerate(videos.label) if label != 3]  # 4 of each class
    judges = videos.take(np.array([row for row in rows if videos.label[row] != 0] + rows[:1]))
    data = data_of(shards)
    counts = np.bincount(judges.label, minlength=4)
    assert counts[1] == counts[2] > counts[0]
    (tmp_path / "run" / "kept").mkdir()
    for step, label in ((1, 0), (2, 2), (3, 1)):  # each always predicts the same class
        state["model"]["head.weight"].zero_()
        state["model"]["head.bias"] = torch.eye(4)[label]
        torch.save(state | {"step": step}, tmp_path / "run" / "kept" / f"step_{step:07}.pt")
    recipe = recipe_in(tmp_path / "run")
    tuning = FineTuning(
        weights=inputs.weights("random", backbone="tiny"), recipe=recipe, folder=tmp_path / "run",
        data=replace(data, videos={"test": judges}), execution=Execution(),
    )  # fmt: skip
    path, tried = best_on_test(tuning).chosen(4)
    assert path == tmp_path / "run" / "kept" / "step_0000002.pt"
    assert [one["step"] for one in tried] == [1, 2, 3, 4]
    share = [100 * count / len(judges) for count in counts]
    assert [one["top1"] for one in tried[:3]] == pytest.approx([share[0], share[2], share[1]])
    assert [one.name for one in (tmp_path / "run" / "kept").iterdir()] == [path.name]


def test_while_epochs_are_tested_no_more_than_the_best_stays(run: Path, shards: Path, tmp_path: Path) -> None:
    start, data = inputs.weights(str(run)), data_of(shards)
    recipe = change(recipe_for(start.info, data.info.name)[0], [f"data.shards={shards}", "workers=0", "batch=4"])
    recipe = change(recipe, ["steps=9", "keep_every=2"])
    tuning = FineTuning(weights=start, recipe=recipe, folder=tmp_path / "run", data=data, execution=Execution())
    epochs, left = best_on_test(tuning), list[list[str]]()

    def test_and_list() -> None:
        epochs.after_epoch()
        left.append([path.name for path in (tmp_path / "run" / "kept").iterdir()])

    run_training(recipe, tuning, tuning.shards, test_and_list)
    assert [len(names) for names in left] == [1, 1, 1, 1]
    tried = epochs.tried()
    assert [one["step"] for one in tried] == [2, 4, 6, 8]
    best = max(tried, key=lambda one: one["top1"])["step"]
    assert left[-1] == [f"step_{best:07}.pt"]
    others = replace(tuning, data=inputs.open_data(str(shards), ("train",)))
    with pytest.raises(UsageError, match="were tested on other videos; repeat the first command, or name another"):
        best_on_test(others).tried()


def test_the_last_state_is_tried_also_after_a_part_of_an_epoch(run: Path, shards: Path, tmp_path: Path) -> None:
    found = tuned(str(run), shards, tmp_path / "run", "steps=6", select="best-on-test")
    assert [one["step"] for one in found["tried"]] == [4, 6]
    found = tuned(str(run), shards, tmp_path / "short", "steps=2", select="best-on-test")
    assert [one["step"] for one in found["tried"]] == [2]


def test_a_stopped_fine_tuning_continues_with_the_same_command(run: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "data_shards").symlink_to(shards)
    words = ("--weights", run, "--into", "tuned", "--workers", 0, "batch=4", "steps=30", "test.clips=1")
    process = begin("finetune", *words, "save_every=1", cwd=tmp_path, printed=tmp_path)
    while not (tmp_path / "tuned" / "last.pt").exists() and process.is_alive():
        time.sleep(0.001)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join()
    printed = (tmp_path / "stderr").read_text()
    step = saved(tmp_path / "tuned")["step"]
    assert process.exitcode == 130, printed
    again = "continue with the same veval finetune and --into tuned\n"
    assert f"\nveval: stopped at step {step} of 30, which is saved; {again}" in printed
    assert f"training in tuned; if it is stopped, {again}" in printed
    assert not list((tmp_path / "results").iterdir())

    other = veval("finetune", *words, "--seed", 1, cwd=tmp_path)
    assert (other.returncode, other.stderr.splitlines()[-1]) == (2, (
        "veval: tuned was begun with seed=0, not 1; repeat the first command, or name another --into"
    ))  # fmt: skip
    assert saved(tmp_path / "tuned")["step"] == step
    found = veval("finetune", *words, "--json", cwd=tmp_path).json
    whole = veval("finetune", *words[:2], *words[4:], "--json", cwd=tmp_path).json
    for name in ("top1", "predictions"):
        assert found[name] == whole[name]
    states = [states_of(tmp_path / one["fine_tuned"]["path"]) for one in (found, whole)]
    assert_same(states[0], states[1])


def test_a_fine_tuning_that_began_from_other_weights_is_refused(run: Path, shards: Path, tmp_path: Path) -> None:
    longer = tmp_path / "longer"
    shutil.copytree(run, longer)
    tuned(str(longer), shards, tmp_path / "run")
    train(change(recipe_in(longer), ["steps=3"]), longer, resume=True)
    with pytest.raises(UsageError, match=r"run was begun from other weights than those that .*longer.* holds now"):
        tuned(str(longer), shards, tmp_path / "run")


def test_a_finished_training_is_tested_again(run: Path, shards: Path, tmp_path: Path) -> None:
    first = tuned(str(run), shards, tmp_path / "run")
    state = (tmp_path / "run" / "last.pt").read_bytes()
    again = tuned(str(run), shards, tmp_path / "run", "save_every=7")
    assert (tmp_path / "run" / "last.pt").read_bytes() == state
    assert again["predictions"] == first["predictions"]
    assert again["protocol"] == first["protocol"]


def test_crops_that_coincide_in_the_tested_videos_are_refused_before_the_training(
    run: Path, shards: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as error:
        tuned(str(run), shards, tmp_path / "run", protocol="ascnet-ten")
    assert str(error.value) == (
        "crop is 'ten', which is 10 different crops, but frames of 24 x 32 pixels give only 6; set crop_size=21, or "
        "crop_size=112 for frames of vprep shard --short-side 128"
    )
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_files_is_left_alone(run: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    data = data_of(shards)
    recipe = change(recipe_for(inputs.weights(str(run)).info, data.info.name)[0], [f"data.shards={shards}"])
    with pytest.raises(UsageError) as error:
        demand_folder(resolved(recipe, data.shards), tmp_path, data.videos["test"])
    assert str(error.value) == f"{tmp_path} exists and holds no fine-tuning; name another --into"


def test_fine_tuning_is_reported_beside_the_network_from_scratch(run: Path, shards: Path, tmp_path: Path) -> None:
    pre, scratch = (tuned(word, shards, tmp_path / Path(word).name) for word in (str(run), "random"))
    found = report.of_results([pre, scratch])
    (gain,) = found.against
    assert gain.points == pytest.approx(pre["top1"] - scratch["top1"])
    assert gain.interval is not None
    assert gain.interval[0] <= gain.points <= gain.interval[1]
    assert (gain.method, gain.backbone) == ("Pace", "tiny")
    assert [line.published for line in found.lines] == [[], []]  # nobody has published numbers for so small a network
    assert "backbone: " in found.lines[0].notes[0]
    on_test = tuned(str(run), shards, tmp_path / "best", select="best-on-test")
    (line,) = report.of_results([on_test]).lines
    assert "the epoch was chosen on the test videos" in line.notes


@pytest.mark.slow
def test_several_seeds_are_one_line_of_the_report(run: Path, shards: Path, tmp_path: Path) -> None:
    found = [tuned(str(run), shards, tmp_path / f"{seed}", f"seed={seed}") for seed in (0, 1)]
    (line,) = report.of_results(found).lines
    assert (line.over, line.value) == ("2 seeds", pytest.approx((found[0]["top1"] + found[1]["top1"]) / 2))


def test_a_set_without_a_train_split_is_refused_because_the_tested_videos_would_be_learned_from(
    shards: Path, tmp_path: Path
) -> None:
    folder = with_splits(shards, tmp_path / "set", lambda row: "test" if row % 2 else None)
    with pytest.raises(UsageError) as error:
        tuned("random", folder, tmp_path / "run")
    assert str(error.value) == (
        f"{folder} has no train split, so the network would learn from the videos that it is tested on; name a set "
        "with a train split, or another one to learn from: data.shards=SET"
    )
    assert not (tmp_path / "run").exists()
