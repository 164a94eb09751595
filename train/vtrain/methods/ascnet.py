"""ASCNet. Huang, Wu, Hu, Liu, He, Wu, Wu, Tan, Ding: ASCNet: Self-supervised Video Representation Learning with
Appearance-Speed Consistency (ICCV 2021).

Two clips of a video at two speeds. From the first one the network tells the appearance of the second (ACP, appearance
consistency perception), and the motion of another video's clip that looks alike and has its speed (SCP, speed
consistency perception). What is to be told comes from a network that follows. What the paper leaves open is BYOL's.

Differs from the paper
- Its gallery is all other videos (section 3.3.1); here it is a memory of recent ones, this batch's among them.
  memory="clip" keeps the clips that were shown, and the neighbour's is encoded anew (Algorithm 1, line 16; line 15
  takes a new clip of its video); memory="feature" keeps motion features, and encodes nothing anew.
- The neighbour is the nearest one ("from the most similar candidates" in section 3.3.1), found with the target's
  feature of the second clip (line 14; section 3.3.1: the first one's). "SCP only" has a random projection for it.
- While the memory has no other video at a clip's speed, the clip is left out of SCP's mean.
- The two speeds always differ (section 3.2; in section 3.1 they may be equal); for {1, 1} write speeds=(1, 1).

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

from vtrain.backbones import Backbone
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import Plan, Sample, Short, Video, View, demand_positive, random_clip
from vtrain.distributed import gather
from vtrain.methods.method import MethodEntry
from vtrain.methods.momentum import Queue, follow, twin

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
    """Two clips; which of the speeds comes first is drawn for each sample, so that both are there in both roles.

    `again` further clips show the first speeds once more.
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
    """Tables 1a and 1b of the paper, which are with speeds=(1, 2), differ in `tasks` and `instances`."""

    NAME: ClassVar[str] = "ascnet"
    sampling: Sampling = Sampling()
    tasks: Literal["acp+scp", "acp", "scp", "acp+sp"] = "acp+scp"  # sp: tell the speed of each clip
    gamma: float = 0.5  # SCP's share of the loss, or SP's
    instances: Literal["similar", "different", "same"] = "similar"  # where SCP's other clip comes from
    memory: Literal["clip", "feature"] = "clip"
    pool: int = 1024  # clips: 1.2 GB of bfloat16 for 16 x 112 x 112
    queue: int = 16384  # features
    direction: Literal["one", "both"] = "one"  # both: as BYOL, the clips change places and the losses' mean is taken
    dim: int = 256
    hidden: int = 4096
    momentum: float = 0.99  # at the start; 1 at the end

    def plan(self) -> Plan:
        if self.instances != "same" or "scp" not in self.shares:
            return self.sampling
        again, looks = len(self.ways), self.sampling.looks
        return replace(self.sampling, again=again, looks=(*looks, *looks[-1:] * again) if len(looks) > 1 else looks)

    @property
    def ways(self) -> tuple[tuple[int, int], ...]:
        """Which clip is the online network's, and which the target's."""
        return ((0, 1),) if self.direction == "one" else ((0, 1), (1, 0))

    @property
    def shares(self) -> dict[str, float]:
        """What each task adds to the loss (equation 1); one that is alone is all of it."""
        tasks = self.tasks.split("+")
        return dict(zip(tasks, (1 - self.gamma, self.gamma) if len(tasks) > 1 else (1.0,), strict=True))


