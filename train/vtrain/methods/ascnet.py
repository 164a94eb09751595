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

B batch, N clips, C channels, T time, H W height and width, D feature, K memory
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, pi
from random import Random
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vprep.errors import UsageError
from vtrain.backbones import Backbone
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import OneClip, Plan, Sample, Short, Video, View, demand_positive, random_clip
from vtrain.methods.ascnet_memory import Bank, Memory, Recent, fitting, memory, next_fitting
from vtrain.methods.method import Fetch, MethodEntry
from vtrain.methods.momentum import ema_update, momentum_copy
from vtrain.methods.precision import at_least_float32

Motion = Callable[[], tuple[Tensor, Tensor]]

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
        demand_positive(frames=self.frames, speeds=self.speeds, looks=len(self.looks))

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All choices of ASCNet. Tables 1a and 1b of the paper, with speeds=(1, 2), differ in `tasks` and `instances`."""

    NAME: ClassVar[str] = "ascnet"
    sampling: Sampling = Sampling()
    tasks: Literal["acp+scp", "acp", "scp", "acp+sp"] = "acp+scp"  # sp: predict the speed of each clip
    gamma: float = 0.5  # share of SCP, or of SP, in the loss
    instances: Literal["similar", "different", "same"] = "similar"  # video of SCP's other clip
    memory: Memory = "bank"  # of the videos among which the similar one is sought
    pool: int = 1024  # entries of memory="clip": 1.2 GB of bfloat16 for 16 x 112 x 112
    queue: int = 16384  # entries of memory="bank", 17 MB, and of memory="feature", 34 MB
    direction: Literal["one", "both"] = "one"  # both: as in BYOL, the mean of both assignments of the clips
    dim: int = 256
    hidden: int = 4096
    momentum: float = 0.99  # at the start; 1 at the end

    def plan(self) -> Plan:
        if self.instances != "same" or "scp" not in self.shares:
            return self.sampling
        again, looks = len(self.ways), self.sampling.looks
        return replace(self.sampling, again=again, looks=(*looks, *looks[-1:] * again) if len(looks) > 1 else looks)

    @property
    def searches(self) -> bool:
        """Whether SCP's other clip is a neighbour's."""
        return self.instances == "similar" and "scp" in self.shares

    def new_memory(self) -> Bank | Recent:
        """Return the empty memory in which the similar video is sought."""
        frames, side = self.sampling.frames, self.sampling.looks[0].size
        return memory(
            self.memory, self.pool if self.memory == "clip" else self.queue, self.dim, (frames, side, side, 3)
        )

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


class ASCNet(nn.Module):
    """Online network, target network and memory (algorithm 1)."""

    speeds: Tensor

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.heads = nn.ModuleDict({task: nn.Linear(backbone.dim, config.dim) for task in ("acp", "scp")})
        self.predictors = nn.ModuleDict({task: predictor(config) for task in ("acp", "scp") if task in config.shares})
        for task in self.heads.keys() - config.shares.keys():
            self.heads[task].requires_grad_(False)  # stays a random projection, with which SCP alone searches
        self.fetch: Fetch | None = None
        self.fetched: dict[int, Plan] = {}
        if config.searches:
            self.memory = config.new_memory()
            if config.memory == "bank":
                self.fetched = {speed: config.neighbour(speed) for speed in sorted(set(config.sampling.speeds))}
        if "sp" in config.shares:
            self.register_buffer("speeds", torch.tensor(sorted(set(config.sampling.speeds))), persistent=False)
            self.speed = nn.Linear(backbone.dim, len(self.speeds))
        self.target_backbone = momentum_copy(self.backbone)
        self.target_heads = momentum_copy(self.heads)

    def forward(self, clips_BNCTHW: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        ways = [self._one_way(clips_BNCTHW, targets, *way) for way in self.config.ways]
        numbers = {name: torch.stack([way[name] for way in ways]).mean(0) for name in ways[0]}
        loss = torch.stack([share * numbers[task] for task, share in self.config.shares.items()]).sum()
        return {name: number.detach() for name, number in numbers.items()} | {"loss": loss}

    def after_step(self, progress: float) -> None:
        # BYOL, section 3.2: 1 - (1 - base) (cos(pi k / K) + 1) / 2
        keep = 1 - (1 - self.config.momentum) * (cos(pi * progress) + 1) / 2
        ema_update(((self.target_backbone, self.backbone), (self.target_heads, self.heads)), keep)

    def _one_way(self, clips_BNCTHW: Tensor, targets: dict[str, Tensor], i: int, j: int) -> dict[str, Tensor]:
        """Return losses and accuracies (lines 6 to 21); the online network sees clip i, the target network clip j."""
        aj_BD, mj_BD = self._target(clips_BNCTHW[:, j])
        # Before the online network, so that clips are read while it computes.
        other = self._other(clips_BNCTHW, targets, aj_BD, mj_BD, i, j) if "scp" in self.config.shares else None
        x_BD = pooled(self.backbone, clips_BNCTHW[:, i])
        numbers: dict[str, Tensor] = {}
        if "acp" in self.config.shares:
            # Section 4.2: all features have length 1, a predictor's input too.
            predicted_BD = unit(self.predictors["acp"], unit(self.heads["acp"], x_BD))
            numbers["acp"] = distance(predicted_BD, aj_BD).mean()
            numbers["acp_accuracy"] = accuracy(predicted_BD, aj_BD)
        if other is not None:
            mk_BD, found_B = other()
            far_B = distance(unit(self.predictors["scp"], unit(self.heads["scp"], x_BD)), mk_BD)
            numbers["scp"] = (far_B * found_B).sum() / found_B.sum().clamp(min=1)
            numbers["neighbours"] = found_B.float().mean()
        if "sp" in self.config.shares:
            logits = float32(self.speed, x_BD)
            label_B = (targets["speed"][:, i, None] == self.speeds).int().argmax(1)
            numbers["sp"] = F.cross_entropy(logits, label_B)
            numbers["sp_accuracy"] = (logits.argmax(1) == label_B).float().mean()
        return numbers

    @torch.no_grad()
    def _target(self, clips_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return appearance and motion [B, D] that are to be predicted."""
        x_BD = pooled(self.target_backbone, clips_BCTHW)
        return unit(self.target_heads["acp"], x_BD), unit(self.target_heads["scp"], x_BD)

    @torch.no_grad()
    def _other(
        self, clips_BNCTHW: Tensor, targets: dict[str, Tensor], aj_BD: Tensor, mj_BD: Tensor, i: int, j: int
    ) -> Motion:
        """Return a function of the motion m_k [B, D] of clips at the speed of clip i, and of which samples have one.

        Call it after the online network: what can be done while that computes has begun when this returns.
        """
        speed_BN, row_B = targets["speed"], targets["row"]
        if self.config.instances == "same":
            mk_BD, found_B = self._target(clips_BNCTHW[:, 2 + i])[1], torch.ones_like(row_B, dtype=torch.bool)
        elif self.config.instances == "different":
            fits_BB = fitting(speed_BN[:, i], row_B, speed_BN[:, j], row_B)
            mk_BD, found_B = mj_BD.index_select(0, next_fitting(fits_BB)), fits_BB.any(1)
        elif isinstance(self.memory, Bank):
            return self._read(self.memory, row_B, speed_BN[:, i], aj_BD)
        else:
            kind = self.config.memory
            new_B = clips_BNCTHW[:, j].movedim(1, -1).bfloat16() if kind == "clip" else mj_BD
            mk_BD, found_B = self.memory.neighbours(row_B, speed_BN[:, i], speed_BN[:, j], aj_BD, new_B)
            if kind == "clip":
                mk_BD = self._target(mk_BD.movedim(-1, 1).to(clips_BNCTHW.dtype))[1]
        return lambda: (mk_BD, found_B)

    def _read(self, bank: Bank, row_B: Tensor, speed_B: Tensor, aj_BD: Tensor) -> Motion:
        """Begin to read a new clip of each sample's neighbour; return what encodes them (lines 12 to 16)."""
        if self.fetch is None:
            raise UsageError(
                "memory=bank reads clips within a step, which a training provides; set the module's `fetch` to a "
                "vtrain.data.fetch.ClipFetcher, or take memory=feature"
            )
        # A sample without a neighbour shows its own video, so that the target's batch norm sees real clips only.
        asked_B, found_B = bank.neighbours(self.fetch.videos, row_B, aj_BD)
        fetching = self.fetch(asked_B, speed_B)

        def encoded() -> tuple[Tensor, Tensor]:
            clips_BNCTHW, valid_B = fetching.clips()
            return self._target(clips_BNCTHW[:, 0])[1], found_B & valid_B

        return encoded


