"""RSPNet. Chen, Huang, He, Long, Zeng, Wen, Tan, Gan: RSPNet: Relative Speed Perception for Unsupervised Video
Representation Learning (AAAI 2021).

The loader takes two windows of consecutive frames of a video. The device takes the clips at 1x and at `speed` from
them, after the augmentation, so that the clips of a window have the same crop and colours. The query q comes from the
first window; from the second come k+, at the query's speed, and k-, at the other speed. There are two tasks: q must be
nearer to k+ than to k- (RSP, relative speed perception), and nearer to both than to clips of other videos (A-VID,
appearance-focused video instance discrimination).

Differs from the paper, as the authors' code does (in brackets the setting that restores the paper's way)
- Keys come from a momentum copy of the network, and other videos' clips from a queue of earlier keys (MoCo), among
  which may be keys of the same video.
- k- is a second positive of A-VID, and the two terms are summed. [positives="same"]
- RSP's margin is on the cosines divided by tau. [margin=0.15, margin_on="cosine"]
- The weights of the epoch with the lowest training loss are used; the text does not say which. [keep="last"]
- Frames have the videos' own rate, not 25 a second, if the set was made so. [a set of `vprep shard --fps 25`]
Differs from the authors' code
- Every other query of the batch is at 1x, not a random half: the loader's batches are shuffled already. With an odd
  batch the code has more queries at `speed`.
- The keys are shuffled for batch norm in a fixed order, and also on one device, where the code does not run.
- The training loss of an epoch is the mean over all GPUs; the code compares the first GPU's, and forgets the best when
  it resumes.
- The queue need not be a multiple of the batch. The momentum copy is updated after the optimiser's step, not before
  the next forward: the numbers are the same.
- The code cannot run VID (Table 1); here q, k+ and the queue's keys are then all at 1x, and k- serves RSP alone.
- The code has SP (Table 1) as a head without its loss; here the loss is the cross-entropy of the query's speed.
- Of several speeds, that of a step follows from the step's number, on all ranks; in the code each process draws it.
- On a GPU the network computes in bfloat16, the code in float32. [precision=float32]
"""

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar, Literal

from vtrain.conversion import SettingError
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import Plan, Sample, Short, Video, View, demand_positive, demand_speeds, random_clip
from vtrain.methods.method import MethodEntry
from vtrain.setting_limits import FRACTION, NOT_NEGATIVE, POSITIVE, WHOLE, check_limits

if TYPE_CHECKING:
    from torch import nn

    from vtrain.backbones import Backbone

# The authors' code: grey comes before the jitter, there is a flip, and no blur, which the paper names.
RELEASED = AugmentConfig(jitter=(0.4, 0.4, 0.4, 0.4), grey=0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The two windows of a sample.

    With `speeds`, which the authors' code calls diff_speed, each step draws one of them, d. A window is then the first
    of `speeds` times `frames` long, and the clips have a d-th of its frames: 4,2,1 gives clips of 16, 32 and 64 frames.
    At d = 1 both clips of a window are the same, so that RSP has nothing to tell apart.
    """

    frames: int = 16
    speed: int = 2
    speeds: tuple[int, ...] = ()  # empty: always `speed`
    short: Short = "loop"
    looks: tuple[AugmentConfig, ...] = (RELEASED,)

    def __post_init__(self) -> None:
        demand_positive(frames=self.frames, looks=len(self.looks))
        demand_speeds(speed=self.speed, **({"speeds": self.speeds} if self.speeds else {}))

    @property
    def views(self) -> int:
        return 2

    @property
    def drawn(self) -> tuple[int, ...]:
        """The speeds of which each step draws one."""
        return self.speeds or (self.speed,)

    @property
    def length(self) -> int:
        return self.frames * self.drawn[0]

    def __call__(self, video: Video, rng: Random) -> Sample:
        windows = [random_clip(rng, self.length, 1, video.frames, self.short) for _ in range(2)]
        return Sample(views=[View(frames=window, group=group) for group, window in enumerate(windows)])


LIMITS = {
    **dict.fromkeys(("motion_weight", "appearance_weight", "margin"), NOT_NEGATIVE),
    **dict.fromkeys(("queue", "dim"), WHOLE),
    "bn_groups": (1, 10_000),
    "tau": POSITIVE,
    "momentum": FRACTION,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Table 1 of the paper: "RSP only" is appearance_weight=0, "A-VID only" motion_weight=0, "SP + A-VID" motion="sp",
    "RSP + VID" appearance="vid"."""

    NAME: ClassVar[str] = "rspnet"
    sampling: Sampling = Sampling()
    motion: Literal["rsp", "sp"] = "rsp"  # sp: predict the speed of each clip
    motion_weight: float = 1.0  # the code's M
    margin: float = 2.0
    margin_on: Literal["cosine", "cosine/tau"] = "cosine/tau"
    appearance: Literal["a-vid", "vid"] = "a-vid"  # vid: without speed augmentation
    appearance_weight: float = 1.0  # the code's A, the paper's lambda
    positives: Literal["same", "both"] = "both"  # positives of A-VID: k+ alone, or k- too
    tau: float = 0.07
    queue: int = 16384
    head: Literal["linear", "mlp", "conv", "convbn"] = "linear"
    dim: int = 128
    momentum: float = 0.999
    bn_groups: int = 2  # least number of groups of the batch, over all ranks, that are normalised each on its own

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)
        if (self.motion, self.appearance) == ("sp", "vid"):
            raise SettingError("motion is 'sp', but appearance=vid shows one speed only: change one of them")
        if self.motion == "sp" and len(self.sampling.drawn) > 1:
            raise SettingError(
                "motion is 'sp', which tells one speed from 1x: leave sampling.speeds out, and set sampling.speed"
            )

    def plan(self) -> Plan:
        return self.sampling

    @property
    def chances(self) -> dict[str, float]:
        """How often a guess is correct."""
        return {f"{self.motion}_accuracy": 1 / 2, "contrast_accuracy": 1 / (1 + self.queue)}


def build(backbone: "Backbone", config: Config) -> "nn.Module":
    """Return the network with its loss; it is imported here, because it needs torch."""
    from vtrain.methods.rspnet.network import RSPNet

    return RSPNet(backbone, config)


METHOD = MethodEntry(
    summary="RSPNet: relative speed and video discrimination.",
    module=build,
    config=Config,
    main="rspnet-r2plus1d-k400",
    protocol="rspnet",
)
