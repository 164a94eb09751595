"""Fine-tuned networks, which name the class of a clip.

R clips and crops, C channels, T time, S side, D feature, K classes
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from veval.inputs import Facts, facts_of, file_of, newest_run, ready
from vprep.errors import UsageError
from vtrain.backbones import Backbone
from vtrain.data.dataset import Videos
from vtrain.weights import load_backbone
from vtrain.weights.checkpoint_file import load


@dataclass(frozen=True, slots=True)
class Classifier:
    """A network that names the class of each clip, [R, C, T, S, S] -> [R, K]; K classes, by number.

    `seen` is how its clips were sampled and cropped in training, as a protocol has it.
    """

    net: nn.Module
    facts: Facts
    classes: list[str]
    seen: Facts = field(default_factory=dict)


class Headed(nn.Module):
    """A backbone and the layer that was fine-tuned on it; their output is that of `vtrain.methods.supervised`."""

    def __init__(self, backbone: Backbone, head: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, clips_RCTSS: Tensor) -> Tensor:
        features_RD = self.backbone(clips_RCTSS).float().mean((2, 3, 4))
        with torch.autocast(features_RD.device.type, enabled=False):
            logits: Tensor = self.head(features_RD)
        return logits


def classifier(word: str | None = None) -> Classifier:
    """The fine-tuned network that `word` names: a run's folder, a state of one, or the newest run."""
    path = file_of(newest_run() if word is None else Path(word))
    net, found = load_backbone(path)
    whole = load(path) if path.suffix == ".pt" else {}
    state = whole.get("model", {}) if isinstance(whole, dict) else {}
    classes = found.get("classes")
    if "head.weight" not in state or not isinstance(classes, list):
        what = f"was trained by '{found['method']}'" if found.get("method") else "holds a backbone alone"
        raise UsageError(
            f"{path} {what} and names no classes; testing takes a fine-tuned run: "
            f"vtrain supervised --weights {path} --shards SPEC"
        )
    head = nn.Linear(net.dim, len(classes))
    shapes = {"weight": state["head.weight"].shape, "bias": state["head.bias"].shape}
    if shapes != {name: tensor.shape for name, tensor in head.named_parameters()}:
        raise UsageError(f"{path} says it has {len(classes)} classes, and its last layer is {list(shapes['weight'])}")
    head.load_state_dict({"weight": state["head.weight"], "bias": state["head.bias"]})
    return Classifier(ready(Headed(net, head)), facts_of(path, found), classes, seen_by(whole.get("recipe")))


def seen_by(recipe: Any) -> Facts:  # noqa: ANN401  whatever a file says
    """How the clips of a fine-tuning lay in time and space, in the words of a protocol."""
    try:
        sampling = recipe["method"]["sampling"]
        look, how = sampling["looks"][0], sampling["how"]
        seen = {"step": int(sampling["step"]), "crop_size": None if look["crop"] == "area" else look["crop_size"]}
    except (KeyError, TypeError, IndexError, ValueError):
        return {}
    return seen | {"how": "cover", "clips": 2} if how == "cover" else seen


def demand_classes(known: Sequence[str], videos: Videos, facts: Facts) -> None:
    """The classes of a classifier are those of the videos, by the same numbers."""
    there = videos.classes or []
    if list(known) == there:
        return
    first = next((number for number, (a, b) in enumerate(zip(known, there, strict=False)) if a != b), None)
    at = f"class {first} is '{known[first]}' there and '{there[first]}' here" if first is not None else "by number"
    raise UsageError(
        f"the weights name {len(known)} classes, {facts['shards']} has {len(there)}, and they differ ({at}); "
        "test on the data set that was fine-tuned on"
    )
