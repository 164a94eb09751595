"""A recipe: everything that decides what a training comes to, in one frozen value.

`batch` is clips of a step over all processes; what one process takes at a time is derived here and nowhere else.
"""

from dataclasses import dataclass, field, replace
from math import ceil
from typing import Literal

from vprep.errors import UsageError
from vtrain.data.dataset import By
from vtrain.methods import ascnet, pace, prp, rspnet, supervised
from vtrain.optim.optimizers import Optim
from vtrain.optim.schedule import Schedule
from vtrain.overrides import name_of

Method = rspnet.Config | ascnet.Config | prp.Config | pace.Config | supervised.Config
Setting = int | tuple[int, ...] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Which videos are trained on."""

    shards: str = "data_shards"
    split: str = "auto"  # auto: train where the set has splits, else all videos
    fold: int = 1
    subset: str | None = None  # a file of vprep subset
    hold_out: int = 0  # of these videos, kept from training and validated on
    hold_out_by: By = "video"
    on_error: Literal["raise", "skip"] = "raise"  # skip: bad videos are replaced, logged and counted
    budget: float = 0.001  # of the videos may be bad


@dataclass(frozen=True, slots=True, kw_only=True)
class Validate:
    """The method's own loss, and what it tells right, on videos that it does not learn from."""

    every: float = 0.0  # epochs; 0: never
    split: str = ""  # of the same shards; empty: what was held out
    passes: int = 1  # over these videos, each with other draws: few videos tell more when looked at more often


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Nearest neighbours of labelled videos in the backbone's features, to see whether it learns."""

    every: float = 0.0  # epochs; 0: never
    gallery: str = "train"
    queries: str = "test"
    clips: int = 2  # of each video


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    name: str
    method: Method
    backbone: str
    backbone_settings: dict[str, Setting] = field(default_factory=dict)
    data: Data = field(default_factory=Data)
    batch: int
    accumulate: int = 1  # parts in which a process takes its share of the batch
    epochs: float
    steps: int | None = None  # instead of epochs
    repeat: int = 1  # so often an epoch has each video
    optim: Optim = field(default_factory=Optim)
    schedule: Schedule
    batch_norm: Literal["own", "sync"] = "own"  # sync: over all GPUs
    precision: Literal["auto", "float32", "bf16"] = "auto"  # auto: bf16 on a GPU, float32 on a CPU
    compile: Literal["no", "yes"] = "no"
    seed: int = 0
    weights: str | None = None  # of the backbone, to begin with
    validate: Validate = field(default_factory=Validate)
    watch: Watch = field(default_factory=Watch)
    workers: int | None = None  # of the loader, for each process; None: as many as processors are left
    log_every: int = 10
    save_every: int = 500
    keep_every: int = 0  # steps of which the checkpoint is kept besides the last; 0: none

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate", "repeat", "log_every", "save_every"):
            _demand(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _demand(self.steps is None or self.steps >= 1, "steps", self.steps, "at least 1")
        _demand(0 < self.epochs <= 1e9, "epochs", self.epochs, "above 0, and at most 1e9")
        _demand(0 <= self.seed < 2**63, "seed", self.seed, "from 0 to 2**63 - 1")
        _demand(self.validate.passes >= 1, "validate.passes", self.validate.passes, "at least 1")
        _demand(self.workers is None or self.workers >= 0, "workers", self.workers, "0 or more")
        for name, value in (("validate.every", self.validate.every), ("watch.every", self.watch.every)):
            _demand(value >= 0, name, value, "0 (never) or a number of epochs")
        if self.schedule.kind == "plateau" and self.validate.every != 1:
            raise UsageError(
                f"validate.every is {self.validate.every:g} with schedule.kind=plateau, which needs a loss each epoch: "
                "set validate.every=1, and data.hold_out or validate.split"
            )
        if self.validate.every and not (self.data.hold_out or self.validate.split):
            raise UsageError("nothing to validate on: set data.hold_out or validate.split, or validate.every=0")

    @property
    def method_name(self) -> str:
        return name_of(type(self.method))

    @property
    def learns_from_labels(self) -> bool:
        return isinstance(self.method, supervised.Config)

    @property
    def clip(self) -> tuple[int, int, int]:
        """Frames, height and width of what the network sees."""
        sampling = self.method.sampling
        side = sampling.looks[0].size
        return sampling.frames, side, side

    def at_a_time(self, world: int) -> int:
        """Clips that are worked on at a time, over all processes."""
        parts = world * self.accumulate
        if self.batch % parts:
            near = self.batch // parts * parts
            choices = f"{near} or {near + parts}" if near else str(parts)
            raise UsageError(
                f"batch is {self.batch} for {world} processes x accumulate={self.accumulate}; it is divided evenly "
                f"among them: set batch={choices}, or other processes"
            )
        return self.batch // self.accumulate

    def length(self, videos: int) -> "Length":
        """For a set of so many videos."""
        per_epoch = videos * self.repeat / self.batch
        steps = self.steps if self.steps is not None else ceil(self.epochs * per_epoch - 1e-9)
        return Length(steps=max(1, steps), per_epoch=per_epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How long a training is."""

    steps: int
    per_epoch: float  # steps

    def epoch(self, step: int) -> float:
        return step / self.per_epoch

    def due(self, step: int, every: float) -> bool:
        """Whether, with this step, the next `every` epochs are over."""
        if not every:
            return False
        over = [int((at / self.per_epoch + 1e-9) / every) for at in (step - 1, step)]
        return over[1] > over[0] or step == self.steps


def for_classes(recipe: Recipe, classes: int | None) -> Recipe:
    """The same with the number of classes that the videos have, where the method learns from labels."""
    if not isinstance(recipe.method, supervised.Config) or recipe.method.classes:
        return recipe
    if not classes:
        raise UsageError("the videos have no labels, or their sets disagree on the classes; supervised needs them")
    return replace(recipe, method=replace(recipe.method, classes=classes))


def _demand(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise UsageError(f"{name} is {value}; let it be {wanted}")
