"""The settings of an optimiser; they are read without torch."""

from dataclasses import dataclass
from math import inf
from typing import Literal

from vtrain.setting_limits import check_limits

Name = Literal["sgd", "lars", "adamw"]
Exclude = Literal["none", "bias and norm"]

LIMITS = {"momentum": (0, 0.9999), "weight_decay": (0, inf), "eta": (0, inf)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Optim:
    """The optimiser's settings; a `Schedule` gives the learning rate."""

    name: Name = "sgd"
    momentum: float = 0.9  # AdamW's first beta; the second is 0.999
    weight_decay: float = 1e-4
    nesterov: bool = False  # with sgd only
    eta: float = 1e-3  # with lars only: length of a layer's step / length of its weights, at a learning rate of 1
    exclude: Exclude = "none"  # from weight decay and from LARS's scaling

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)
