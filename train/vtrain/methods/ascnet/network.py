"""ASCNet's online network, target network and loss. What is chosen is in the package's `Config`.

B batch, N clips, C channels, T time, H W height and width, D feature, K memory
"""

from collections.abc import Callable
from math import cos, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vprep.errors import UsageError
from vtrain.backbones import Backbone
from vtrain.data.sampling import Plan
from vtrain.methods.ascnet import Config
from vtrain.methods.ascnet.memory import Bank, fitting, memory, next_fitting
from vtrain.methods.method import Fetch
from vtrain.methods.momentum import ema_update, momentum_copy
from vtrain.methods.precision import at_least_float32

Motion = Callable[[], tuple[Tensor, Tensor]]


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
            self.memory = memory(config)
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
