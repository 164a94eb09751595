"""Files with the weights of a backbone: its tensors, and the description that is needed to use them.

A .safetensors file holds a backbone alone. A run's state holds a method, in which the backbone is `backbone`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from vprep import plugins
from vprep.atomic import atomic_write
from vprep.errors import UsageError
from vprep.hashing import hash_of
from vtrain.backbones import Backbone, backbone, known
from vtrain.weights.checkpoint_file import Contents, read, refuse_dtypes
from vtrain.weights.info import WeightsInfo
from vtrain.weights.location import file_of
from vtrain.weights.tensor_hash import hash_tensors

METADATA_KEY = "vtrain"  # of the JSON that describes the weights, in a file's metadata
CHECK = "check"  # of tensors and description together, in the latter: the format itself has no checksum
COUNTER = ".num_batches_tracked"  # of batch norm; PyTorch up to 0.4.0 did not have it
SHOWN = 6  # names of a kind in a message


def load_backbone(path: str | Path, *, expected: str | None = None) -> tuple[Backbone, WeightsInfo]:
    """Return the network in eval mode, and its description: its settings, the clips that it takes, its training.

    `path` is the folder of a run, one of its states, or a .safetensors file that `vtrain import` or `vtrain export`
    wrote. A folder stands for its best.pt where the run keeps its best epoch, otherwise for its last.pt.
    `expected` is what --backbone names on a command line; weights of another backbone are refused.
    """
    state, info = read_weights(Path(path), expected=expected)
    net = on_meta(info.backbone, info.settings)
    net.load_state_dict(state, assign=True)
    return net.eval(), info


def load_weights(net: Backbone, name: str, path: Path) -> WeightsInfo:
    """Copy the weights in `path` into `net`, which is backbone `name`."""
    state, info = read_weights(path)
    if info.backbone != name:
        raise UsageError(
            f"{path} holds weights of backbone '{info.backbone}', and the backbone is '{name}'; "
            f"set backbone={info.backbone} or name other weights"
        )
    if found := mismatches(state, net):
        raise UsageError(
            f"{path} holds backbone '{name}' with settings {info.settings}, which differ from those here: "
            f"{as_sentence(found)}"
        )
    net.load_state_dict(state)
    return info


def read_weights(path: Path, *, expected: str | None = None) -> tuple[dict[str, Tensor], WeightsInfo]:
    """Return the state dict of the backbone in a run's folder or in a file of this project, and its description.

    `expected` is that of `load_backbone`.
    """
    path = file_of(path)
    tensors, found = backbone_in(path, read(path))
    name, settings = found.get("backbone"), found.get("settings") or {}
    if not isinstance(name, str):
        raise UsageError(
            f"{path} does not name a backbone; weights that others published are imported by "
            f"`vtrain import {path} --from rspnet|prp|pace|vcop|torchvision --out FILE.safetensors`"
        )
    if expected not in (None, name):
        right = f"write --backbone {name}" if plugins.named(name) else "leave out --backbone"
        raise UsageError(f"{path} has the backbone {name}, and --backbone names {expected}; {right}")
    if not known(name):
        raise UsageError(f"{path} is of backbone '{name}', which is not known here; install the package that offers it")
    try:
        net = on_meta(name, settings)
    except (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError):
        raise UsageError(f"{path}: backbone '{name}' cannot be built with settings {settings}") from None
    state = adapted(tensors, net)
    if wrong := mismatches(state, net):
        raise UsageError(f"{path} does not hold a complete backbone '{name}': {as_sentence(wrong)}")
    refuse_not_finite(path, state)
    return state, WeightsInfo.read(found, net.dim)


def save_weights(path: Path, weights: nn.Module | dict[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write a backbone to `path`, completely or not at all.

    `info` names the backbone and its settings; its other entries are stored unchanged, so they must be JSON.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    state = {name.removeprefix("_orig_mod."): tensor for name, tensor in state.items()}
    settings = info.get("settings", {})
    net = on_meta(info["backbone"], settings)
    if found := mismatches(state, net):
        raise UsageError(
            f"{path} was not written: the tensors are not those of backbone '{info['backbone']}': {as_sentence(found)}"
        )
    described = json.loads(json.dumps({**info, "settings": settings, "dim": net.dim}))
    write_safetensors(path, state, json.dumps(described | {CHECK: check_of(state, described)}))


def check_of(tensors: Mapping[str, Tensor], described: dict[str, Any]) -> str:
    """Return a hash of tensors and their description, by which damage is noticed."""
    return hash_of(f"{json.dumps(described, sort_keys=True)} {hash_tensors(tensors)}".encode())


def write_safetensors(path: Path, tensors: dict[str, Tensor], described: str) -> None:
    """Write tensors with the JSON that describes them; the same tensors give the same bytes."""
    refuse_dtypes(path, tensors)
    # The package refuses tensors that share memory or have gaps, so each is packed into memory of its own. It writes
    # metadata in random order, so there is only one key.
    packed = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    with atomic_write(path) as file:
        file.write(save(packed, {METADATA_KEY: described}))


def backbone_in(path: Path, contents: Contents) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the backbone's tensors, without the prefixes that a run gives them, and their description in the file."""
    if METADATA_KEY not in contents.values:
        model = without_prefix("model.", contents.tensors)
        return without_prefix("backbone.", model) or model, contents.values
    try:
        found = json.loads(contents.values[METADATA_KEY])
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: the description of its weights is damaged ({error}); use a good copy") from None
    if not isinstance(found, dict):
        return contents.tensors, {}
    # Files of other programs, and those of version 0.1, have no hash.
    if CHECK in found and found.pop(CHECK) != check_of(contents.tensors, found):
        raise UsageError(f"{path} is damaged: its content is not what its hash says; use a good copy")
    return contents.tensors, found


