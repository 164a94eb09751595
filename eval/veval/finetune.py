"""Fine-tuning: the network is trained on labels from given weights, or from scratch, and then tested on whole videos.

The last epoch counts. RSPNet's authors keep the epoch that is best on the test videos, and VCOP's and PRP's the one
that is best on held-out ones: both are there by name, and the result says so.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from veval.classifier import Classifier, classifier
from veval.features import How
from veval.find import Facts, Weights
from veval.protocol import OF_METHOD, Protocol, for_weights
from veval.testing import test
from vprep.errors import UsageError
from vtrain.checkpoint import KEPT
from vtrain.data.videos import Videos
from vtrain.recipe import Recipe
from vtrain.recipes import find, finetuning
from vtrain.settings import change
from vtrain.train import chosen, train

Select = Literal["last", "best-on-test", "best-on-held-out"]
TINY = "finetune-tiny"


def recipe_for(weights: Weights, data: Facts, word: str = "") -> Recipe:
    """The recipe called `word`; without one, that of the weights' method for this data set, or of RSPNet.

    What the network is and how its clips are normalised goes with the weights.
    """
    facts = weights.facts
    method, dataset = facts["method"], str(data["name"]).lower()
    if word not in ("", "released", "paper"):
        recipe = find("supervised", word, None)
    elif facts["backbone"] == "tiny":
        recipe = find("supervised", TINY, None)
    else:
        method = method if method in OF_METHOD["testing"] else "rspnet"
        recipe = finetuning(method, dataset, facts["backbone"], "paper" if word == "paper" else "released")
    start = None if facts["path"] == "random" else facts["path"]
    recipe = replace(recipe, backbone=facts["backbone"], backbone_settings=facts["settings"] or {}, weights=start)
    known = facts["normalisation"]
    if known == "kinetics":
        raise UsageError(f"{facts['path']} wants clips normalised as torchvision's, which fine-tuning does not know")
    return recipe if known is None else change(recipe, [f"method.sampling.looks.normalise={known}"])


def finetune(
    weights: Weights, recipe: Recipe, run: Path, *, data: Facts, videos: Videos, how: How, select: Select = "last",
    protocol: str | None = None, words: list[str] | None = None,
) -> Facts | None:  # fmt: skip
    """Train by `recipe` in the folder `run`, and test on `videos`. Of several processes the first one tests."""
    if select not in get_args(Select):
        raise UsageError(f"--select is '{select}'; there are {', '.join(get_args(Select))}")
    if select == "best-on-held-out" and not recipe.data.hold_out:
        raise UsageError("--select best-on-held-out, and nothing is held out; say how many videos: --hold-out 800")
    each_epoch = select != "last"
    if each_epoch:
        recipe = replace(recipe, keep_every=steps_of_an_epoch(recipe))
    told = train(recipe, run)
    if how.place[0] > 0:
        return None
    picked = run
    tried: list[dict[str, Any]] = []
    if each_epoch:
        judges = videos if select == "best-on-test" else held_out_of(recipe)
        picked, tried = best(run, judges, weights, data, how)
    network = classifier(str(picked))
    seen = protocol_of(weights, network, protocol, words)
    found = alone(network, videos, seen, data, how)
    chosen_by = {"selection": select, "fine_tuned_by": recipe.name, "epochs": round(told["epoch"], 2)}
    return {
        **found,
        "protocol": {**found["protocol"], **chosen_by},
        "weights": weights.facts,
        "fine_tuned": {**network.facts, "run": str(run), "seed": recipe.seed, "seconds": told["seconds"]},
        "tried": tried,
    }


def protocol_of(weights: Weights, network: Classifier, name: str | None, words: list[str] | None) -> Protocol:
    """How a fine-tuned network is tested: as the method of its first weights is, on clips as it was trained on."""
    facts = {**network.facts, "method": weights.facts["method"]}
    return for_weights("testing", facts, name, words or [], network.seen)


def best(run: Path, judges: Videos, weights: Weights, data: Facts, how: How) -> tuple[Path, list[dict[str, Any]]]:
    """The kept state that is best on one centre clip of each of these videos, and what each came to; the first of
    equals. The others are removed."""
    tried = []
    kept = sorted((run / KEPT).glob("step_*.pt"))
    for path in kept:
        network = classifier(str(path))
        seen = protocol_of(weights, network, None, ["clips=1"])
        found = alone(network, judges, seen, data, how)
        tried.append({"step": network.facts["step"], "top1": found["top1"]})
    top = max(range(len(kept)), key=lambda number: tried[number]["top1"])
    for path in kept:
        if path != kept[top]:
            path.unlink()
    return kept[top], tried


def alone(network: Classifier, videos: Videos, seen: Protocol, data: Facts, how: How) -> Facts:
    """A test by this process, however many have trained."""
    return cast(Facts, test(network, videos, seen, data=data, how=replace(how, rank=0, world=1), logits=None))


def steps_of_an_epoch(recipe: Recipe) -> int:
    videos, _ = chosen(recipe)
    return max(1, round(recipe.length(len(videos)).per_epoch))


def held_out_of(recipe: Recipe) -> Videos:
    return cast(Videos, chosen(recipe)[1])
