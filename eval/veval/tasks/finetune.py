"""Fine-tuning: train a network on labels, from given weights or from scratch, and then test it on whole videos.

The recipe says which epoch is tested. By VCOP's and PRP's recipes it is the one with the lowest loss on held-out
videos, whose clips are drawn and cropped as those of the training; of equal epochs the first. By all others it is the
last. RSPNet's authors keep the epoch that is best on the test videos. Each can be selected, and the result says so.

Differs from VCOP's and PRP's code:
- held-out videos give the same random clips after each epoch; there, each epoch draws new ones
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from veval.early_checks import demand_selection
from veval.evaluation import Data, Evaluation, Execution, Info, Weights, WeightsInfo, nothing
from veval.features.forward import demand_memory
from veval.inputs import crop_of, demand_labels
from veval.protocol import crop_note, for_weights
from veval.tasks.best_on_test import BestOnTest
from veval.tasks.classifier import load_classifier, sampled_like
from veval.tasks.video_accuracy import measure
from vprep.errors import UsageError
from vtrain.data.augment.config import demand_distinct
from vtrain.data.dataset import By, Videos
from vtrain.data.shard_set import ShardSet
from vtrain.meeting import demand_same
from vtrain.metrics_file import numbers_in
from vtrain.overrides import as_json, change, listed
from vtrain.recipes import RECIPES, find, finetuning
from vtrain.recipes.names import split
from vtrain.recipes.recipe import Recipe, for_classes
from vtrain.run_folder import LAST, METRICS, RECIPE, header, is_empty, read_json, weights_file
from vtrain.training.inputs import Inputs, recipe_in, resolved, selected
from vtrain.training.log import note
from vtrain.training.train import train

BEST_BY = {"held_out_loss": "best-on-held-out", "loss": "best-on-train"}  # what results say of a recipe's best epoch
TINY = "finetune-tiny"
USUAL = "ucf101"  # the data set whose recipe is used for videos on which no paper fine-tunes
# Settings that may differ when a training continues; hashes show whether shards elsewhere are the same.
MAY_CHANGE = ("workers", "log_every", "save_every", "save_minutes", "data.shards", "data.on_error", "data.budget")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FineTuning:
    """All inputs of a fine-tuning."""

    weights: Weights
    recipe: Recipe
    folder: Path  # of the training
    data: Data  # the videos that are tested on, as a single split
    execution: Execution
    selection: str | None = None  # of the epoch; None: the recipe's
    protocol: str | None = None  # of the test; None: that of the recipe
    words: Sequence[str] = ()  # changes of the protocol, key=value
    begin: Callable[[], None] = lambda: None  # called when nothing is left to refuse
    again: str = ""  # how a user continues it when it was stopped, as the end of a sentence

    @property
    def is_begun(self) -> bool:
        """Whether the folder holds a training, which will continue."""
        return (self.folder / RECIPE).exists()

    @property
    def test_videos(self) -> Videos:
        (videos,) = self.data.videos.values()
        return videos

    @property
    def shards(self) -> ShardSet:
        """The shards to learn from: the tested shards, unless the recipe names others."""
        same = self.recipe.data.shards == self.data.shards.spec
        return self.data.shards if same else ShardSet.open(self.recipe.data.shards)


def recipe_for(weights: WeightsInfo, dataset: str, word: str = "") -> tuple[Recipe, str]:
    """Return the recipe, and a note for the user where no paper fine-tunes on such a data set; empty otherwise.

    The recipe is called `word`; without a word, it is that of the weights' method for this data set, or of RSPNet.
    The network and the normalisation of its clips are those of the weights.
    """
    note = ""
    if weights.normalisation == "kinetics":
        raise UsageError(
            f"{weights.path} expects clips normalised as torchvision does, which training cannot do; name other weights"
        )
    words = ["method.classes=0"]  # as many as these videos have
    if word not in ("", "released", "paper"):
        recipe = find("supervised", word, None)
    elif weights.backbone == "tiny":
        recipe = find("supervised", TINY, None)
    else:
        recipe, note = published_recipe(weights, dataset, word)
    if recipe.name == TINY and weights.clip:
        words += [f"frames={weights.clip[0]}", f"size={weights.clip[1]}"]
    if weights.normalisation:
        words += [f"method.sampling.looks.normalise={weights.normalisation}"]
    recipe = replace(recipe, **network_of(weights))
    return change(recipe, words), note


def network_of(weights: WeightsInfo) -> dict[str, Any]:
    """Return the settings of a recipe that follow from the weights."""
    start = None if weights.is_random else weights.path
    return {"weights": start, "backbone": weights.backbone, "backbone_settings": weights.settings}


def published_recipe(weights: WeightsInfo, dataset: str, word: str) -> tuple[Recipe, str]:
    """Return the recipe of the weights' method and a note; on other data sets that of UCF101, with nothing held out."""
    known = {split(name) for name in RECIPES}
    method = weights.like or weights.method
    method = method if method and f"finetune-{method}" in {name.start for name in known} else "rspnet"
    there = dataset.lower() in {name.data for name in known if name.start == f"finetune-{method}"}
    recipe = finetuning(
        method, dataset.lower() if there else USUAL, weights.backbone, "paper" if word == "paper" else "released"
    )
    if there:
        return recipe, ""
    note = f"no paper fine-tunes {method} on '{dataset}'; using {recipe.name}, with no videos held out"
    return holding_out(recipe, 0), note


