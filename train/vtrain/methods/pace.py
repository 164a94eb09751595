"""Pace prediction. Wang, Jiao, Liu: Self-supervised Video Representation Learning by Pace Prediction (ECCV 2020).

A clip is played at one of several paces; the network says at which. In the contrastive half, which the authors did
not release, clips of one video (same context) or of one pace (same pace) are also drawn together.

Differs from the paper; in brackets what brings the paper's way:
- in equations 2 and 3 each anchor has a denominator of its own, not all of them one [softmax="batch"]
- in equation 3 the positives of an anchor count as their mean, or its weight would grow with the batch
- the extra layer has 128 outputs; the "~4k" parameters of table 2 are those of 8 [ctr_dim=8]
- the clips of a video have paces drawn each on its own, so that two may be the same
- on several ranks, negatives and positives are those of the own rank; the paper does not speak of more than one
Differs from the code:
- clips may also be looped or replaced where a video ends [sampling.short="restart", the default, is the code's]

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

Contrast = Literal["none", "same context", "same pace"]
Features = Literal["raw", "unit"]
Layer = Literal["none", "fc"]
Softmax = Literal["anchor", "batch"]

# The authors' code: blue comes first, values are 0 to 255, and each frame has a jitter of its own.
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
    """One clip, or two for the contrastive loss, each at a pace of its own.

    At a pace of 1/k each frame is shown k times. A clip may begin anywhere, with the last frame too: where the video
    ends, `short` says how it goes on (the authors' code: restart).
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

    Table 1 of the paper differs in the sampling's `paces` and in its look: jitter by frame or by clip (`jitter_per`),
    or none (`jitter_chance`=0). Table 2 differs in `contrast` and `layer`; contrastive learning alone is weight_cls=0.
    """

    NAME: ClassVar[str] = "pace"
    sampling: Sampling = Sampling()
    contrast: Contrast = "none"
    layer: Layer = "none"  # between the features and the contrastive loss
    ctr_dim: int = 128  # of the extra layer
    features: Features = "raw"  # or of length 1
    temperature: float = 1.0
    softmax: Softmax = "anchor"
    weight_cls: float = 1.0  # the paper's lambda_cls
    weight_ctr: float = 0.1  # lambda_ctr

    def plan(self) -> Sampling:
        return replace(self.sampling, clips=2) if self.contrast == "same context" else self.sampling


class Pace(nn.Module):
    """Encoder, a linear layer that names the pace, and what the contrastive loss looks through."""

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.head = nn.Linear(backbone.dim, len(config.sampling.paces))
        self.layer: nn.Module = nn.Identity()
        if config.layer == "fc" and config.contrast != "none":
            self.layer = nn.Sequential(nn.Linear(backbone.dim, config.ctr_dim), nn.ReLU())

    def forward(self, clips_BNCTHW: Tensor, facts: dict[str, Tensor]) -> dict[str, Tensor]:
        views, pace_M = clips_BNCTHW.shape[1], facts["pace"].flatten()
        features_MD = self.backbone(clips_BNCTHW.flatten(0, 1)).float().mean((2, 3, 4))
        # Raw features have large products, which bfloat16 would round to the next whole number and further.
        with torch.autocast(features_MD.device.type, enabled=False):
            logits = self.head(features_MD)
            part = F.cross_entropy(logits, pace_M)  # equation 1
            loss = self.config.weight_cls * part
            logged = {"pace": part, "pace_accuracy": (logits.argmax(1) == pace_M).float().mean()}
            if self.config.contrast != "none":
                kind_M = pace_M if self.config.contrast == "same pace" else facts["row"].repeat_interleave(views)
                part = contrastive(self._compared(features_MD), kind_M, self.config.softmax)
                loss = loss + self.config.weight_ctr * part  # equation 4
                logged["contrast"] = part
        return {"loss": loss} | {name: value.detach() for name, value in logged.items()}

    def after_step(self, progress: float) -> None:
        pass

    def _compared(self, features_MD: Tensor) -> Tensor:
        """Features whose products are the logits of the contrastive loss."""
        z_MD: Tensor = self.layer(features_MD)
        if self.config.features == "unit":
            z_MD = F.normalize(z_MD, dim=1)
        scaled_MD: Tensor = z_MD / sqrt(self.config.temperature)
        return scaled_MD


def contrastive(z_MD: Tensor, kind_M: Tensor, softmax: Softmax) -> Tensor:
    """Equation 2, where clips of one kind are those of one video, and equation 3, where they have one pace.

    Clips of the own kind are positives, all others negatives. An anchor without positives counts as 0.
    """
    similar_MM = z_MD @ z_MD.T
    itself_MM = torch.eye(len(z_MD), dtype=torch.bool, device=z_MD.device)
    positive_MM = (kind_M[:, None] == kind_M) & ~itself_MM
    share_MM = positive_MM / positive_MM.sum(1, keepdim=True).clamp(min=1)
    # logsumexp subtracts the largest. Not -inf, which would be the sum for a clip that is alone in its batch.
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
