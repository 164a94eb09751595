"""ASCNet. Huang, Wu, Hu, Liu, He, Wu, Wu, Tan, Ding: ASCNet: Self-supervised Video Representation Learning with
Appearance-Speed Consistency (ICCV 2021).

The loader takes two clips of a video at two speeds. From the first clip the network predicts the appearance of the
second (ACP, appearance consistency perception), and the motion of a similar video's clip at the first clip's speed
(SCP, speed consistency perception). The features to predict come from a momentum copy, the target network. Where the
paper leaves something open, this file follows BYOL.

With memory="bank" a step first encodes the second clips and finds their neighbours in the bank. Then threads read a new
clip of each neighbour (`vtrain.data.fetch`) while the online network computes. To learn whose clips to read, the host
waits for the device once a step, or twice with direction="both"; with the other memories it never waits.

Differs from the paper
- Algorithm 1 compares with all other videos, encoded by the present weights. The bank has the newest feature of each
  video, as old as the step that showed the video. Of more than `queue` videos it has those shown last, for the paper
  takes its bank from MoCo, which keeps recent features only because older ones come from another network.
- The bank's features are the target network's, like a_j, with which they are compared; line 12 has the head of the
  online network.
- The neighbour is the nearest video ("from the most similar candidates" in section 3.3.1), found with the target's
  feature of the second clip (line 14; section 3.3.1 has the first clip). "SCP only" finds it with a random projection.
- memory="clip" keeps the last `pool` clips and encodes the neighbour's again, where line 15 takes a new clip of its
  video; memory="feature" keeps motion features and encodes nothing again. Both compare at the wanted speed only.
- A clip without a neighbour in the memory, or whose neighbour cannot be read, is left out of SCP's mean.
- "Different instances" (table 1b) takes the next video of the batch, which is any video; its second clip serves twice.
- The two speeds always differ (section 3.2; in section 3.1 they may be equal); for {1, 1} write speeds=(1, 1).
- The text augments all clips alike. Here, as in BYOL, the two clips differ in blur and solarisation. BYOL lets both
  networks see both clips; equation 2 and algorithm 1 have one direction, so by default no solarised clip reaches the
  online network. direction="both" is as in BYOL.
- On a GPU the network computes in bfloat16; the paper does not say in what. [precision=float32]
"""

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, ClassVar, Literal

from vtrain.conversion import SettingError
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import OneClip, Plan, Sample, Short, Video, View, demand_positive, demand_speeds, random_clip
from vtrain.methods.method import MethodEntry
from vtrain.setting_limits import FRACTION, NOT_NEGATIVE, WHOLE, check_limits

if TYPE_CHECKING:
    from torch import nn

    from vtrain.backbones import Backbone

ONLINE = AugmentConfig(
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_chance=0.8,
    grey=0.2,
    blur=1.0,
    order=("flip", "jitter", "grey", "blur", "solarise"),
)
TARGET = replace(ONLINE, blur=0.1, solarise=0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Two clips; the order of their speeds is drawn for each sample, so that each speed has both roles.

    `again` further clips repeat the first speeds.
    """

    frames: int = 16
    speeds: tuple[int, ...] = (4, 8)
    again: int = 0
    short: Short = "loop"
    looks: tuple[AugmentConfig, ...] = (ONLINE, TARGET)

    def __post_init__(self) -> None:
        demand_positive(frames=self.frames, looks=len(self.looks))
        demand_speeds(speeds=self.speeds)
        if len(self.speeds) < 2:
            raise SettingError(f"speeds is '{self.speeds[0]}'; write two, such as 4,8, or 1,1 for equal speeds")
        check_limits(self, {"again": NOT_NEGATIVE})

    @property
    def views(self) -> int:
        return 2 + self.again

    @property
    def length(self) -> int:
        return self.frames

    def __call__(self, video: Video, rng: Random) -> Sample:
        speeds = rng.sample(self.speeds, 2)
        speeds += speeds[: self.again]
        views = [
            View(frames=random_clip(rng, self.frames, speed, video.frames, self.short), group=group, speed=float(speed))
            for group, speed in enumerate(speeds)
        ]
        return Sample(views=views, targets={"speed": speeds})


LIMITS = {**dict.fromkeys(("pool", "queue", "dim", "hidden"), WHOLE), "gamma": FRACTION, "momentum": FRACTION}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All choices of ASCNet. Tables 1a and 1b of the paper, with speeds=(1, 2), differ in `tasks` and `instances`."""

    NAME: ClassVar[str] = "ascnet"
    sampling: Sampling = Sampling()
    tasks: Literal["acp+scp", "acp", "scp", "acp+sp"] = "acp+scp"  # sp: predict the speed of each clip
    gamma: float = 0.5  # share of SCP, or of SP, in the loss
    instances: Literal["similar", "different", "same"] = "similar"  # video of SCP's other clip
    memory: Literal["bank", "clip", "feature"] = "bank"  # of the videos among which the similar one is sought
    pool: int = 1024  # entries of memory="clip": 1.2 GB of bfloat16 for 16 x 112 x 112
    queue: int = 16384  # entries of memory="bank", 17 MB, and of memory="feature", 34 MB
    direction: Literal["one", "both"] = "one"  # both: as in BYOL, the mean of both assignments of the clips
    dim: int = 256
    hidden: int = 4096
    momentum: float = 0.99  # at the start; 1 at the end

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)

    def plan(self) -> Plan:
        if self.instances != "same" or "scp" not in self.shares:
            return self.sampling
        again, looks = len(self.ways), self.sampling.looks
        return replace(self.sampling, again=again, looks=(*looks, *looks[-1:] * again) if len(looks) > 1 else looks)

    @property
    def chances(self) -> dict[str, float]:
        """How often a guess is correct."""
        return {"sp_accuracy": 1 / len(set(self.sampling.speeds))}

    @property
    def searches(self) -> bool:
        """Whether SCP's other clip is a neighbour's."""
        return self.instances == "similar" and "scp" in self.shares

    def neighbour(self, speed: int) -> Plan:
        """Return how a clip of a neighbour is taken: as the target network sees clips."""
        seen = self.sampling
        return OneClip(frames=seen.frames, step=speed, short=seen.short, looks=seen.looks[-1:])

    @property
    def ways(self) -> tuple[tuple[int, int], ...]:
        """Pairs of the online network's clip and the target network's clip."""
        return ((0, 1),) if self.direction == "one" else ((0, 1), (1, 0))

    @property
    def shares(self) -> dict[str, float]:
        """Weight of each task in the loss (equation 1); a task that is alone has weight 1."""
        tasks = self.tasks.split("+")
        return dict(zip(tasks, (1 - self.gamma, self.gamma) if len(tasks) > 1 else (1.0,), strict=True))


def build(backbone: "Backbone", config: Config) -> "nn.Module":
    """Return the network with its loss; it is imported here, because it needs torch."""
    from vtrain.methods.ascnet.network import ASCNet

    return ASCNet(backbone, config)


METHOD = MethodEntry(
    summary="ASCNet: consistency of appearance and of speed.",
    module=build,
    config=Config,
    main="ascnet-resnet3d18-k400",
    protocol="ascnet",
)
