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

B batch, N windows, C channels, T time, H W height and width, D feature, K queue
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vprep.errors import UsageError
from vtrain.backbones import Backbone
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import Plan, Sample, Short, Video, View, demand_positive, random_clip
from vtrain.distributed import gather, own, rank, world
from vtrain.methods.method import MethodEntry
from vtrain.methods.momentum import Queue, ema_update, momentum_copy, unit_noise
from vtrain.methods.precision import at_least_float32

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
        demand_positive(frames=self.frames, speed=self.speed, looks=len(self.looks))
        if self.speeds:
            demand_positive(speeds=self.speeds)

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
        if (self.motion, self.appearance) == ("sp", "vid"):
            raise UsageError("motion is 'sp', but appearance 'vid' shows one speed only: change one of them")
        if self.motion == "sp" and len(self.sampling.drawn) > 1:
            raise UsageError("motion is 'sp', which tells one speed from 1x: leave speeds out, and set speed")

    def plan(self) -> Plan:
        return self.sampling


class RSPNet(nn.Module):
    """The network, its momentum copy and the queue (sections 3.1 and 3.2)."""

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.heads = Heads(backbone.dim, config)
        self.key_backbone = momentum_copy(self.backbone)
        self.key_heads = momentum_copy(self.heads)
        self.queue = Queue(keys=unit_noise(config.queue, config.dim))
        self.turn = Turn() if len(config.sampling.drawn) > 1 else None

    def forward(self, clips_BNCTHW: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        config, speed = self.config, self._speed()
        q_BCTHW, k_BCTHW = clips_BNCTHW.unbind(1)
        fast_B = self._fast(len(q_BCTHW), clips_BNCTHW.device)
        all_far_a, all_far_m = self._keys(paced(k_BCTHW, ~fast_B, speed))  # k- first, as in the code
        all_near_a, all_near_m = self._keys(paced(k_BCTHW, fast_B, speed))
        a_BD, m_BD = self._features(self.backbone, self.heads, paced(q_BCTHW, fast_B, speed))

        with torch.autocast(clips_BNCTHW.device.type, enabled=False):
            # A copy, because the keys of this step enter the queue before the gradient is computed.
            queue_KD = self.queue.before_push("keys")
            far_is_positive = config.appearance == "a-vid" and config.positives == "both"
            positives = [own(all_near_a), own(all_far_a)] if far_is_positive else [own(all_near_a)]
            appearance, nearest = contrast(a_BD, positives, queue_KD, config.tau)
            if config.motion == "rsp":
                gain = 1 / config.tau if config.margin_on == "cosine/tau" else 1.0
                motion, correct = relative_speed(m_BD, own(all_near_m), own(all_far_m), config.margin, gain)
            else:
                motion, correct = absolute_speed(m_BD.squeeze(1), fast_B)
            loss = config.motion_weight * motion + config.appearance_weight * appearance  # equation 1

        if self.training:
            # The code's choice: half of the queue is at each speed, for any speed of the query.
            self.queue.push(keys=all_far_a if config.appearance == "a-vid" else all_near_a)
        return {
            "loss": loss,
            "motion": motion.detach(),
            "appearance": appearance.detach(),
            f"{config.motion}_accuracy": correct,
            "contrast_accuracy": nearest,
        }

    def after_step(self, progress: float) -> None:
        pairs = ((self.key_backbone, self.backbone), (self.key_heads, self.heads))
        ema_update(pairs, self.config.momentum)
        if self.turn is not None:
            self.turn.finished += 1

    def _speed(self) -> int:
        """Return the speed of this step, the same on all ranks."""
        drawn = self.config.sampling.drawn
        return drawn[0] if self.turn is None else Random(self.turn.finished).choice(drawn)

    def _fast(self, count: int, device: torch.device) -> Tensor:
        """Return which queries [B] are at `speed`: every other one of the global batch, however many ranks share it."""
        if self.config.appearance == "vid":
            return torch.zeros(count, dtype=torch.bool, device=device)
        return (torch.arange(count, device=device) + rank() * count) % 2 == 1

    @property
    def groups(self) -> int:
        """Number of groups of a rank's batch."""
        return max(1, self.config.bn_groups // world())

    def _features(self, backbone: nn.Module, heads: nn.Module, clips_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return appearance and motion [B, D]. Each group of the batch is normalised on its own.

        Each of g groups updates the running statistics of batch norm, so a step replaces 1 - (1 - m)^g of them where a
        batch as a whole, or a device with one group, replaces m: for m = 0.1 and two groups 0.19, and 0.34 instead of
        0.19 in the momentum copy, which sees each key at two speeds.
        """
        parts = [heads(backbone(part)) for part in clips_BCTHW.chunk(self.groups)]
        return torch.cat([appearance for appearance, _ in parts]), torch.cat([motion for _, motion in parts])

    @torch.no_grad()
    def _keys(self, clips_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return appearance and motion of the clips of all ranks, computed in the order that shuffles batch norm."""
        order = shuffle_bn_order(len(clips_BCTHW) * world(), self.groups * world(), clips_BCTHW.device)
        # Channels last, which is the layout of the clips, so that nothing is copied before it is sent.
        clips_BTHWC = gather(clips_BCTHW.movedim(1, -1)).index_select(0, own(order))
        features = self._features(self.key_backbone, self.key_heads, clips_BTHWC.movedim(-1, 1))
        back = order.argsort()
        appearance, motion = (gather(feature).index_select(0, back) for feature in features)
        return appearance, motion


class Turn(nn.Module):
    """The number of finished steps: a checkpoint holds it, and no step waits for the device to read it."""

    finished = 0

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.finished)

    def set_extra_state(self, state: Tensor) -> None:
        self.finished = int(state)


class Heads(nn.Module):
    """From a feature map to appearance and motion [B, dim] of length 1, in float32 or float64; SP's is a logit."""

    def __init__(self, channels: int, config: Config) -> None:
        super().__init__()
        self.task = config.motion
        self.appearance = head(channels, config.dim, config.head)
        self.motion = head(channels, 1, "linear") if config.motion == "sp" else head(channels, config.dim, config.head)

    def forward(self, map_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(map_BCTHW.device.type, enabled=False):
            map_BCTHW = at_least_float32(map_BCTHW)
            appearance, motion = self.appearance(map_BCTHW), self.motion(map_BCTHW)
            return F.normalize(appearance, dim=1), motion if self.task == "sp" else F.normalize(motion, dim=1)


def head(channels: int, dim: int, kind: str) -> nn.Sequential:
    """Return a head. The paper has "linear", the code all four kinds."""
    steps: list[nn.Module] = [nn.AdaptiveAvgPool3d(1), nn.Flatten()]
    if kind == "mlp":
        steps += [nn.Linear(channels, channels), nn.ReLU()]
    elif kind == "conv":
        steps = [conv(channels), nn.ReLU(), conv(channels), *steps]
    elif kind == "convbn":
        steps = [conv(channels), nn.BatchNorm3d(channels), nn.ReLU(), *steps]
    return nn.Sequential(*steps, nn.Linear(channels, dim))


def conv(channels: int) -> nn.Conv3d:
    return nn.Conv3d(channels, channels, 3, padding=1)


def paced(window_BCTHW: Tensor, fast_B: Tensor, speed: int) -> Tensor:
    """Return clips from the windows' first frame on: every `speed`-th frame where `fast`, else consecutive frames."""
    frames = window_BCTHW.shape[2] // speed
    return torch.where(fast_B[:, None, None, None, None], window_BCTHW[:, :, ::speed], window_BCTHW[:, :, :frames])


def shuffle_bn_order(count: int, groups: int, device: torch.device) -> Tensor:
    """Return the order in which keys are divided into groups for batch norm; queries are divided in batch order.

    If a query and its key were normalised in the same group, the statistics would reveal which key is the query's own
    (MoCo, section 3.3). This order gives each group of keys an equal share of each group of queries. A random order
    would not be better, because batches are shuffled already. Positions 2n - 1 and 2n stay together: one is at 1x, the
    other at `speed`.
    """
    return ((torch.arange(count, device=device) + 1) // 2 % groups).argsort(stable=True)


def cosine(a_BD: Tensor, b_BD: Tensor) -> Tensor:
    """Return the cosines of vectors of length 1."""
    return (a_BD * b_BD).sum(1)


def contrast(a_BD: Tensor, positives: Sequence[Tensor], queue_KD: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Return equation 3, summed over the positives; and how often the first positive is nearer than the whole queue."""
    others_BK = a_BD @ queue_KD.T / tau
    own_B = [cosine(a_BD, positive_BD) / tau for positive_BD in positives]
    # -log(e^p / (e^p + sum e^n)) = log(1 + e^(log sum e^n - p))
    all_others_B = others_BK.logsumexp(1)
    loss = torch.stack([F.softplus(all_others_B - positive_B).mean() for positive_B in own_B]).sum()
    return loss, (own_B[0] > others_BK.amax(1)).float().mean()


def relative_speed(m_BD: Tensor, near_BD: Tensor, far_BD: Tensor, margin: float, gain: float) -> tuple[Tensor, Tensor]:
    """Return equation 2 on the cosines times `gain`; and how often the key of the same speed is the nearer key."""
    ahead_B = cosine(m_BD, near_BD) - cosine(m_BD, far_BD)
    return F.relu(margin - gain * ahead_B).mean(), (ahead_B > 0).float().mean()


def absolute_speed(logit_B: Tensor, fast_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return SP of Table 1, the cross-entropy of each clip's speed; and how often the prediction is correct."""
    correct = ((logit_B > 0) == fast_B).float().mean()
    return F.binary_cross_entropy_with_logits(logit_B, fast_B.to(logit_B.dtype)), correct


METHOD = MethodEntry(
    summary="RSPNet: relative speed and video discrimination.",
    module=RSPNet,
    config=Config,
    main="rspnet-r2plus1d-k400",
    protocol="rspnet",
)
