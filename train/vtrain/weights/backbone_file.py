"""Weights as this project keeps them: a backbone's tensors with the facts one needs to use them.

A .safetensors file holds a backbone alone. A run's last.pt holds a method, in which the backbone is `backbone`.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vprep.errors import UsageError
from vtrain.backbones import Backbone, backbone, known
from vtrain.weights import safetensors
from vtrain.weights.checkpoint_file import read

Facts = dict[str, Any]
PROGRAMS = (".ts", ".onnx")  # what `vtrain export` writes for others to run
IN_HEADER = "vtrain"  # the key of the facts in a file's metadata


def save_weights(path: Path, weights: nn.Module | dict[str, Tensor], facts: Facts) -> None:
    """Write a backbone to `path`, whole or not at all; `facts` name it: backbone, settings, and whatever else."""
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    state = {name.removeprefix("_orig_mod."): tensor for name, tensor in state.items()}
    settings = facts.get("settings", {})
    net = blank(facts["backbone"], settings)
    if kinds := misfits(state, net):
        raise UsageError(f"{path} is not written: no weights of backbone '{facts['backbone']}': {sentence(kinds)}")
    facts = {**facts, "settings": settings, "dim": net.dim}
    safetensors.write(path, state, {"format": "pt", IN_HEADER: json.dumps(facts)})


def read_weights(path: Path) -> tuple[dict[str, Tensor], Facts]:
    """A backbone's state dict and its facts, from a file that this project wrote or from a run's folder."""
    if not path.exists():
        raise UsageError(f"there is no {path}; name a run's folder or a .safetensors file")
    if path.is_dir() and not (path / "last.pt").is_file():
        raise UsageError(f"{path} holds no last.pt; name the folder of a run that has saved, or a .safetensors file")
    path = path / "last.pt" if path.is_dir() else path
    if path.suffix in PROGRAMS:
        raise UsageError(f"{path} is a program and no weights; export the same run with --out {path.stem}.safetensors")
    found = read(path)
    tensors, facts = found.tensors, found.facts
    if IN_HEADER in facts:
        try:
            facts = json.loads(facts[IN_HEADER])
        except ValueError as error:
            raise UsageError(f"{path}: its facts cannot be read ({error})") from None
    else:
        tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        inside = {name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
        tensors = {name.removeprefix("backbone."): tensor for name, tensor in (inside or tensors).items()}
    if not isinstance(facts, dict) or not known(str(facts.get("backbone"))):
        raise UsageError(
            f"{path} does not say of which backbone it holds weights; what others have published "
            f"comes in with `vtrain import {path} --from rspnet|prp|pace|vcop|torchvision --out FILE.safetensors`"
        )
    facts = {**facts, "settings": facts.get("settings") or {}}
    try:
        net = blank(facts["backbone"], facts["settings"])
    except (TypeError, ValueError, RuntimeError, LookupError):
        raise UsageError(f"{path}: no backbone '{facts['backbone']}' has settings {facts['settings']}") from None
    state = fitted(tensors, net)
    if kinds := misfits(state, net):
        raise UsageError(f"{path} holds no whole backbone '{facts['backbone']}': {sentence(kinds)}")
    return state, {**facts, "dim": net.dim}


def load_backbone(path: str | Path) -> tuple[Backbone, Facts]:
    """A ready network in eval mode, and what it is: backbone, settings, dim, clip, normalisation."""
    state, facts = read_weights(Path(path))
    net = blank(facts["backbone"], facts["settings"])
    net.load_state_dict(state, assign=True)
    return net.eval(), facts


def load_weights(net: Backbone, name: str, path: Path) -> Facts:
    """Give the weights in `path` to `net`, which is backbone `name`."""
    state, facts = read_weights(path)
    if facts["backbone"] != name:
        raise UsageError(
            f"{path} holds weights of backbone '{facts['backbone']}', wanted is '{name}'; "
            f"set backbone={facts['backbone']} or take other weights"
        )
    if kinds := misfits(state, net):
        raise UsageError(f"{path} holds backbone '{name}' with settings {facts['settings']}: {sentence(kinds)}")
    net.load_state_dict(state)
    return facts


COUNTER = ".num_batches_tracked"  # of batch norm; PyTorch 0.4.0 and older did not have it


def blank(name: str, settings: dict[str, Any]) -> Backbone:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return backbone(name, **settings)


def fitted(tensors: dict[str, Tensor], net: Backbone) -> dict[str, Tensor]:
    """With the counters that old files lack, and linear layers that were 1x1x1 convolutions of a mean."""
    wanted = net.state_dict()
    fit = {name: torch.tensor(0) for name in wanted if name.endswith(COUNTER)}
    for name, tensor in tensors.items():
        once_conv = name in wanted and tensor.shape == (*wanted[name].shape, 1, 1, 1)
        fit[name] = tensor.flatten(-4) if once_conv else tensor
    return fit


def misfits(tensors: dict[str, Tensor], net: Backbone) -> dict[str, list[str]]:
    """What stands in the way, by kind; nothing, if they fit."""
    wanted, given = net.state_dict(), tensors
    kinds = {
        "missing": [name for name in wanted if name not in given],
        "unknown": [name for name in given if name not in wanted],
        "of another shape": [
            f"{name}: {list(given[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in given and given[name].shape != tensor.shape
        ],
    }
    return {kind: names for kind, names in kinds.items() if names}


def sentence(kinds: dict[str, list[str]], most: int = 6) -> str:
    def some(names: list[str]) -> str:
        return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

    return "; ".join(f"{len(names)} {kind} ({some(names)})" for kind, names in kinds.items())


def check_target(out: Path, source: Path, endings: tuple[str, ...]) -> None:
    """An older `out` may be replaced; what is read, a folder and a file of another kind may not."""
    if out.suffix not in endings:
        raise UsageError(f"--out is '{out}'; it ends in {' or '.join(endings)}, as in --out {out.stem}{endings[0]}")
    if not out.parent.is_dir():
        raise UsageError(f"--out is '{out}', and there is no folder '{out.parent}'; make it first")
    if out.is_dir():
        raise UsageError(f"--out is '{out}', which is a folder; name a file in it, as in {out / f'a{endings[0]}'}")
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"--out is '{out}', the file that is read; name another")
