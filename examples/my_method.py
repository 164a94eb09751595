"""Rotation prediction: an example of a method from outside the package. To train by it:

    cp .../examples/my_method.py .      # into an empty folder
    vprep synth --out videos
    vprep shard videos --out data_shards
    vtrain my_method:METHOD --shards data_shards --recipe tiny steps=100

Jing, Yang, Liu, Tian: Self-Supervised Spatiotemporal Feature Learning via Video Rotation Prediction (2018). A clip is
shown in four orientations; the network predicts by how many quarters it is turned.

B batch   N views   C channels   T frames   H height   W width   D feature
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.backbones import Backbone
from vtrain.data.sampling import OneClip, Plan
from vtrain.methods import MethodEntry

TURNS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All choices of the method. Each is a setting of the command: `dropout=0.5`, `sampling.frames=8`."""

    NAME: ClassVar[str] = "rotation"
    sampling: OneClip = field(default_factory=OneClip)  # 16 frames, randomly cropped and flipped
    dropout: float = 0.0

    def plan(self) -> Plan:
        """Return how the loader takes the clips of a video: here one clip."""
        return self.sampling


class Rotation(nn.Module):
    """A backbone and a linear layer that predicts the turn. Evaluation uses only the attribute `backbone`."""

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(backbone.dim, TURNS)

    def forward(self, clips_BNCTHW: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss, and the accuracy for the log."""
        clips_BCTHW = clips_BNCTHW[:, 0]
        turned = torch.cat([clips_BCTHW.rot90(turn, (3, 4)) for turn in range(TURNS)])
        label = torch.arange(TURNS, device=turned.device).repeat_interleave(len(clips_BCTHW))
        features_BD = self.backbone(turned).float().mean((2, 3, 4))
        logits = self.head(self.dropout(features_BD))
        accuracy = (logits.argmax(1) == label).float().mean()
        return {"loss": F.cross_entropy(logits, label), "rotation_accuracy": accuracy}

    def after_step(self, progress: float) -> None:
        """Do nothing; a method with a momentum copy would update it here."""


METHOD = MethodEntry(summary="Rotation prediction (Jing et al., 2018).", module=Rotation, config=Config)