def predictor(config: Config) -> nn.Sequential:
    """Return BYOL's predictor; the paper does not describe its own."""
    first, last = nn.Linear(config.dim, config.hidden), nn.Linear(config.hidden, config.dim)
    return nn.Sequential(first, nn.BatchNorm1d(config.hidden), nn.ReLU(), last)


def pooled(backbone: nn.Module, clips_BCTHW: Tensor) -> Tensor:
    """Return features [B, D]: the mean of the last map."""
    map_BCTHW: Tensor = backbone(clips_BCTHW)
    return at_least_float32(map_BCTHW).mean((2, 3, 4))


def float32(module: Callable[..., Tensor], *args: Tensor) -> Tensor:
    """Return the module's output, computed in float32 also under autocast."""
    with torch.autocast(args[0].device.type, enabled=False):
        return module(*args)


def unit(module: nn.Module, x_BD: Tensor) -> Tensor:
    """Return the module's output with length 1."""
    return F.normalize(float32(module, x_BD), dim=1)


def distance(predicted_BD: Tensor, target_BD: Tensor) -> Tensor:
    """Return the squared distance of equations 2 and 3."""
    return (predicted_BD - target_BD).square().sum(1)


def accuracy(predicted_BD: Tensor, target_BD: Tensor) -> Tensor:
    """Return how often a prediction's nearest target in the batch is its own video's; chance is 1 / B."""
    number = torch.arange(len(predicted_BD), device=predicted_BD.device)
    return (float32(torch.mm, predicted_BD, target_BD.T).argmax(1) == number).float().mean()


METHOD = MethodEntry(
    summary="ASCNet: consistency of appearance and of speed.",
    module=ASCNet,
    config=Config,
    main="ascnet-resnet3d18-k400",
    protocol="ascnet",
)
