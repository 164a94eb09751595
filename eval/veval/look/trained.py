"""A method's network with its heads, which a file of a backbone lacks: from a run, from its authors, or untrained."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from veval.evaluation import WeightsInfo
from veval.inputs import LIKE, inference_ready, info_of, weights
from veval.look.asked import demand_method
from vprep.errors import UsageError
from vtrain.backbones import Backbone
from vtrain.backbones import backbone as new_backbone
from vtrain.methods import METHODS
from vtrain.overrides import from_json
from vtrain.recipes import find, named
from vtrain.recipes.recipe import Recipe
from vtrain.weights import import_weights, load_backbone
from vtrain.weights.backbone_file import COUNTER, METADATA_KEY, as_sentence, refuse_not_finite, without_prefix
from vtrain.weights.checkpoint_file import read
from vtrain.weights.importer import as_backbone
from vtrain.weights.location import file_of
from vtrain.weights.origins.by_name import origin_named

Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A method's module in eval mode, its config, and the description of its weights."""

    module: Any  # each method has a module of its own
    config: Any
    info: WeightsInfo


def trained(word: str, method: str, *, backbone: str | None = None, seed: int = 0) -> Trained:
    """Return the network of `method` in the weights `word`: a run, a file, or random:RUN."""
    if word.startswith(LIKE):
        return _untrained(word, method, backbone, seed)
    path = file_of(Path(word))
    contents = read(path)
    if isinstance(contents.values.get("recipe"), dict):
        return _of_run(path, method, contents.values["recipe"], contents.tensors, backbone)
    if METADATA_KEY in contents.values:
        raise UsageError(
            f"{path} holds only a backbone, and this needs the heads of {method}, too; name the run's folder, or the "
            "file that the authors published"
        )
    return _of_authors(path, method, contents.tensors)


def _untrained(word: str, method: str, backbone: str | None, seed: int) -> Trained:
    recipe = named(word.removeprefix(LIKE))
    demand_method(recipe, method, word)
    found = weights(word, backbone=backbone, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = METHODS[method].module(found.net, recipe.method)
    return Trained(inference_ready(module), recipe.method, found.info)


def _of_run(path: Path, method: str, found: Any, tensors: Tensors, backbone: str | None) -> Trained:  # noqa: ANN401
    try:
        recipe = from_json(Recipe, found)
    except UsageError as error:
        raise UsageError(f"{path} holds no recipe of this version: {error}") from None
    demand_method(recipe, method, path)
    net, info = load_backbone(path, expected=backbone)
    module = METHODS[method].module(net, recipe.method)
    _load(path, module, without_prefix("model.", tensors))
    return Trained(inference_ready(module), recipe.method, info_of(path, info, net))


def _load(path: Path, module: nn.Module, state: Tensors) -> None:
    """Copy all tensors into a module; refuse what is not the module's state."""
    wanted = module.state_dict()
    wrong = {
        "missing": [name for name in wanted if name not in state and not name.endswith(COUNTER)],
        "unknown": [name for name in state if name not in wanted],
        "of another shape": [name for name in wanted if name in state and state[name].shape != wanted[name].shape],
    }
    if any(wrong.values()):
        faults = as_sentence({kind: names for kind, names in wrong.items() if names})
        raise UsageError(f"{path} does not hold a complete network of its method: {faults}; take another state of it")
    refuse_not_finite(path, state)
    module.load_state_dict(state, strict=False)  # files of old versions of torch lack the counters of batch norm


def _of_authors(path: Path, method: str, tensors: Tensors) -> Trained:
    """Return the network in a checkpoint that the authors of RSPNet or PRP published."""
    found = import_weights(path, method)
    name = found.info.backbone
    net = _built(name, found.state)
    config: Any = find(method, backbone=name).method
    state = _rspnet_heads(path, name, tensors) if method == "rspnet" else found.heads
    if not state:
        raise UsageError(f"{path} holds no heads of {method}, as a fine-tuned network; name one that was pre-trained")
    config = replace(config, queue=1) if method == "rspnet" else config
    module = METHODS[method].module(net, config)
    state = {**{f"backbone.{key}": tensor for key, tensor in net.state_dict().items()}, **state}
    _load(path, module, _with_queue(module, state))
    return Trained(inference_ready(module), config, info_of(path, found.info, net))


def _with_queue(module: nn.Module, state: Tensors) -> Tensors:
    """Return the state with the queue of an untrained RSPNet, which no picture needs."""
    own = {name: tensor for name, tensor in module.state_dict().items() if name.startswith("queue.")}
    return {**own, **state}


def _rspnet_heads(path: Path, backbone: str, tensors: Tensors) -> Tensors:
    """Return the tensors of RSPNet's heads and of its momentum copy under the names of our module."""
    state: Tensors = {}
    for theirs, ours in (("encoder_q.", ""), ("encoder_k.", "key_")):
        part = {name.partition(theirs)[2]: tensor for name, tensor in tensors.items() if theirs in name}
        for head, task in (("fc1.", "appearance."), ("fc2.", "motion.")):
            state |= {f"{ours}heads.{task}{name}": tensor for name, tensor in without_prefix(head, part).items()}
        if ours:
            state |= {f"key_backbone.{name}": tensor for name, tensor in _key_backbone(path, backbone, part).items()}
    return state


def _key_backbone(path: Path, backbone: str, tensors: Tensors) -> Tensors:
    table = origin_named("rspnet")
    rest, _, _ = table.sort(tensors)
    state, _, wrong = as_backbone(backbone, table.renames[backbone], rest)
    if wrong:
        raise UsageError(
            f"{path} holds no complete momentum copy of the network: {as_sentence(wrong)}; take another state of it"
        )
    return state


def _built(name: str, state: Tensors) -> Backbone:
    net = new_backbone(name)
    net.load_state_dict(state)
    return net
