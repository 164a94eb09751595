"""The learning rate: a pure function of the step, so that a checkpoint need not hold it.

`step` counts the optimiser's steps from 0; `lr_at` tells the learning rate that this step is taken with.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, floor, inf, pi
from typing import Literal

from vprep.errors import UsageError

Kind = Literal["constant", "cosine", "step", "plateau"]
Scaling = Literal["none", "linear 64", "linear 128"]

# The global batch that a learning rate is meant for: RSPNet's code has 0.1 * batch / 64, ASCNet's text 0.3 * b / 128.
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
    """The learning rate for `batch` clips per step over all ranks."""
    reference = REFERENCE[rule]
    return base if reference is None else base * batch / reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What the learning rate is at first, and how it changes.

    constant  it does not
    cosine    half a cosine from `lr` to `lr * floor`
    step      times `gamma` at each of `milestones`
    plateau   times `gamma` when the validation loss has not fallen in more than `patience` epochs

    What a kind has no use for is ignored. `warmup` goes with any of them; a cosine begins where it ends. Epochs are
    counted from the beginning of the training, warm-up included.
    """

    kind: Kind = "cosine"
    lr: float
    scaling: Scaling = "none"
    warmup: float = 0.0  # epochs, in which the learning rate rises from step to step
    floor: float = 0.0  # of `lr`: RSPNet 0.001, ASCNet 0 and 0.01 in fine-tuning
    per: Literal["step", "epoch"] = "step"  # how often a cosine goes down; in RSPNet's code once per epoch
    milestones: tuple[int, ...] = ()  # whole epochs after which it goes down
    gamma: float = 0.1
    patience: int = 50  # epochs
    lowest: float = 1e-7  # no plateau brings the learning rate below it

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                wanted = f"at least {low}" if high == inf else f"from {low} to {high}"
                raise UsageError(f"{name} of the schedule is {value}; let it be {wanted}")

    def at_batch(self, batch: int) -> "Schedule":
        """The same for a known batch: `lr` is what the optimiser is given."""
        return replace(self, lr=scaled(self.lr, self.scaling, batch), scaling="none")

    def lr_at(
        self, step: int, steps_per_epoch: float, total_steps: int, validation_losses: Sequence[float] = ()
    ) -> float:
        """For parameters whose factor is 1; `validation_losses` are those so far, one for each epoch."""
        if self.scaling != "none":
            raise ValueError(f"scaling is '{self.scaling}', and the batch is not known; call at_batch first")
        # 9 steps are 7 epochs of 9/7 steps, though 9 / (9 / 7) is 6.999999999999999.
        epoch = floor(step / steps_per_epoch + 1e-9)
        rising = self.warmup * steps_per_epoch
        # BYOL's code begins with 0, and so with a step that changes nothing. Here it is one step ahead of that.
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

    def _cosine(self, done: float, whole: float) -> float:
        # A training may end before its warm-up does: there is no way down then.
        progress = min(1.0, max(0.0, done / whole)) if whole > 0 else 0.0
        return self.floor + (1 - self.floor) * (1 + cos(pi * progress)) / 2

    def _plateau(self, losses: Sequence[float]) -> float:
        """What torch's ReduceLROnPlateau, which PRP's code uses, comes to after these losses."""
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