class ASCNet(nn.Module):
    """Algorithm 1."""

    speeds: Tensor

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.heads = nn.ModuleDict({task: nn.Linear(backbone.dim, config.dim) for task in ("acp", "scp")})
        self.predictors = nn.ModuleDict({task: predictor(config) for task in ("acp", "scp") if task in config.shares})
        for task in self.heads.keys() - config.shares.keys():
            self.heads[task].requires_grad_(False)  # it stays a random projection, which SCP alone searches with
        if config.instances == "similar" and "scp" in config.shares:
            self.memory = memory(config)
        if "sp" in config.shares:
            self.register_buffer("speeds", torch.tensor(sorted(set(config.sampling.speeds))), persistent=False)
            self.speed = nn.Linear(backbone.dim, len(self.speeds))
        self.target_backbone = twin(self.backbone)
        self.target_heads = twin(self.heads)

    def forward(self, clips_BNCTHW: Tensor, facts: dict[str, Tensor]) -> dict[str, Tensor]:
        ways = [self._one_way(clips_BNCTHW, facts, *way) for way in self.config.ways]
        numbers = {name: torch.stack([way[name] for way in ways]).mean(0) for name in ways[0]}
        loss = torch.stack([share * numbers[task] for task, share in self.config.shares.items()]).sum()
        return {name: number.detach() for name, number in numbers.items()} | {"loss": loss}

    def after_step(self, progress: float) -> None:
        # BYOL, section 3.2: 1 - (1 - base) (cos(pi k / K) + 1) / 2
        keep = 1 - (1 - self.config.momentum) * (cos(pi * progress) + 1) / 2
        follow(((self.target_backbone, self.backbone), (self.target_heads, self.heads)), keep)

    def _one_way(self, clips_BNCTHW: Tensor, facts: dict[str, Tensor], i: int, j: int) -> dict[str, Tensor]:
        """Lines 6 to 21; clip i is the online network's, clip j the target's."""
        x_BD = pooled(self.backbone, clips_BNCTHW[:, i])
        aj_BD, mj_BD = self._target(clips_BNCTHW[:, j])
        numbers: dict[str, Tensor] = {}
        if "acp" in self.config.shares:
            # Section 4.2: all features have length 1; so also what a predictor is given.
            told_BD = unit(self.predictors["acp"], unit(self.heads["acp"], x_BD))
            numbers["acp"] = distance(told_BD, aj_BD).mean()
            numbers["acp_accuracy"] = accuracy(told_BD, aj_BD)
        if "scp" in self.config.shares:
            mk_BD, found_B = self._other(clips_BNCTHW, facts, aj_BD, mj_BD, i, j)
            far_B = distance(unit(self.predictors["scp"], unit(self.heads["scp"], x_BD)), mk_BD)
            numbers["scp"] = (far_B * found_B).sum() / found_B.sum().clamp(min=1)
            numbers["neighbours"] = found_B.float().mean()
        if "sp" in self.config.shares:
            logits = float32(self.speed, x_BD)
            label_B = (facts["speed"][:, i, None] == self.speeds).int().argmax(1)
            numbers["sp"] = F.cross_entropy(logits, label_B)
            numbers["sp_accuracy"] = (logits.argmax(1) == label_B).float().mean()
        return numbers

    @torch.no_grad()
    def _target(self, clips_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """Appearance and motion [B, D] that are to be told."""
        x_BD = pooled(self.target_backbone, clips_BCTHW)
        return unit(self.target_heads["acp"], x_BD), unit(self.target_heads["scp"], x_BD)

    @torch.no_grad()
    def _other(
        self, clips_BNCTHW: Tensor, facts: dict[str, Tensor], aj_BD: Tensor, mj_BD: Tensor, i: int, j: int
    ) -> tuple[Tensor, Tensor]:
        """The motion m_k [B, D] of a clip at the speed of clip i, and for which samples [B] there is one."""
        speed_BN, row_B = facts["speed"], facts["row"]
        if self.config.instances == "same":
            return self._target(clips_BNCTHW[:, 2 + i])[1], torch.ones_like(row_B, dtype=torch.bool)
        if self.config.instances == "different":
            fits_BB = fitting(speed_BN[:, i], row_B, speed_BN[:, j], row_B)
            return mj_BD.index_select(0, next_one(fits_BB)), fits_BB.any(1)
        kind = self.config.memory
        if self.training:
            kept = clips_BNCTHW[:, j].movedim(1, -1).bfloat16() if kind == "clip" else mj_BD
            new = {"appearance": aj_BD, "speed": speed_BN[:, j], "row": row_B, kind: kept}
            self.memory.push(**{name: gather(entries) for name, entries in new.items()})
        fits_BK = fitting(speed_BN[:, i], row_B, self.memory["speed"], self.memory["row"])
        kept = self.memory[kind].index_select(0, nearest(aj_BD, self.memory["appearance"], fits_BK))
        if kind == "clip":
            kept = self._target(kept.movedim(-1, 1).to(clips_BNCTHW.dtype))[1]
        return kept, fits_BK.any(1)


def predictor(config: Config) -> nn.Sequential:
    """BYOL's; the paper does not say which."""
    first, last = nn.Linear(config.dim, config.hidden), nn.Linear(config.hidden, config.dim)
    return nn.Sequential(first, nn.BatchNorm1d(config.hidden), nn.ReLU(), last)


def memory(config: Config) -> Queue:
    """What was the target's, of all ranks. No video has the row -1."""
    kept = torch.zeros(config.queue, config.dim)
    if config.memory == "clip":
        # As a network under autocast reads them, and with channels last, as they lie in memory.
        frames, side = config.sampling.frames, config.sampling.looks[0].size
        kept = torch.zeros(config.pool, frames, side, side, 3, dtype=torch.bfloat16)
    tags = {"speed": torch.zeros(len(kept)), "row": torch.full((len(kept),), -1)}
    return Queue(appearance=torch.zeros(len(kept), config.dim), **tags, **{config.memory: kept})


def pooled(backbone: nn.Module, clips_BCTHW: Tensor) -> Tensor:
    map_BCTHW: Tensor = backbone(clips_BCTHW)
    return map_BCTHW.float().mean((2, 3, 4))


def float32(module: Callable[..., Tensor], *args: Tensor) -> Tensor:
    """What it gives, in float32 under autocast too."""
    with torch.autocast(args[0].device.type, enabled=False):
        return module(*args)


def unit(module: nn.Module, x_BD: Tensor) -> Tensor:
    return F.normalize(float32(module, x_BD), dim=1)


def fitting(speed_B: Tensor, row_B: Tensor, speed_K: Tensor, row_K: Tensor) -> Tensor:
    """Which of K clips are of another video and at the speed that is asked for: bool [B, K]."""
    return (speed_B[:, None] == speed_K) & (row_B[:, None] != row_K) & (row_K >= 0)


def nearest(a_BD: Tensor, a_KD: Tensor, fits_BK: Tensor) -> Tensor:
    """Lines 12 to 14: the one of those that fit which looks most alike."""
    return float32(torch.mm, a_BD, a_KD.T).masked_fill(~fits_BK, -torch.inf).argmax(1)


def next_one(fits_BB: Tensor) -> Tensor:
    """For each of a batch, the next one behind it that fits, round and round."""
    number = torch.arange(len(fits_BB), device=fits_BB.device)
    return ((number - number[:, None]) % len(fits_BB)).masked_fill(~fits_BB, len(fits_BB)).argmin(1)


def distance(told_BD: Tensor, is_BD: Tensor) -> Tensor:
    """Equations 2 and 3."""
    return (told_BD - is_BD).square().sum(1)


def accuracy(told_BD: Tensor, is_BD: Tensor) -> Tensor:
    """How often, of the batch, the own video's feature is the nearest to what was told; by chance 1 / B."""
    number = torch.arange(len(told_BD), device=told_BD.device)
    return (float32(torch.mm, told_BD, is_BD.T).argmax(1) == number).float().mean()


METHOD = MethodEntry(
    summary="ASCNet: consistency of appearance and of speed.",
    module=ASCNet,
    config=Config,
    main="ascnet-resnet3d18-k400",
    protocol="ascnet",
)
