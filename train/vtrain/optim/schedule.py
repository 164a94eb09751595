"""The learning rate: a pure function of the step, so a checkpoint need not store it.

`step` counts the optimiser's steps from 0; `lr_at` returns the learning rate of that step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, floor, inf, pi
from typing import Literal

from vtrain.setting_limits import check_limits

Kind = Literal["constant", "cosine", "step", "plateau"]
Scaling = Literal["none", "linear 64", "linear 128"]

# The global batch that `lr` is given for: RSPNet's code has 0.1 * batch / 64, ASCNet's text 0.3 * b / 128.
REFERENCE: dict[Scaling, int | None] = {"none": None, "linear 64": 64, "linear 128": 128}

LIMITS = {
    "lr": (0, inf),
    "floor": (0, 1),
    "gamma": (0, 1),
    "warmup": (0, inf),
    "patience": (0, inf),
    "lowest": (0, inf),
}


def scaled(base: float, rule: Scaling, batch: int) -> float:
    """Return the learning rate for `batch` clips per step over all ranks."""
    reference = REFERENCE[rule]
    return base if reference is None else base * batch / reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The first learning rate, and how it changes.

    constant  it stays `lr`
    cosine    it falls from `lr` to `lr * floor` along half a cosine
    step      it is multiplied by `gamma` at each of `milestones`
    plateau   it is multiplied by `gamma` when the validation loss has not fallen for more than `patience` epochs

    Settings of the other kinds are ignored. `warmup` works with every kind; a cosine starts where the warm-up ends.
    Epochs are counted from the start of the training, warm-up included.
    """

    kind: Kind = "cosine"
    lr: float
    scaling: Scaling = "none"
    warmup: float = 0.0  # epochs in which the learning rate rises linearly, step by step
    floor: float = 0.0  # last learning rate / first: RSPNet 0.001, ASCNet 0 and 0.01 in fine-tuning
    per: Literal["step", "epoch"] = "step"  # how often a cosine is updated; in RSPNet's code once per epoch
    milestones: tuple[int, ...] = ()  # numbers of epochs after which the learning rate falls
    gamma: float = 0.1
    patience: int = 50  # epochs
    lowest: float = 1e-7  # least learning rate that a plateau leads to

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)

    def at_batch(self, batch: int) -> "Schedule":
        """Return the schedule for a known batch, with `lr` scaled to it."""
        return replace(self, lr=scaled(self.lr, self.scaling, batch), scaling="none")

    def lr_at(
        self, step: int, steps_per_epoch: float, total_steps: int, validation_losses: Sequence[float] = ()
    ) -> float:
        """Return the learning rate of a step, for parameters whose factor is 1.

        `validation_losses` are the losses so far, one for each epoch; only a plateau uses them.
        """
        if self.scaling != "none":
            raise ValueError(f"scaling is '{self.scaling}', and the batch is not known; call at_batch first")
        # 9 steps are 7 epochs of 9/7 steps, though 9 / (9 / 7) is 6.999999999999999.
        epoch = floor(step / steps_per_epoch + 1e-9)
        rising = self.warmup * steps_per_epoch
        # BYOL's code starts at 0, so its first step changes nothing. This is one step ahead of it.
        risen = min(1.0, (step + 1) / rising) if rising else 1.0
        match self.kind:
            case "constant":
                return risen * self.lr
            case "cosine":
                done = epoch * steps_per_epoch if self.per == "epoch" else step
                return risen * self.lr * self._cosine(done - rising, total_steps - rising)
            case "step":
                return risen * self.lr * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
            case "plateau":
                return risen * self._plateau(validation_losses)

    def _cosine(self, done: float, total: float) -> float:
        """Return the factor after `done` of `total` steps."""
        # A training may end within its warm-up; then no step is left for the cosine.
        progress = min(1.0, max(0.0, done / total)) if total > 0 else 0.0
        return self.floor + (1 - self.floor) * (1 + cos(pi * progress)) / 2

    def _plateau(self, losses: Sequence[float]) -> float:
        """Return the learning rate of torch's ReduceLROnPlateau, which PRP's code uses, after these losses."""
        lr, best, waited = self.lr, inf, 0
        for loss in losses:
            if loss < best * (1 - 1e-4):  # torch's threshold
                best, waited = loss, 0
            else:
                waited += 1
            if waited > self.patience:
                waited = 0
                reduced = max(lr * self.gamma, self.lowest)
                lr = reduced if lr - reduced > 1e-8 else lr  # torch's eps
        return lr
