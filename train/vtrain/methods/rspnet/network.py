"""RSPNet's network, its momentum copy and its loss. What is chosen is in the package's `Config`.

B batch, N windows, C channels, T time, H W height and width, D feature, K queue
"""

from collections.abc import Sequence
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.backbones import Backbone
from vtrain.backbones.batch_norm import grouped, is_groupable
from vtrain.distributed import gather, own, rank, world
from vtrain.methods.momentum import Queue, ema_update, momentum_copy, unit_noise
from vtrain.methods.precision import at_least_float32
from vtrain.methods.rspnet import Config


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
        if len(clips_BCTHW) % self.groups == 0 and is_groupable(backbone, clips_BCTHW.device):
            with grouped(backbone, self.groups), grouped(heads, self.groups):
                together: tuple[Tensor, Tensor] = heads(backbone(clips_BCTHW))
            return together
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
