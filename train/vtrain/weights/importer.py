"""Weights that others have published become ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vprep.errors import UsageError
from vtrain.weights.fit import blank, fitted, misfits, sentence
from vtrain.weights.origin import rename
from vtrain.weights.pace import PACE
from vtrain.weights.prp import PRP
from vtrain.weights.reader import read_checkpoint
from vtrain.weights.rspnet import RSPNET
from vtrain.weights.torchvision import TORCHVISION
from vtrain.weights.vcop import VCOP

ORIGINS = {"rspnet": RSPNET, "prp": PRP, "pace": PACE, "vcop": VCOP, "torchvision": TORCHVISION}


@dataclass(frozen=True, slots=True)
class Imported:
    """A backbone's state dict out of a foreign file; `heads` are tensors of no backbone that there is a module for."""

    backbone: str
    state: dict[str, Tensor]
    heads: dict[str, Tensor]
    facts: dict[str, Any]
    report: str


def import_weights(path: Path, origin: str) -> Imported:
    """Every tensor of the file finds its place, or its name in the report, or the import is refused."""
    if origin not in ORIGINS:
        raise UsageError(f"no origin '{origin}'; there are {', '.join(ORIGINS)}")
    table = ORIGINS[origin]
    rest, heads, skipped = table.sort(read_checkpoint(path))
    found: dict[str, dict[str, list[str]]] = {}
    for name, renames in table.renames.items():
        net = blank(name, {})
        named = {rename(key, renames): tensor for key, tensor in rest.items()}
        state = fitted(named, net)
        found[name] = misfits(state, net)
        if len(named) != len(rest):
            found[name]["under one name"] = [key for key in rest if rename(key, renames) in rest]
        if not found[name]:
            facts = {"backbone": name, "settings": {}, "dim": net.dim, **table.facts(name), "file": path.name}
            return Imported(name, state, heads, facts, report(origin, len(named), len(heads), skipped))
    nearest = min(found, key=lambda name: sum(map(len, found[name].values())))
    raise UsageError(
        f"{path} holds none of the networks of {origin} ({', '.join(found)}); "
        f"what keeps it from being {nearest}: {sentence(found[nearest])}"
    )


def report(origin: str, loaded: int, heads: int, skipped: dict[str, int]) -> str:
    """`rspnet: 120 tensors loaded, 4 skipped (fc1, fc2)`."""
    words = f"{origin}: {loaded} tensors loaded"
    if heads:
        words += f", {heads} of heads"
    if skipped:
        words += f", {sum(skipped.values())} skipped ({', '.join(sorted(skipped))})"
    return words