def holding_out(recipe: Recipe, count: int | None, by: By | None = None) -> Recipe:
    """Return the recipe with `count` held-out videos, validated after each epoch; None: as many as before.

    Without a validation there is no best epoch.
    """
    data = replace(
        recipe.data,
        hold_out=recipe.data.hold_out if count is None else count,
        hold_out_by=by or recipe.data.hold_out_by,
    )
    validate = recipe.validate
    every = (validate.every or 1.0) if data.hold_out else validate.every if validate.split else 0.0
    keep = recipe.keep if every or recipe.best_by == "loss" else "last"
    return replace(recipe, data=data, validate=replace(validate, every=every), keep=keep)


def finetune(tuning: FineTuning) -> tuple[Info, Info] | None:
    """Train, test, and return the numbers and what they depend on. Only the first of several processes tests.

    A training that was stopped continues; a finished training is only tested again.
    """
    refuse_other_network(tuning.weights.info, tuning.recipe)
    refuse_trained_since(tuning.weights.info, tuning.folder)
    shards = tuning.shards
    recipe = resolved(selecting(tuning), shards)
    refuse_tested(tuning, recipe, shards)
    learned = refuse_untestable(replace(tuning, recipe=recipe), shards)
    per_epoch = recipe.length(len(learned)).per_epoch
    on_test = None
    if tuning.selection == "best-on-test":
        recipe, on_test = replace(recipe, keep_every=max(1, round(per_epoch))), best_on_test(tuning)
        on_test.tried()  # refuses those of other videos
    demand_folder(recipe, tuning.folder, tuning.test_videos)
    tuning.begin()
    summary = run_training(recipe, tuning, shards, on_test.after_epoch if on_test else None)
    if tuning.execution.rank_and_world[0] > 0:
        return None
    note(f"testing {len(tuning.test_videos)} videos")
    if on_test is None:
        state, tried, selection = selected_state(tuning, recipe)
    else:
        (state, tried), selection = on_test.chosen(summary["steps"]), "best-on-test"
    numbers, evaluation = tested(tuning, state, tuning.protocol, tuning.words)
    info = evaluation.info("testing")
    info["protocol"] |= {
        "selection": selection,
        "fine_tuned_by": recipe.name,
        "epochs": round(summary["steps"] / per_epoch, 2),
    }
    fine_tuned = {
        **info["weights"],
        "run": str(tuning.folder),
        "seed": recipe.seed,
        "seconds": summary["seconds"],
        "by": read_json(tuning.folder / RECIPE),
    }
    return {**numbers, "fine_tuned": fine_tuned, "tried": tried}, {**info, "weights": tuning.weights.info.as_dict()}


def refuse_other_network(weights: WeightsInfo, recipe: Recipe) -> None:
    """Refuse a recipe with another network than that of the weights, because the result is about the weights."""
    for name, wanted in network_of(weights).items():
        if getattr(recipe, name) != wanted:
            raise UsageError(
                f"{name} is set to {getattr(recipe, name)}, but for {weights.path} it must be {wanted}; "
                f"choose the network with --weights, and leave {name} out"
            )


def refuse_trained_since(weights: WeightsInfo, folder: Path) -> None:
    """Refuse to go on with a fine-tuning that began from other weights, because the result is about the weights.

    A run that was lengthened has other weights by the same name. States of version 0.1 do not say what they began from.
    """
    begun = header(folder / LAST).get("initial")
    if isinstance(begun, str) and begun != weights.hash:
        raise UsageError(
            f"{folder} was begun from other weights than those that {weights.path} holds now; name another --into"
        )


def selecting(tuning: FineTuning) -> Recipe:
    """Return the recipe, which keeps the best epoch where that is selected. A run goes on as it was begun."""
    demand_selection(tuning.selection)
    recipe = tuning.recipe
    if tuning.selection == "best-on-held-out":
        if not recipe.data.hold_out:
            raise UsageError("--select is best-on-held-out, but no videos are held out; hold some out: --hold-out 800")
        return replace(recipe, keep="best", best_by="held_out_loss")
    begun = tuning.folder / RECIPE
    is_older = begun.exists() and "keep" not in read_json(begun)  # than the setting
    return replace(recipe, keep="last") if is_older else recipe


