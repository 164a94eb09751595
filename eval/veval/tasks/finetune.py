"""Fine-tuning: the network is trained on labels from given weights, or from scratch, and then tested on whole videos.

The last epoch counts. RSPNet's authors keep the epoch that is best on the test videos, and VCOP's and PRP's the one
that is best on held-out ones: both are there by name, and the result says so.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch.distributed as dist

from veval.features.extract import How
from veval.inputs import RANDOM, Facts, Weights, demand_labels
from veval.protocol import OF_METHOD, Protocol, for_weights
from veval.tasks.classifier import Classifier, classifier
from veval.tasks.video_accuracy import test
from vprep.errors import UsageError
from vtrain.data.dataset import By, Videos
from vtrain.data.shard_set import ShardSet
from vtrain.distributed import world
from vtrain.overrides import change, listed
from vtrain.recipes import RECIPES, find, finetuning
from vtrain.recipes.names import split
from vtrain.recipes.recipe import Recipe, for_classes
from vtrain.run_folder import KEPT, LAST, RECIPE, newest, read_json
from vtrain.training.train import recipe_in, train
from vtrain.training.training import resolved, selected

SELECT = ("last", "best-on-test", "best-on-held-out")
TINY = "finetune-tiny"
USUAL = "ucf101"  # whose recipe is taken for videos of which no paper has any
TUNED = Path("runs") / "finetuned"
# Of a training that goes on; whether shards that lie elsewhere are the same ones, their hashes tell.
MAY_CHANGE = ("workers", "log_every", "save_every", "data.shards")


def recipe_for(weights: Weights, data: Facts, word: str = "") -> tuple[Recipe, str]:
    """The recipe called `word`; without one, that of the weights' method for this data set, or of RSPNet. And what is
    to be said of it, where it is none for this data set.

    What the network is and how its clips are normalised goes with the weights.
    """
    facts, note = weights.facts, ""
    if facts["normalisation"] == "kinetics":
        raise UsageError(f"{facts['path']} wants clips normalised as torchvision's, which fine-tuning does not know")
    words = ["method.classes=0"]  # as many as these videos have
    if word not in ("", "released", "paper"):
        recipe = find("supervised", word, None)
    elif facts["backbone"] == "tiny":
        recipe = find("supervised", TINY, None)
    else:
        recipe, note = published(facts, str(data["name"]), word)
    if recipe.name == TINY and facts["clip"]:
        words += [f"frames={facts['clip'][0]}", f"size={facts['clip'][1]}"]
    if facts["normalisation"]:
        words += [f"method.sampling.looks.normalise={facts['normalisation']}"]
    start = None if facts["path"] == RANDOM else facts["path"]
    recipe = replace(recipe, backbone=facts["backbone"], backbone_settings=facts["settings"] or {}, weights=start)
    return change(recipe, words), note


def published(facts: Facts, dataset: str, word: str) -> tuple[Recipe, str]:
    """How the authors of the weights' method fine-tune; on other videos than theirs, as on UCF101, all of them."""
    method = facts.get("like") or facts["method"]
    method = method if method in OF_METHOD["testing"] else "rspnet"
    known = {split(name).data for name in RECIPES if split(name).start == f"finetune-{method}"}
    there = dataset.lower() in known
    recipe = finetuning(
        method, dataset.lower() if there else USUAL, facts["backbone"], "paper" if word == "paper" else "released"
    )
    if there:
        return recipe, ""
    return holding_out(recipe, 0), f"no paper fine-tunes {method} on '{dataset}'; by {recipe.name}, nothing held out"


def holding_out(recipe: Recipe, count: int | None, by: By | None = None) -> Recipe:
    """With so many videos of the training kept from it, and looked at after each epoch; None: as many as before."""
    data = replace(
        recipe.data,
        hold_out=recipe.data.hold_out if count is None else count,
        hold_out_by=by or recipe.data.hold_out_by,
    )
    looked = recipe.validate
    every = (looked.every or 1.0) if data.hold_out else looked.every if looked.split else 0.0
    return replace(recipe, data=data, validate=replace(looked, every=every))


