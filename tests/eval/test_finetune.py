"""Fine-tuning: the recipe follows the weights and the data, the epoch is chosen as the result says, what was stopped
goes on, and a result can be made again from what it holds."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from commands import begin, veval
from small_recipes import assert_same, saved, small

from veval import commands, inputs
from veval.features.extract import How
from veval.inputs import Weights
from veval.protocol import for_weights
from veval.results import report, result
from veval.tasks import video_accuracy
from veval.tasks.classifier import classifier
from veval.tasks.finetune import best, finetune, holding_out, recipe_for, trained
from vprep.errors import UsageError
from vtrain.data.dataset import GROUP
from vtrain.data.shard_set import ShardSet
from vtrain.overrides import change, from_json
from vtrain.recipes import RECIPES
from vtrain.recipes.recipe import Recipe
from vtrain.training.train import recipe_in, train
from vtrain.training.training import resolved, selected

pytestmark = pytest.mark.slow

Made = dict[str, Any]
EPOCHS = ("batch=4", "steps=9")  # 16 videos: two epochs and a step
DATA = {"name": "UCF101"}


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of pace prediction, with the network that has no settings."""
    folder = tmp_path_factory.mktemp("runs") / "pace"
    recipe = small("pace", shards, "steps=2")
    train(Recipe(**{name: getattr(recipe, name) for name in recipe.__slots__} | {"backbone_settings": {}}), folder)
    return folder


def tuned(
    weights: str, shards: Path, folder: Path, *words: str, select: str = "last", protocol: str | None = None
) -> Made:
    """As the command has it, with two clips."""
    given = inputs.weights(weights, backbone="tiny" if weights == "random" else None)
    videos, data = inputs.data(str(shards), ("test",))
    small_clips = ("frames=4", "size=16") if weights == "random" else ()
    recipe, _ = recipe_for(given, data)
    recipe = change(recipe, [f"data.shards={shards}", "workers=0", *EPOCHS, *small_clips, *words])
    facts = finetune(
        given, recipe, folder, data=data, videos=videos["test"], how=How(), select=select, protocol=protocol,
        words=["clips=2"],
    )  # fmt: skip
    assert facts is not None
    return commands.finished("finetune", commands.tested(facts), facts, time.monotonic(), {})


def weights_of(**facts: Any) -> Weights:  # noqa: ANN401
    """Weights of which only this is known, and no network."""
    known = {"path": "w/last.pt", "method": "rspnet", "backbone": "r2plus1d", "settings": {}, "clip": [16, 112, 112]}
    return Weights(cast(Any, None), {**known, "normalisation": "imagenet", **facts})


@pytest.mark.parametrize("method", ["pace", "prp"])
def test_network_clips_and_normalisation_are_those_of_the_weights(method: str, shards: Path, tmp_path: Path) -> None:
    train(small(method, shards, "steps=1"), tmp_path / method)
    given = inputs.weights(str(tmp_path / method))
    recipe, note = recipe_for(given, DATA)
    assert (recipe.name, recipe.weights, note) == ("finetune-tiny", str(tmp_path / method / "last.pt"), "")
    assert (recipe.backbone, recipe.backbone_settings, recipe.clip) == ("tiny", {"width": 4}, (4, 16, 16))
    normalise = recipe.method.sampling.looks[0].normalise
    assert normalise == given.facts["normalisation"] == {"pace": "imagenet", "prp": "unit"}[method]
    videos, data = inputs.data(str(shards), ("test",))
    recipe = change(recipe, [f"data.shards={shards}", "workers=0", "batch=4", "steps=2"])
    facts = finetune(given, recipe, tmp_path / "run", data=data, videos=videos["test"], how=How())
    assert facts is not None
    assert {name: facts["protocol"][name] for name in ("frames", "size", "normalise")} == {
        "frames": 4, "size": 16, "normalise": normalise
    }  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "dataset", "word", "name"),
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
    facts: Made, dataset: str, word: str, name: str
) -> None:
    given = weights_of(**facts)
    recipe, note = recipe_for(given, {"name": dataset}, word)
    assert (recipe.name, recipe.backbone, note) == (name, given.facts["backbone"], "")
    assert recipe.weights == (None if given.facts["path"] == "random" else "w/last.pt")
    if name in RECIPES:  # but for what goes with the weights, it is the published one
        assert (recipe.batch, recipe.epochs, recipe.schedule, recipe.data) == (
            RECIPES[name]().batch, RECIPES[name]().epochs, RECIPES[name]().schedule, RECIPES[name]().data
        )  # fmt: skip
        assert recipe.clip == RECIPES[name]().clip


