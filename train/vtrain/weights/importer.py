"""Import weights that others published."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vprep.errors import UsageError
from vtrain.weights.backbone_file import (
    adapted,
    as_sentence,
    check_target,
    mismatches,
    on_meta,
    refuse_not_finite,
    save_weights,
)
from vtrain.weights.checkpoint_file import read_checkpoint
from vtrain.weights.info import WeightsInfo
from vtrain.weights.normalisation import as_words, spelled
from vtrain.weights.origins.origin import Named, Renames, rename
from vtrain.weights.origins.pace import PACE
from vtrain.weights.origins.prp import PRP
from vtrain.weights.origins.rspnet import RSPNET
from vtrain.weights.origins.torchvision import TORCHVISION
from vtrain.weights.origins.vcop import VCOP

ORIGINS = {"rspnet": RSPNET, "prp": PRP, "pace": PACE, "vcop": VCOP, "torchvision": TORCHVISION}


@dataclass(frozen=True, slots=True)
class Imported:
    """The state dict of a backbone from a foreign file, and the file's other contents."""

    state: dict[str, Tensor]
    heads: dict[str, Tensor]  # tensors of heads for which this package has a module
    info: WeightsInfo
    skipped: dict[str, int]  # number of tensors of each kind that was left out
    report: str


def import_file(path: Path, origin: str, out: Path, wanted: str | None = None) -> dict[str, Any]:
    """Write the backbone in `path` to `out`; return its description, and the file's other contents."""
    check_target(out, path, (".safetensors",))
    found = import_weights(path, origin, wanted)
    replaced = out.exists()
    save_weights(out, found.state, found.info)
    left = {"heads": heads_of(found.heads), "skipped": found.skipped}
    return {**found.info, **left, "out": str(out), "replaced": replaced, "report": found.report}


def as_lines(result: dict[str, Any]) -> str:
    """Return the result of `import_file` as text for people."""
    clip, normalised = " x ".join(map(str, result["clip"])), as_words(result["normalisation"])
    about = f"backbone {result['backbone']}, {result['dim']} channels, for clips of {clip}, {normalised}"
    lines = [result["report"], about]
    if result["heads"]:
        lines.append(f"not written, because they belong to no backbone: {', '.join(result['heads'])}")
    return "\n".join([*lines, f"{'replaced' if result['replaced'] else 'written'}: {result['out']}"])


def import_weights(path: Path, origin: str, wanted: str | None = None) -> Imported:
    """Read a backbone from a foreign file. A tensor that is neither used nor listed as skipped is an error."""
    if origin not in ORIGINS:
        raise UsageError(f"no origin '{origin}'; there are {', '.join(ORIGINS)}")
    table = ORIGINS[origin]
    if wanted is not None and wanted not in table.renames:
        raise UsageError(f"{origin} has no backbone '{wanted}'; it has {', '.join(table.renames)}")
    rest, heads, skipped = table.sort(read_checkpoint(path))
    wrong: dict[str, dict[str, list[str]]] = {}
    for name, renames in table.renames.items():
        state, dim, wrong[name] = as_backbone(name, renames, rest)
        if not wrong[name]:
            if wanted not in (None, name):
                raise UsageError(
                    f"{path} holds backbone '{name}', not '{wanted}'; write --backbone {name} or leave it out"
                )
            refuse_not_finite(path, state)
            info = WeightsInfo(
                backbone=name,
                dim=dim,
                clip=table.clip(name),
                normalisation=spelled(asdict(table.normalisation)),
                origin=table.name,
                file=path.name,
            )
            return Imported(state, heads, info, skipped, report(origin, len(rest), heads, skipped))
    nearest = wanted or min(wrong, key=lambda name: sum(map(len, wrong[name].values())))
    raise UsageError(
        f"{path} holds none of the networks of {origin} ({', '.join(wrong)}); "
        f"it differs from {nearest} by: {as_sentence(wrong[nearest])}"
    )


def as_backbone(name: str, renames: Renames, tensors: Named) -> tuple[Named, int, dict[str, list[str]]]:
    """Rename the tensors to those of backbone `name`; return its state dict, its channels, and its mismatches."""
    net = on_meta(name, {})
    renamed = {rename(key, renames): tensor for key, tensor in tensors.items()}
    state = adapted(renamed, net)
    wrong = mismatches(state, net)
    if len(renamed) != len(tensors):
        wrong["under one name"] = [key for key in tensors if rename(key, renames) in tensors]
    return state, net.dim, wrong


def heads_of(tensors: dict[str, Tensor]) -> dict[str, int]:
    """Return the number of tensors of each head."""
    return dict(Counter(name.partition(".")[0] for name in tensors))


def report(origin: str, loaded: int, heads: dict[str, Tensor], skipped: dict[str, int]) -> str:
    """Return a line like `rspnet: 120 tensors loaded, 4 skipped (fc1, fc2)`."""
    words = f"{origin}: {loaded} tensors loaded"
    if heads:
        words += f", {len(heads)} of heads ({', '.join(heads_of(heads))})"
    if skipped:
        words += f", {sum(skipped.values())} skipped ({', '.join(sorted(skipped))})"
    return words
