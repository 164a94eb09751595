"""Weights that others have published become ours."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vprep.errors import UsageError
from vtrain.weights.backbone_file import blank, check_target, fitted, misfits, save_weights, sentence
from vtrain.weights.checkpoint_file import read_checkpoint
from vtrain.weights.normalisation import as_words, spelled
from vtrain.weights.origins.origin import rename
from vtrain.weights.origins.pace import PACE
from vtrain.weights.origins.prp import PRP
from vtrain.weights.origins.rspnet import RSPNET
from vtrain.weights.origins.torchvision import TORCHVISION
from vtrain.weights.origins.vcop import VCOP

ORIGINS = {"rspnet": RSPNET, "prp": PRP, "pace": PACE, "vcop": VCOP, "torchvision": TORCHVISION}


@dataclass(frozen=True, slots=True)
class Imported:
    """A backbone's state dict out of a foreign file; `heads` are tensors of no backbone that there is a module for."""

    backbone: str
    state: dict[str, Tensor]
    heads: dict[str, Tensor]
    facts: dict[str, Any]
    skipped: dict[str, int]  # how many tensors of what
    report: str


def import_file(path: Path, origin: str, out: Path, wanted: str | None = None) -> dict[str, Any]:
    """Write the backbone in `path` to `out`; returns what it is, and what else was in the file."""
    check_target(out, path, (".safetensors",))
    found = import_weights(path, origin, wanted)
    facts = {**found.facts, "normalisation": spelled(found.facts["normalisation"])}
    replaced = out.exists()
    save_weights(out, found.state, facts)
    left = {"heads": heads_of(found.heads), "skipped": found.skipped}
    return {**facts, **left, "out": str(out), "replaced": replaced, "report": found.report}


def as_lines(facts: dict[str, Any]) -> str:
    """The same for people."""
    clip, seen = " x ".join(map(str, facts["clip"])), as_words(facts["normalisation"])
    lines = [facts["report"], f"backbone {facts['backbone']}, {facts['dim']} channels, for clips of {clip}, {seen}"]
    if facts["heads"]:
        lines.append(f"not written, since they are of no backbone: {', '.join(facts['heads'])}")
    return "\n".join([*lines, f"{'replaced' if facts['replaced'] else 'written'}: {facts['out']}"])


def import_weights(path: Path, origin: str, wanted: str | None = None) -> Imported:
    """Every tensor of the file finds its place, or its name in the report, or the import is refused."""
    if origin not in ORIGINS:
        raise UsageError(f"no origin '{origin}'; there are {', '.join(ORIGINS)}")
    table = ORIGINS[origin]
    if wanted is not None and wanted not in table.renames:
        raise UsageError(f"no backbone '{wanted}' comes from {origin}; there are {', '.join(table.renames)}")
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
            if wanted not in (None, name):
                raise UsageError(
                    f"{path} holds backbone '{name}', wanted is '{wanted}'; write --backbone {name} or none"
                )
            facts = {"backbone": name, "settings": {}, "dim": net.dim, **table.facts(name), "file": path.name}
            return Imported(name, state, heads, facts, skipped, report(origin, len(named), heads, skipped))
    nearest = wanted or min(found, key=lambda name: sum(map(len, found[name].values())))
    raise UsageError(
        f"{path} holds none of the networks of {origin} ({', '.join(found)}); "
        f"what keeps it from being {nearest}: {sentence(found[nearest])}"
    )


def heads_of(tensors: dict[str, Tensor]) -> dict[str, int]:
    """How many tensors each head has."""
    return dict(Counter(name.partition(".")[0] for name in tensors))


def report(origin: str, loaded: int, heads: dict[str, Tensor], skipped: dict[str, int]) -> str:
    """`rspnet: 120 tensors loaded, 4 skipped (fc1, fc2)`."""
    words = f"{origin}: {loaded} tensors loaded"
    if heads:
        words += f", {len(heads)} of heads ({', '.join(heads_of(heads))})"
    if skipped:
        words += f", {sum(skipped.values())} skipped ({', '.join(sorted(skipped))})"
    return words