@pytest.mark.parametrize(
    ("method", "dataset"), [("prp", "my films"), ("pace", "SSv2"), ("rspnet", "UCF101+HMDB51"), ("random", "a/b")]
)
def test_for_videos_of_which_no_paper_has_any_the_recipe_of_ucf101_is_taken_and_that_is_said(
    method: str, dataset: str
) -> None:
    recipe, note = recipe_for(weights_of(method=method), {"name": dataset})
    like = "rspnet" if method == "random" else method
    assert recipe.name == f"finetune-{like}-r2plus1d-ucf101"
    assert note == f"no paper fine-tunes {like} on '{dataset}'; by {recipe.name}, nothing held out"
    # 800 of UCF101 are no number for any other set.
    assert (recipe.data.hold_out, recipe.validate.every) == (0, 0)


def test_weights_that_no_clip_can_be_shown_to_in_training_are_refused() -> None:
    with pytest.raises(UsageError) as error:
        recipe_for(weights_of(normalisation="kinetics"), DATA)
    said = "w/last.pt wants clips normalised as torchvision's, which fine-tuning does not know"
    assert str(error.value) == said


def test_what_is_held_out_is_looked_at_each_epoch() -> None:
    plain, prp = RECIPES["finetune-rspnet-c3d-ucf101"](), RECIPES["finetune-prp-c3d-ucf101"]()

    def said(recipe: Recipe) -> tuple[int, str, float]:
        return recipe.data.hold_out, recipe.data.hold_out_by, recipe.validate.every

    assert said(holding_out(plain, None)) == (0, "video", 0)
    assert said(holding_out(plain, 10, "group")) == (10, "group", 1)
    assert said(holding_out(prp, None)) == (800, "video", 1)
    assert said(holding_out(prp, None, "group")) == (800, "group", 1)
    assert said(holding_out(prp, 0)) == (0, "video", 0)
    often = change(plain, ["data.hold_out=5", "validate.every=0.5"])
    assert said(holding_out(often, 7)) == (7, "video", 0.5)


def test_it_starts_from_the_weights_and_from_scratch_with_a_network_of_the_seed(
    run: Path, shards: Path, tmp_path: Path
) -> None:
    for word in (str(run), "random"):
        tuned(word, shards, tmp_path / Path(word).name, "schedule.lr=0", "schedule.warmup=0", "weight_decay=0")
        begun, _ = inputs.load_backbone(tmp_path / Path(word).name)
        given = inputs.weights(word, backbone="tiny")
        for (name, weight), other in zip(begun.named_parameters(), given.net.parameters(), strict=True):
            assert torch.equal(weight, other), (word, name)


def test_a_fine_tuned_run_is_tested_to_the_same_numbers(run: Path, shards: Path, tmp_path: Path) -> None:
    found = tuned(str(run), shards, tmp_path / "run")
    network = classifier(str(tmp_path / "run"))
    videos, data = inputs.data(str(shards), ("test",))
    seen = for_weights("testing", network.facts, None, ["clips=2"], network.seen)
    again = commands.testing(network, videos["test"], data, seen, how=How(), logits=None)
    assert again is not None
    for name in ("top1", "top5", "predictions", "confusion", "fusions", "intervals", "dropped"):
        assert again[name] == found[name], name
    shown = {name: word for name, word in found["protocol"].items() if name in again["protocol"]}
    assert shown == again["protocol"]
    assert (found["weights"]["method"], again["weights"]["method"]) == ("pace", "supervised")
    assert found["weights"]["hash"] == inputs.hash_file(run / "last.pt")
    assert found["fine_tuned"]["hash"] == again["weights"]["hash"] == inputs.hash_file(tmp_path / "run" / "last.pt")


def test_a_result_can_be_made_again_from_what_it_holds(run: Path, shards: Path, tmp_path: Path) -> None:
    found = tuned(str(run), shards, tmp_path / "run", "seed=5")
    result.write(tmp_path / "r.json", found)
    held = json.loads((tmp_path / "r.json").read_bytes())["fine_tuned"]
    train(from_json(Recipe, held["by"]), tmp_path / "again")
    assert_same(saved(tmp_path / "again"), saved(tmp_path / "run"))
    assert (held["seed"], held["data"]["videos"], held["step"]) == (5, 16, 9)
    assert found["protocol"].items() >= {
        "selection": "last", "fine_tuned_by": "finetune-tiny", "epochs": 2.25, "clips": 2
    }.items()  # fmt: skip
    assert found["weights"]["data"]["hash"] == inputs.load_backbone(run)[1]["data"]["hash"]


