"""The network and the loss of training on labels.

B batch   N views   T frames   C channels   H height   W width   D feature
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.backbones import Backbone
from vtrain.data.dataset import NO_LABEL
from vtrain.methods.precision import at_least_float32
from vtrain.methods.supervised import Config


class Supervised(nn.Module):
    """A backbone, the mean over time and space, and a linear layer that predicts the class."""

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(backbone.dim, config.classes)

    def forward(self, clips_BNCTHW: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return loss and accuracy, means over the videos that have a label."""
        label_B = targets["label"]
        features_BD = at_least_float32(self.backbone(clips_BNCTHW[:, 0])).mean((2, 3, 4))
        with torch.autocast(features_BD.device.type, enabled=False):
            logits = self.head(self.dropout(features_BD))
            labelled = (label_B != NO_LABEL).sum().clamp(min=1)
            loss = F.cross_entropy(logits, label_B, ignore_index=NO_LABEL, reduction="sum") / labelled
        return {"loss": loss, "accuracy": (logits.argmax(1) == label_B).sum() / labelled}

    def after_step(self, progress: float) -> None:
        pass
