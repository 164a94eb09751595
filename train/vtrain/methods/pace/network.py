"""The network and the losses of pace prediction. What is chosen is in the package's `Config`.

B videos   N views of each   M = B x N clips   T frames   C channels   H height   W width   D feature
"""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.backbones import Backbone
from vtrain.methods.pace import Config, Softmax
from vtrain.methods.precision import at_least_float32


class Pace(nn.Module):
    """A backbone, a linear layer that predicts the pace, and the layer before the contrastive loss."""

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.head = nn.Linear(backbone.dim, len(config.sampling.paces))
        self.layer: nn.Module = nn.Identity()
        if config.layer == "fc" and config.contrast != "none":
            self.layer = nn.Sequential(nn.Linear(backbone.dim, config.ctr_dim), nn.ReLU())

    def forward(self, clips_BNCTHW: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        views, pace_M = clips_BNCTHW.shape[1], targets["pace"].flatten()
        features_MD = at_least_float32(self.backbone(clips_BNCTHW.flatten(0, 1))).mean((2, 3, 4))
        # Raw features have large products, which bfloat16 would round to whole numbers or coarser.
        with torch.autocast(features_MD.device.type, enabled=False):
            logits = self.head(features_MD)
            part = F.cross_entropy(logits, pace_M)  # equation 1
            loss = self.config.weight_cls * part
            logged = {"pace": part, "pace_accuracy": (logits.argmax(1) == pace_M).float().mean()}
            if self.config.contrast != "none":
                kind_M = pace_M if self.config.contrast == "same pace" else targets["row"].repeat_interleave(views)
                part = contrastive(self._compared(features_MD), kind_M, self.config.softmax)
                loss = loss + self.config.weight_ctr * part  # equation 4
                logged["contrast"] = part
        return {"loss": loss} | {name: value.detach() for name, value in logged.items()}

    def after_step(self, progress: float) -> None:
        pass

    def _compared(self, features_MD: Tensor) -> Tensor:
        """Return features whose products are the logits of the contrastive loss."""
        z_MD: Tensor = self.layer(features_MD)
        if self.config.features == "unit":
            z_MD = F.normalize(z_MD, dim=1)
        scaled_MD: Tensor = z_MD / sqrt(self.config.temperature)
        return scaled_MD


def contrastive(z_MD: Tensor, kind_M: Tensor, softmax: Softmax) -> Tensor:
    """Return equation 2 when `kind_M` is the video of each clip, and equation 3 when it is the pace.

    Clips of the anchor's kind are positives, all others negatives. An anchor without positives counts as 0.
    """
    similar_MM = z_MD @ z_MD.T
    itself_MM = torch.eye(len(z_MD), dtype=torch.bool, device=z_MD.device)
    positive_MM = (kind_M[:, None] == kind_M) & ~itself_MM
    share_MM = positive_MM / positive_MM.sum(1, keepdim=True).clamp(min=1)
    # logsumexp subtracts the largest. -inf will not do: it would be the sum for a clip that is alone in its batch.
    others_MM = similar_MM.masked_fill(itself_MM, torch.finfo(similar_MM.dtype).min)
    sums = others_MM.logsumexp(1, keepdim=True) if softmax == "anchor" else others_MM.flatten().logsumexp(0)
    return ((sums - similar_MM) * share_MM).sum() / len(z_MD)
