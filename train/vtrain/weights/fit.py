"""Do these tensors belong to this backbone? All of them, and no others."""

from typing import Any

import torch
from torch import Tensor

from vtrain.backbones import Backbone, backbone

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
