"""The parts of a method. The trainer uses only these, and never asks which method it trains.

A method's file has a config, a frozen dataclass that holds every choice and makes the `plan` of its clips; a module
that is built from a backbone and a config; and a `MethodEntry` that ties them together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import Plan

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vtrain.backbones import Backbone


class Sampling(Protocol):
    """How a method's clips are taken from a video; `frames` is the length of the clip that the network sees."""

    @property
    def frames(self) -> int: ...
    @property
    def looks(self) -> tuple[AugmentConfig, ...]: ...


class MethodConfig(Protocol):
    """All choices of a method: a frozen dataclass in which every setting has a default.

    A config may have `chances`: name of an accuracy that is logged -> how often a guess is correct (`vtrain look`).
    """

    NAME: ClassVar[str]
    """The method's name, as commands and `recipe.json` write it."""

    @property
    def sampling(self) -> Sampling: ...
    def plan(self) -> Plan:
        """Return how the loader takes the clips of a video."""
        ...


class Fetching(Protocol):
    """Clips that are being read."""

    def clips(self) -> "tuple[Tensor, Tensor]":
        """Return augmented clips [B, N, C, T, H, W], and which samples [B] are valid. The host waits here."""
        ...


class Fetch(Protocol):
    """Reads clips of the training's videos that a method chooses within a step (`vtrain.data.fetch.ClipFetcher`)."""

    @property
    def videos(self) -> int:
        """The number of videos; rows are below it."""
        ...

    def __call__(self, row_B: "Tensor", speed_B: "Tensor") -> Fetching:
        """Begin to read a clip of each video `row_B`, by the method's plan `fetched[speed]`, and do not wait."""
        ...


class Method(Protocol):
    """A module that learns. Evaluation uses only its `backbone`.

    A module may have `lr_factors`: the beginning of parameters' names -> the factor of their learning rate.
    A module may have `fetched`: speed -> plan of one clip at that speed. If it is not empty, the training sets the
    module's attribute `fetch` to a `Fetch`, with which the module reads clips that it chooses within a step.
    """

    backbone: "Backbone"

    def __call__(self, clips_BNCTHW: "Tensor", targets: "dict[str, Tensor]") -> "dict[str, Tensor]":
        """Return scalars by name. The network learns from "loss"; all others are logged.

        `targets` holds the targets of the plan; for each video `row` (its number), `label` (-1: none) and `valid`;
        and for each view `speed`. Each rank has clips and targets of its own, and its losses are means over them.
        """
        ...

    def after_step(self, progress: float) -> None:
        """Update what has no gradient, after each step of the optimiser; `progress` goes from 0 to 1 in a training."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodEntry:
    """A method's entry, from which its command, recipes, benchmarks and evaluation are derived."""

    summary: str  # one line for `vtrain --help`
    module: "Callable[[Backbone, Any], nn.Module]"
    config: type[MethodConfig]
    main: str = ""  # name of the main recipe; empty: the first of `recipes`, or a default recipe when there are none
    recipes: tuple[Callable[[], object], ...] = ()  # functions that return a Recipe; only for methods from outside
    protocol: str = "vcop"  # veval's protocol for its weights, when none is named
    learns_from_labels: bool = False  # then `classes` of the config, if it has one, becomes the number of classes

    @property
    def name(self) -> str:
        return self.config.NAME
