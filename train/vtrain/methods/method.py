"""What the trainer asks of a method; it never asks which one runs.

A method's file has a `Config`, a frozen dataclass that holds every choice and makes the `plan` of its clips, and a
module that is built from a backbone and a config.
"""

from typing import Protocol

from torch import Tensor

from vtrain.backbones import Backbone
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import Plan


class Sampling(Protocol):
    """How a method's clips are taken; `frames` is what the network sees of one."""

    @property
    def frames(self) -> int: ...
    @property
    def looks(self) -> tuple[AugmentConfig, ...]: ...


class Config(Protocol):
    """All choices of a method."""

    @property
    def sampling(self) -> Sampling: ...
    def plan(self) -> Plan: ...


class Method(Protocol):
    """A module; `backbone` is what is kept of it.

    Where `lr_factors` is there, it tells by how much the learning rate of parameters is multiplied; its keys are the
    beginnings of their names.
    """

    backbone: Backbone

    def __call__(self, clips_BNCTHW: Tensor, facts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Numbers without dimensions; "loss" is learned from, all others are logged.

        `facts` has the plan's targets and, of each video, `row` (its number), `label` (-1: none), `valid` and, of
        each view, `speed`. Clips and facts of different ranks are different; losses are means over the own rank.
        """
        ...

    def after_step(self, progress: float) -> None:
        """After the optimiser's step; `progress` goes from 0 to 1 over the whole training."""
        ...
