"""Pace prediction. Wang, Jiao, Liu: Self-supervised Video Representation Learning by Pace Prediction (ECCV 2020).

A clip is played at one of several paces, and the network predicts the pace. The contrastive half, which the authors did
not release, also pulls together the clips of a video (same context) or of a pace (same pace).

Differs from the paper; in brackets the setting that restores the paper's way:
- in equations 2 and 3 each anchor has its own denominator, instead of a denominator for all [softmax="batch"]
- in equation 3 the positives of an anchor count as their mean; as a sum, their weight would grow with the batch
- the extra layer has 128 outputs; 8 outputs have the "~4k" parameters of table 2 [ctr_dim=8]
- the pace of each clip of a video is drawn independently, so two clips may have the same pace
- each rank compares its own clips only; the paper does not speak of several ranks
Differs from the code:
- a clip may also be looped or replaced where a video ends [sampling.short="restart", the default, is the code's]
- on a GPU the network computes in bfloat16, the code in float32 [precision=float32]

B videos   N views of each   M = B x N clips   T frames   C channels   H height   W width   D feature
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import sqrt
from random import Random
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.backbones import Backbone
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import Sample, Short, Video, View, demand_positive, looped, random_clip, restarted
from vtrain.methods.method import MethodEntry
from vtrain.methods.precision import at_least_float32

Contrast = Literal["none", "same context", "same pace"]
Features = Literal["raw", "unit"]
Layer = Literal["none", "fc"]
Softmax = Literal["anchor", "batch"]

# The authors' code: channels in the order blue, green, red, values from 0 to 255, and a jitter for each frame.
RELEASED = AugmentConfig(
    crop="random",
    crop_size=112,
    jitter=(0.8, 0.8, 0.8, 0.2),
    jitter_chance=0.8,
    jitter_per="frame",
    normalise="bgr255",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """One clip, or two for the contrastive loss, each at its own pace.

    At a pace of 1/k each frame is shown k times. A clip may start at any frame, even the last: `short` says how it
    continues after the video's end (the authors' code: restart).
    """

    frames: int = 16
    paces: tuple[Fraction | int, ...] = (1, 2, 3, 4)
    clips: int = 1
    short: Short = "restart"
    looks: tuple[AugmentConfig, ...] = (RELEASED,)

    def __post_init__(self) -> None:
        demand_positive(frames=self.frames, paces=self.paces, clips=self.clips, looks=len(self.looks))

    @property
    def views(self) -> int:
        return self.clips

    @property
    def length(self) -> int:
        return self.frames

    def __call__(self, video: Video, rng: Random) -> Sample:
        labels = [rng.randrange(len(self.paces)) for _ in range(self.clips)]
        views = [self._view(Fraction(self.paces[label]), video, group, rng) for group, label in enumerate(labels)]
        return Sample(views=views, targets={"pace": labels})

    def _view(self, pace: Fraction, video: Video, group: int, rng: Random) -> View:
        step, times = (pace.numerator, 1) if pace >= 1 else (1, pace.denominator)
        count = -(-self.frames // times)
        if self.short in ("restart", "loop"):
            start = rng.randrange(video.frames)
            go_on = restarted if self.short == "restart" else looped
            shown = go_on(start, count, step, video.frames)
        else:
            shown = random_clip(rng, count, step, video.frames, self.short)
        repeated = [frame for frame in shown for _ in range(times)][: self.frames]
        return View(frames=repeated, group=group, speed=float(pace))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All choices of pace prediction; the defaults are the authors' code.

    The rows of table 1 differ in the sampling's `paces` and in its augmentation: jitter by frame or by clip
    (`jitter_per`), or none (`jitter_chance`=0). The rows of table 2 differ in `contrast` and `layer`; contrastive
    learning alone is weight_cls=0.
    """

    NAME: ClassVar[str] = "pace"
    sampling: Sampling = Sampling()
    contrast: Contrast = "none"
    layer: Layer = "none"  # extra layer between the features and the contrastive loss
    ctr_dim: int = 128  # outputs of the extra layer
    features: Features = "raw"  # unit: scaled to length 1
    temperature: float = 1.0
    softmax: Softmax = "anchor"
    weight_cls: float = 1.0  # the paper's lambda_cls
    weight_ctr: float = 0.1  # lambda_ctr

    def plan(self) -> Sampling:
        return replace(self.sampling, clips=2) if self.contrast == "same context" else self.sampling


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


METHOD = MethodEntry(
    summary="Pace prediction, with its contrastive half.",
    module=Pace,
    config=Config,
    main="pace-r2plus1d-ucf101",
    protocol="pace",
)
