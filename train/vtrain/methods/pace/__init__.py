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
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from random import Random
from typing import TYPE_CHECKING, ClassVar, Literal

from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import (
    Sample,
    Short,
    Video,
    View,
    demand_positive,
    demand_speeds,
    looped,
    random_clip,
    restarted,
)
from vtrain.methods.method import MethodEntry
from vtrain.setting_limits import NOT_NEGATIVE, POSITIVE, WHOLE, check_limits

if TYPE_CHECKING:
    from torch import nn

    from vtrain.backbones import Backbone

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
        demand_positive(frames=self.frames, clips=self.clips, looks=len(self.looks))
        demand_speeds(paces=self.paces)

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

    def __post_init__(self) -> None:
        check_limits(self, dict.fromkeys(("weight_cls", "weight_ctr"), NOT_NEGATIVE))
        check_limits(self, {"ctr_dim": WHOLE, "temperature": POSITIVE})

    def plan(self) -> Sampling:
        return replace(self.sampling, clips=2) if self.contrast == "same context" else self.sampling

    @property
    def chances(self) -> dict[str, float]:
        """How often a guess is correct."""
        return {"pace_accuracy": 1 / len(self.sampling.paces)}


def build(backbone: "Backbone", config: Config) -> "nn.Module":
    """Return the network with its loss; it is imported here, because it needs torch."""
    from vtrain.methods.pace.network import Pace

    return Pace(backbone, config)


METHOD = MethodEntry(
    summary="Pace prediction, with its contrastive half.",
    module=build,
    config=Config,
    main="pace-r2plus1d-ucf101",
    protocol="pace",
)
