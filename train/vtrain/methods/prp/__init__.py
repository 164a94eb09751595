"""PRP. Yao, Liu, Luo, Zhou, Ye: Video Playback Rate Perception for Self-supervised Spatio-Temporal Representation
Learning (CVPR 2020).

The network sees every s-th of 16 s consecutive frames. It predicts s, and reconstructs the same time with `rate` times
as many frames; errors count more where there is more motion.

Differs from the paper where the authors' code does; in brackets the setting that restores the paper's way:
- the crop is the centre, not a random square [sampling.looks=(PAPER,)]
- motion is measured on 4 of 16 frames and in each colour on its own [sampling.mask="paper"]
- frames that are interpolated, because the video has none there, do not count in the loss [interpolated="included"]
- the last layer of the rate head has ten times the learning rate [fc_lr=1]
- decoder and rate head begin with a convolution of their own (`decoder.py`)
- a window starts at a video's first frame twice as often as at any other frame
Differs from the code:
- clips need not be 16 x 112 x 112: sizes that the code fixes are shares of frames and side here (see `mask.py`)
- a feature map that is not an 8th of the frames and a 16th of the side is first pooled or stretched to that size
- the rates 1 and 4 of table 2 can be run; the code has only 2
- the held-out loss, by which the best epoch is kept, is of the same clips after each epoch; the code draws new ones
- on a GPU the network computes in bfloat16, the code in float32 [precision=float32]
"""

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, ClassVar, Literal

from vtrain.conversion import SettingError
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import Sample, Short, TooShortError, Video, View, demand_positive, demand_speeds, fallback
from vtrain.methods.method import MethodEntry
from vtrain.setting_limits import NOT_NEGATIVE, check_limits

if TYPE_CHECKING:
    from torch import nn

    from vtrain.backbones import Backbone

Mask = Literal["released", "paper", "none"]
Branches = Literal["DG-P", "DP", "GP"]
Interpolated = Literal["excluded", "included"]

# The authors' code: the centre of 112 x 112 stored pixels, in [0, 1].
RELEASED = AugmentConfig(crop="centre", crop_size=112, flip=0.0, normalise="unit")
PAPER = replace(RELEASED, crop="random")  # section 4.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """One view: the frames to reconstruct, then the frames from which the motion maps are computed.

    When the window has fewer frames than are reconstructed (speed < rate), all its frames come first, and the device
    interpolates the others. Unused slots, of frames and of maps, repeat the last frame.
    """

    frames: int = 16
    speeds: tuple[int, ...] = (1, 2, 4, 8)
    rate: int = 2
    mask: Mask = "released"
    short: Short = "replace"
    looks: tuple[AugmentConfig, ...] = (RELEASED,)

    def __post_init__(self) -> None:
        demand_positive(frames=self.frames, looks=len(self.looks))
        demand_speeds(speeds=self.speeds, rate=self.rate)
        for speed in self.speeds:
            if speed % self.rate and self.rate % speed:
                raise SettingError(
                    f"speeds has {speed}, and rate is {self.rate}: frames to reconstruct would lie between those of "
                    "the video; one must be a multiple of the other"
                )
            if self.mask != "none" and self.reconstructed % speed:
                raise SettingError(
                    f"speeds has {speed}, which needs {speed} motion maps for {self.frames} x {self.rate} frames to "
                    "reconstruct, which cannot be divided evenly among them; leave this speed out, or set mask=none"
                )

    @property
    def views(self) -> int:
        return 1

    @property
    def reconstructed(self) -> int:
        return self.frames * self.rate

    @property
    def length(self) -> int:
        return self.reconstructed + max(self.speeds) * len(compared(self.mask, self.frames))

    def __call__(self, video: Video, rng: Random) -> Sample:
        label = rng.randrange(len(self.speeds))
        speed = self.speeds[label]
        window = self._window(video, speed, rng)
        last = window[-1:]
        shown = window[:: max(1, speed // self.rate)]
        shown += last * (self.reconstructed - len(shown))
        numbers = compared(self.mask, self.frames)
        motion = [window[segment * self.frames + number] for segment in range(speed) for number in numbers]
        filler = last * (self.length - self.reconstructed - len(motion))
        return Sample(views=[View(frames=shown + motion + filler, speed=float(speed))], targets={"rate": label})

    def _window(self, video: Video, speed: int, rng: Random) -> list[int]:
        size = self.frames * speed
        spare = video.frames - (size + 1)
        if spare < 0:
            try:
                return fallback(size, 1, video.frames, self.short)
            except TooShortError as short:
                raise TooShortError(size + 1, short.short) from None
        start = max(0, rng.randrange(spare + 1) - 1)  # as the authors' code draws it
        return list(range(start, start + size))


def compared(mask: Mask, frames: int) -> list[int]:
    """Return the frames of a segment of `frames` frames from which the mask is computed."""
    if mask == "released":
        return [round(number * (frames - 1) / 3) for number in range(4)]
    return list(range(frames)) if mask == "paper" else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All choices of PRP; the defaults are the authors' code.

    The rows of tables 1 and 2 differ in `branches` (DP, GP, DG-P) and in the sampling's `speeds`, `rate` and `mask`
    ("none" is w/o MA). A branch that is alone has equation 1 or 2 as its loss, without a weight.
    """

    NAME: ClassVar[str] = "prp"
    sampling: Sampling = Sampling()
    branches: Branches = "DG-P"  # D predicts the speed, G reconstructs
    interpolated: Interpolated = "excluded"  # from the loss of the reconstruction
    weight_rec: float = 1.0  # the paper's lambda_g
    weight_cls: float = 0.1  # lambda_d
    fc_lr: float = 10.0  # factor of the learning rate for the rate head's last layer

    def __post_init__(self) -> None:
        check_limits(self, dict.fromkeys(("weight_rec", "weight_cls", "fc_lr"), NOT_NEGATIVE))
        for config in self.sampling.looks:
            if self.branches != "DP" and config.normalise != "unit":
                raise SettingError(
                    f"sampling.looks.normalise is '{config.normalise}', but the decoder makes values from "
                    "0 to 1: set normalise=unit"
                )

    def plan(self) -> Sampling:
        # Without a reconstruction, only the frames that the network sees are read.
        return replace(self.sampling, rate=1, mask="none") if self.branches == "DP" else self.sampling

    @property
    def chances(self) -> dict[str, float]:
        """How often a guess is correct."""
        return {"rate_accuracy": 1 / len(self.sampling.speeds)}

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the parts of the loss (equation 4)."""
        both = self.branches == "DG-P"
        return {"rate": self.weight_cls if both else 1.0, "reconstruction": self.weight_rec if both else 1.0}


def build(backbone: "Backbone", config: Config) -> "nn.Module":
    """Return the network with its loss; it is imported here, because it needs torch."""
    from vtrain.methods.prp.network import PRP

    return PRP(backbone, config)


METHOD = MethodEntry(
    summary="PRP: playback rate and skipped frames.",
    module=build,
    config=Config,
    main="prp-r2plus1d-ucf101",
    protocol="prp",
)