def finetune(
    weights: Weights, recipe: Recipe, run: Path, *, data: Facts, videos: Videos, how: How, select: str = "last",
    protocol: str | None = None, words: list[str] | None = None,
) -> Facts | None:  # fmt: skip
    """Train by `recipe` in the folder `run`, and test on `videos`. Of several processes the first one tests.

    A training that stopped there goes on, and one that is done is tested again.
    """
    refuse_others(weights, recipe)
    recipe = resolved(recipe, ShardSet.open(recipe.data.shards))
    learned, held = refuse_untestable(recipe, data, videos, select, protocol, words)
    per_epoch = recipe.length(len(learned)).per_epoch
    if select != "last":
        recipe = replace(recipe, keep_every=max(1, round(per_epoch)))
    told = trained(recipe, run, videos)
    if how.place[0] > 0:
        return None
    picked: Path = run
    tried: list[dict[str, Any]] = []
    if select != "last":
        judges = videos if select == "best-on-test" else cast(Videos, held)
        picked, tried = best(run, told["steps"], judges, data, how)
    network = classifier(str(picked))
    seen = for_weights("testing", network.facts, protocol, words or [], network.seen)
    found = alone(network, videos, seen, data, how)
    epochs = round(told["steps"] / per_epoch, 2)
    return {
        **found,
        "protocol": {**found["protocol"], "selection": select, "fine_tuned_by": recipe.name, "epochs": epochs},
        "weights": weights.facts,
        "fine_tuned": {
            **network.facts,
            "run": str(run),
            "seed": recipe.seed,
            "seconds": told["seconds"],
            "by": read_json(run / RECIPE),
        },
        "tried": tried,
    }


def refuse_others(weights: Weights, recipe: Recipe) -> None:
    """The recipe's network is that of the weights: a result tells of them."""
    facts = weights.facts
    wanted = {
        "weights": None if facts["path"] == RANDOM else facts["path"],
        "backbone": facts["backbone"],
        "backbone_settings": facts["settings"] or {},
    }
    for name, word in wanted.items():
        if getattr(recipe, name) != word:
            raise UsageError(
                f"the recipe's {name} is {getattr(recipe, name)}, that of {facts['path']} is {word}; "
                "choose the network by --weights alone, and leave it out of the settings"
            )


def refuse_untestable(
    recipe: Recipe, data: Facts, videos: Videos, select: str, protocol: str | None, words: list[str] | None
) -> tuple[Videos, Videos | None]:
    """What would be wrong after hours of training is said before it; then what is learned from and what is held out."""
    if select not in SELECT:
        raise UsageError(f"--select is '{select}'; there are {', '.join(SELECT)}")
    if select == "best-on-held-out" and not recipe.data.hold_out:
        raise UsageError("--select best-on-held-out, and nothing is held out; say how many videos: --hold-out 800")
    demand_labels(videos, data)
    for_weights("testing", {"recipe": recipe.name, "clip": recipe.clip}, protocol, words or [])
    return selected(recipe, ShardSet.open(recipe.data.shards))


def trained(recipe: Recipe, run: Path, videos: Videos) -> Facts:
    """Train in this folder, or go on with the same training where it stopped."""
    again = (run / RECIPE).exists()
    if again:
        refuse_another(recipe, run, videos)
    elif run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UsageError(f"{run} is there already and holds no fine-tuning; name another --into")
    if world() > 1:
        dist.barrier()  # before all have looked, nobody writes
    return train(recipe, run, resume=again)


def refuse_another(recipe: Recipe, run: Path, videos: Videos) -> None:
    """The training in this folder was begun by the same recipe."""
    begun = dict(listed(recipe_in(run)))
    asked = dict(listed(for_classes(recipe, len(videos.classes or ()))))
    for name in dict.fromkeys((*asked, *begun)):
        if name not in MAY_CHANGE and begun.get(name) != asked.get(name):
            raise UsageError(
                f"{run} was begun with {name}={begun.get(name)}, asked is {asked.get(name)}; ask the same, or name "
                "another --into"
            )


def best(run: Path, steps: int, judges: Videos, data: Facts, how: How) -> tuple[Path, list[dict[str, Any]]]:
    """The state that is best on one centre clip of each of these videos, and what each came to; the first of equals.
    The other kept ones are removed."""
    kept = sorted((run / KEPT).glob("step_*.pt"))
    states = kept if kept and kept[-1].stem == f"step_{steps:07}" else [*kept, run / LAST]
    tried = []
    for path in states:
        network = classifier(str(path))
        seen = for_weights("testing", network.facts, None, ["clips=1"], network.seen)
        found = alone(network, judges, seen, data, how)
        tried.append({"step": network.facts["step"], "top1": found["top1"]})
    top = states[max(range(len(states)), key=lambda number: tried[number]["top1"])]
    for path in kept:
        if path != top:
            path.unlink()
    return top, tried


def alone(network: Classifier, videos: Videos, seen: Protocol, data: Facts, how: How) -> Facts:
    """A test by this process, however many have trained."""
    return cast(Facts, test(network, videos, seen, data=data, how=replace(how, rank=0, world=1), logits=None))


def newest_tuned() -> str | None:
    """The fine-tuned run that was saved last, of those in the usual place; None where there is none."""
    found = newest(TUNED)
    return None if found is None else str(found)