def refuse_tested(tuning: FineTuning, recipe: Recipe, shards: ShardSet) -> None:
    """Refuse to learn from all videos of the tested set unless the user has written so."""
    if shards is tuning.data.shards and recipe.data.split == "all" and tuning.recipe.data.split == "auto":
        raise UsageError(
            f"{shards.spec} has no train split, so the network would learn from the videos that it is tested on; name "
            "a set with a train split, or another one to learn from: data.shards=SET"
        )


def refuse_untestable(tuning: FineTuning, shards: ShardSet) -> Videos:
    """Refuse before the training what would fail after it; return the training videos."""
    recipe = tuning.recipe
    demand_labels(tuning.test_videos, tuning.data.info)
    said = as_json(recipe)
    tuned = replace(tuning.weights.info, recipe=recipe.name, clip=list(recipe.clip), crop=crop_of(said))
    protocol = for_weights("testing", tuned, tuning.protocol, tuning.words, sampled_like(said))
    demand_memory(protocol.plan(), tuning.test_videos)
    demand_distinct(protocol.plan().looks[0], tuning.test_videos.frame_sizes)
    note(crop_note(protocol, tuned, tuning.data.info.side, "test."))
    return selected(recipe, shards)[0]


def demand_folder(recipe: Recipe, folder: Path, videos: Videos) -> None:
    """Refuse a folder in which something else than this training was begun."""
    if (folder / RECIPE).exists():
        refuse_another_training(recipe, folder, videos)
    elif folder.exists() and not (folder.is_dir() and is_empty(folder)):
        raise UsageError(f"{folder} exists and holds no fine-tuning; name another --into")


def run_training(recipe: Recipe, tuning: FineTuning, shards: ShardSet, on_keep: Callable[[], None] | None) -> Info:
    """Train in a folder, or continue the same training where it stopped; `on_keep` is called when a state is kept."""
    begun = tuning.is_begun
    # Nobody writes before all processes have checked the folder.
    found = "a run" if begun else "no run"
    demand_same(
        {"the folder of the training": str(tuning.folder), str(tuning.folder): found},
        "start all processes in the same folder, which all nodes share",
    )
    inputs = Inputs.open(recipe, shards)
    return train(recipe, tuning.folder, resume=begun, inputs=inputs, on_keep=on_keep, again=tuning.again)


def refuse_another_training(recipe: Recipe, folder: Path, videos: Videos) -> None:
    """Refuse a folder in which another recipe was begun."""
    there = dict(listed(recipe_in(folder)))
    here = dict(listed(for_classes(recipe, len(videos.classes or ()))))
    for name in dict.fromkeys((*here, *there)):
        if name not in MAY_CHANGE and there.get(name) != here.get(name):
            raise UsageError(
                f"{folder} was begun with {name}={there.get(name)}, not {here.get(name)}; repeat the first command, or "
                "name another --into"
            )


def selected_state(tuning: FineTuning, recipe: Recipe) -> tuple[Path, list[Info], str]:
    """Return the state to test, the numbers of the epochs it was selected from, and how, in a word."""
    state = weights_file(tuning.folder)
    if tuning.selection == "last" or recipe.keep == "last" or state.name == LAST:
        return tuning.folder / LAST, [], "last"
    lines = filter(None, map(numbers_in, (tuning.folder / METRICS).read_bytes().splitlines()))
    tried = [
        {name: line[name] for name in ("step", recipe.best_metric)} for line in lines if recipe.best_metric in line
    ]
    return state, tried, BEST_BY[recipe.best_by]


def best_on_test(tuning: FineTuning) -> BestOnTest:
    """Return how the epochs are tested while the training goes on: by one centre clip of each test video."""
    silent = replace(tuning, execution=replace(tuning.execution, progress=nothing))

    def accuracy(state: Path) -> float:
        numbers, evaluation = tested(silent, state, None, ["clips=1"])
        note(f"step {evaluation.network.info.step}: {numbers['top1']:.2f} % of the test videos are correct")
        return float(numbers["top1"])

    return BestOnTest(tuning.folder, tuning.test_videos.fingerprint, accuracy)


def tested(tuning: FineTuning, state: Path, protocol: str | None, words: Sequence[str]) -> tuple[Info, Evaluation[Any]]:
    """Test a state of the training in this process alone, for any number of processes that have trained."""
    network = load_classifier(str(state))
    evaluation = Evaluation(
        network=network,
        data=tuning.data,
        protocol=for_weights("testing", network.info, protocol, words, network.trained_on),
        execution=replace(tuning.execution, rank=0, world=1),
    )
    return cast(Info, measure(evaluation)), evaluation