STEPS = 13


def states_of(path: Path) -> Made:
    """Weights and step."""
    state = torch.load(path, weights_only=True)
    return {"step": state["step"], **state["model"]}


def judged(path: Path, videos: Any, data: Made) -> float:  # noqa: ANN401
    """Top-1 of a kept state on one centre clip."""
    network = classifier(str(path))
    seen = for_weights("testing", network.facts, None, ["clips=1"], network.seen)
    found = video_accuracy.test(network, videos, seen, data=data, how=How(), logits=None)
    assert found is not None
    return float(found["top1"])


@pytest.mark.parametrize("select", ["best-on-test", pytest.param("best-on-held-out", marks=pytest.mark.slow)])
def test_the_best_epoch_is_that_of_a_loop_over_all_and_the_result_says_how_it_was_chosen(
    select: str, run: Path, shards: Path, tmp_path: Path
) -> None:
    words = ("lr=0.01", "warmup=0", "data.hold_out=4", "data.hold_out_by=group", f"steps={STEPS}")
    found = tuned(str(run), shards, tmp_path / "run", *words, select=select)
    videos, data = inputs.data(str(shards), ("test",))
    recipe = recipe_in(tmp_path / "run")
    learned, held = selected(recipe, ShardSet.open(recipe.data.shards))
    assert held is not None
    groups = [{GROUP.search(key).group(1) for key in some.keys.to_pylist()} for some in (learned, held)]  # type: ignore[union-attr]
    assert not groups[0] & groups[1]
    assert (len(learned) + len(held), len(held) >= 4) == (16, True)

    every = round(len(learned) / 4)
    assert recipe.keep_every == every
    train(recipe, tmp_path / "again")  # where all epochs are still there
    states = sorted((tmp_path / "again" / "kept").glob("*.pt"))
    assert [int(path.stem[5:]) for path in states] == list(range(every, STEPS + 1, every))
    states += [tmp_path / "again" / "last.pt"] if STEPS % every else []
    judges = videos["test"] if select == "best-on-test" else held
    tops = [judged(path, judges, data) for path in states]
    assert [one["top1"] for one in found["tried"]] == tops
    wanted = states[tops.index(max(tops))]
    assert_same(states_of(Path(found["fine_tuned"]["path"])), states_of(wanted))
    assert found["protocol"]["selection"] == select
    left = list((tmp_path / "run" / "kept").glob("*.pt"))
    assert [path.name for path in left] == ([wanted.name] if wanted.parent.name == "kept" else [])
    network = classifier(found["fine_tuned"]["path"])
    seen = for_weights("testing", network.facts, None, ["clips=2"], network.seen)
    again = video_accuracy.test(network, videos["test"], seen, data=data, how=How(), logits=None)
    assert again is not None
    assert (again["top1"], again["predictions"]) == (found["top1"], found["predictions"])


def test_of_states_that_are_equally_good_the_first_is_taken_and_the_others_are_removed(
    shards: Path, tmp_path: Path
) -> None:
    train(small("supervised", shards, "steps=4"), tmp_path / "run")
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    videos, data = inputs.data(str(shards), ("train",))
    rows = [row for row, label in enumerate(videos["train"].label) if label != 3]  # 4 of each class
    judges = videos["train"].take(np.array([row for row in rows if videos["train"].label[row] != 0] + rows[:1]))
    counts = np.bincount(judges.label, minlength=4)
    assert counts[1] == counts[2] > counts[0]
    (tmp_path / "run" / "kept").mkdir()
    for step, label in ((1, 0), (2, 2), (3, 1)):  # each names one class always
        state["model"]["head.weight"].zero_()
        state["model"]["head.bias"] = torch.eye(4)[label]
        torch.save(state | {"step": step}, tmp_path / "run" / "kept" / f"step_{step:07}.pt")
    path, tried = best(tmp_path / "run", 4, judges, data, How())
    assert path == tmp_path / "run" / "kept" / "step_0000002.pt"
    assert [one["step"] for one in tried] == [1, 2, 3, 4]
    share = [100 * count / len(judges) for count in counts]
    assert [one["top1"] for one in tried[:3]] == pytest.approx([share[0], share[2], share[1]])
    assert [one.name for one in (tmp_path / "run" / "kept").iterdir()] == [path.name]