def refuse_not_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights of which every output would be NaN."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UsageError(
                f"{path}: weights are not finite (tensor '{name}'); take an older state of its run, or a good copy"
            )


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, under the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def on_meta(name: str, settings: dict[str, Any]) -> Backbone:
    """Build a backbone on the device "meta", where its weights take no memory."""
    with torch.device("meta"):
        return backbone(name, **settings)


def adapted(tensors: dict[str, Tensor], net: Backbone) -> dict[str, Tensor]:
    """Return the tensors in the form of the state dict of `net`.

    Old files lack the counters of batch norm. Some files hold linear layers as 1x1x1 convolutions.
    """
    wanted = net.state_dict()
    state = {name: torch.tensor(0) for name in wanted if name.endswith(COUNTER)}
    for name, tensor in tensors.items():
        is_convolution = name in wanted and tensor.shape == (*wanted[name].shape, 1, 1, 1)
        state[name] = tensor.flatten(-4) if is_convolution else tensor
    return state


def mismatches(tensors: dict[str, Tensor], net: Backbone) -> dict[str, list[str]]:
    """Return, by kind, why the tensors are not the state dict of `net`; empty when they are."""
    wanted = net.state_dict()
    kinds = {
        "missing": [name for name in wanted if name not in tensors],
        "unknown": [name for name in tensors if name not in wanted],
        "of another shape": [
            f"{name}: {list(tensors[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in tensors and tensors[name].shape != tensor.shape
        ],
        "of another type": [
            f"{name}: {str(tensors[name].dtype).removeprefix('torch.')}"
            for name, tensor in wanted.items()
            if name in tensors
            and tensors[name].is_floating_point() != tensor.is_floating_point()
            and not name.endswith(COUNTER)
        ],
    }
    return {kind: names for kind, names in kinds.items() if names}


def as_sentence(kinds: dict[str, list[str]]) -> str:
    """Return `2 missing (a, b); 1 unknown (c)`, with the first names of each kind."""

    def first(names: list[str]) -> str:
        return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

    return "; ".join(f"{len(names)} {kind} ({first(names)})" for kind, names in kinds.items())
