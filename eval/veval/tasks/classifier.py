"""Fine-tuned networks, which predict the class of a clip.

R clips and crops, C channels, T time, S side, D feature, K classes
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from veval.evaluation import Classifier, DataInfo
from veval.inputs import first_augmentation, inference_ready, info_of, newest_run
from vprep.errors import UsageError
from vtrain.backbones import Backbone
from vtrain.data.dataset import Videos
from vtrain.weights import load_backbone
from vtrain.weights.backbone_file import refuse_not_finite
from vtrain.weights.checkpoint_file import Contents, read
from vtrain.weights.location import file_of


class WithHead(nn.Module):
    """A backbone and its linear layer; the output is that of `vtrain.methods.supervised`."""

    def __init__(self, backbone: Backbone, head: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, clips_RCTSS: Tensor) -> Tensor:
        features_RD = self.backbone(clips_RCTSS).float().mean((2, 3, 4))
        with torch.autocast(features_RD.device.type, enabled=False):
            logits: Tensor = self.head(features_RD)
        return logits


def load_classifier(word: str | None = None, backbone: str | None = None) -> Classifier:
    """Load the fine-tuned network that `word` names: a run's folder or one of its states; None: the newest run.

    `backbone` is what --backbone names; a network with another backbone is refused.
    """
    path = file_of(newest_run() if word is None else Path(word))
    net, found = load_backbone(path, expected=backbone)
    contents = read(path) if path.suffix == ".pt" else Contents({}, {})
    weight, bias = (contents.tensors.get(f"model.head.{name}") for name in ("weight", "bias"))
    classes = found.get("classes")
    if weight is None or bias is None or not isinstance(classes, list):
        what = f"was trained by '{found['method']}'" if found.get("method") else "holds only a backbone"
        raise UsageError(
            f"{path} {what}, so it cannot predict classes; name a fine-tuned run, which is made by: "
            f"veval finetune --weights {path}"
        )
    head = nn.Linear(net.dim, len(classes))
    shapes = {"weight": weight.shape, "bias": bias.shape}
    if shapes != {name: tensor.shape for name, tensor in head.named_parameters()}:
        raise UsageError(
            f"{path} lists {len(classes)} classes, and its last layer has the shape {list(shapes['weight'])}; take "
            "another state of the run"
        )
    refuse_not_finite(path, {"head.weight": weight, "head.bias": bias})
    head.load_state_dict({"weight": weight, "bias": bias})
    net_with_head = WithHead(net, head)
    info = info_of(path, found, net_with_head)
    return Classifier(inference_ready(net_with_head), info, classes, sampled_like(contents.values.get("recipe")))


def sampled_like(recipe: Any) -> Mapping[str, Any]:  # noqa: ANN401  any value of a file
    """Return how fine-tuning sampled and cropped its clips, in the words of a protocol."""
    augmentation = first_augmentation(recipe)
    if augmentation is None:
        return {}
    sampling = recipe["method"]["sampling"]
    try:
        side = None if augmentation["crop"] == "area" else augmentation["crop_size"]
        words = {"step": int(sampling["step"]), "crop_size": side}
        return words | {"how": "cover", "clips": 2} if sampling["how"] == "cover" else words
    except (KeyError, TypeError, ValueError):
        return {}


def demand_classes(predicted: Sequence[str], videos: Videos, info: DataInfo) -> None:
    """Refuse videos whose classes, or their order, are not those that the network predicts."""
    labelled = videos.classes or []
    if list(predicted) == labelled:
        return
    pairs = enumerate(zip(predicted, labelled, strict=False))
    first = next((number for number, (ours, theirs) in pairs if ours != theirs), None)
    at = "their numbers" if first is None else f"class {first} is '{predicted[first]}' and '{labelled[first]}'"
    raise UsageError(
        f"the weights predict {len(predicted)} classes, {info.shards} has {len(labelled)}, and they differ ({at}); "
        "test on the data set that the network was fine-tuned on"
    )