def test_the_last_epoch_is_one_of_them_also_where_it_is_not_a_whole_one(
    run: Path, shards: Path, tmp_path: Path
) -> None:
    found = tuned(str(run), shards, tmp_path / "run", "steps=6", select="best-on-test")
    assert [one["step"] for one in found["tried"]] == [4, 6]
    found = tuned(str(run), shards, tmp_path / "short", "steps=2", select="best-on-test")
    assert [one["step"] for one in found["tried"]] == [2]


def test_what_was_stopped_goes_on_with_the_same_command(run: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "data_shards").symlink_to(shards)
    words = ("--weights", run, "--into", "tuned", "--workers", 0, "batch=4", "steps=30", "test.clips=1")
    process = begin("finetune", *words, "save_every=1", cwd=tmp_path, said=tmp_path)
    while not (tmp_path / "tuned" / "last.pt").exists() and process.is_alive():
        time.sleep(0.001)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join()
    said = (tmp_path / "stderr").read_text()
    step = saved(tmp_path / "tuned")["step"]
    assert process.exitcode == 1, said
    assert f"\nveval: stopped at step {step} of 30, which is saved; go on with: " in said
    assert "training in tuned; when it was stopped, --into tuned goes on\n" in said
    assert not list((tmp_path / "results").iterdir())

    other = veval("finetune", *words, "--seed", 1, cwd=tmp_path)
    assert (other.returncode, other.stderr.splitlines()[-1]) == (2, (
        "veval: tuned was begun with seed=0, asked is 1; ask the same, or name another --into"
    ))  # fmt: skip
    assert saved(tmp_path / "tuned")["step"] == step
    found = veval("finetune", *words, "--json", cwd=tmp_path).json
    whole = veval("finetune", *words[:2], *words[4:], "--json", cwd=tmp_path).json
    for name in ("top1", "predictions"):
        assert found[name] == whole[name]
    states = [states_of(tmp_path / one["fine_tuned"]["path"]) for one in (found, whole)]
    assert_same(states[0], states[1])


def test_a_training_that_is_done_is_tested_again(run: Path, shards: Path, tmp_path: Path) -> None:
    first = tuned(str(run), shards, tmp_path / "run")
    state = (tmp_path / "run" / "last.pt").read_bytes()
    again = tuned(str(run), shards, tmp_path / "run", "save_every=7")
    assert (tmp_path / "run" / "last.pt").read_bytes() == state
    assert again["predictions"] == first["predictions"]
    assert again["protocol"] == first["protocol"]


def test_a_folder_of_something_else_is_left_alone(run: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    videos, data = inputs.data(str(shards), ("test",))
    recipe = change(recipe_for(inputs.weights(str(run)), data)[0], [f"data.shards={shards}"])
    with pytest.raises(UsageError) as error:
        trained(resolved(recipe, ShardSet.open(shards)), tmp_path, videos["test"])
    assert str(error.value) == f"{tmp_path} is there already and holds no fine-tuning; name another --into"


def test_fine_tuning_is_reported_beside_the_network_from_scratch(run: Path, shards: Path, tmp_path: Path) -> None:
    pre, scratch = (tuned(word, shards, tmp_path / Path(word).name) for word in (str(run), "random"))
    found = report.of_results([pre, scratch])
    (gain,) = found.against
    assert gain.points == pytest.approx(pre["top1"] - scratch["top1"])
    assert gain.interval is not None
    assert gain.interval[0] <= gain.points <= gain.interval[1]
    assert (gain.method, gain.backbone) == ("Pace", "tiny")
    assert [line.published for line in found.lines] == [[], []]  # of so small a network nobody has published anything
    assert "backbone: " in found.lines[0].notes[0]
    on_test = tuned(str(run), shards, tmp_path / "best", select="best-on-test")
    (line,) = report.of_results([on_test]).lines
    assert "the epoch was chosen on the test videos" in line.notes


@pytest.mark.slow
def test_several_seeds_are_one_line_of_the_report(run: Path, shards: Path, tmp_path: Path) -> None:
    found = [tuned(str(run), shards, tmp_path / f"{seed}", f"seed={seed}") for seed in (0, 1)]
    (line,) = report.of_results(found).lines
    assert (line.over, line.value) == ("2 seeds", pytest.approx((found[0]["top1"] + found[1]["top1"]) / 2))
