"""A recipe: everything that the result of a training depends on, in one frozen value.

`batch` counts the clips of a step over all processes; only this file derives how many a process takes at a time.
"""

from dataclasses import dataclass, field, fields, replace
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from vprep.errors import UsageError
from vtrain.conversion import NAME, Choice
from vtrain.data.dataset import By
from vtrain.data.stored import Stored
from vtrain.methods import registry
from vtrain.methods.method import MethodConfig
from vtrain.optim.config import Optim
from vtrain.optim.schedule import Schedule
from vtrain.overrides import from_json
from vtrain.run_folder import read_json
from vtrain.setting_limits import FRACTION, NOT_NEGATIVE, WHOLE, check_limits

Setting = int | tuple[int, ...] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The videos to train on."""

    shards: str = "data_shards"
    split: str = "auto"  # auto: train where the set has splits, else all videos
    fold: int = 1
    subset: str | None = None  # a file of vprep subset
    hold_out: int = 0  # videos that are kept from training and validated on
    hold_out_by: By = "video"
    on_error: Literal["raise", "skip"] = "raise"  # skip: bad videos are replaced, logged and counted
    budget: float = 0.001  # share of the videos that may be bad

    def __post_init__(self) -> None:
        if self.split.lower() in ("null", "none"):
            raise UsageError(
                f"data.split is '{self.split}'; write data.split=all for all videos, or data.split=auto for the train "
                "split of a set that has one"
            )
        check_limits(self, {"fold": (1, 3), "hold_out": NOT_NEGATIVE, "budget": FRACTION})


@dataclass(frozen=True, slots=True, kw_only=True)
class Validate:
    """The method's own loss and accuracy on videos that it does not learn from."""

    every: float = 0.0  # epochs; 0: never
    split: str = ""  # of the same shards; empty: the videos that are held out
    passes: int = 1  # over these videos, each with new random clips, which measures a few videos more exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Nearest neighbours of labelled videos in the backbone's features, to see whether the backbone learns."""

    every: float = 0.0  # epochs; 0: never
    gallery: str = "train"
    queries: str = "test"
    clips: int = 2  # of each video

    def __post_init__(self) -> None:
        check_limits(self, {"clips": WHOLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """A length that a run had before it was changed: its schedules were for `steps` in all steps before `until`."""

    until: int
    steps: int

    def __post_init__(self) -> None:
        for name in ("until", "steps"):
            _demand(getattr(self, name) >= 1, f"earlier_lengths.{name}", getattr(self, name), "at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    name: str
    method: Annotated[MethodConfig, Choice(registry.configs)]
    backbone: str
    backbone_settings: dict[str, Setting] = field(default_factory=dict)
    data: Data = field(default_factory=Data)
    stored: Stored = field(default_factory=Stored)  # the set that the authors had; a training says what differs
    batch: int
    accumulate: int = 1  # parts into which a process divides its share of the batch
    epochs: float
    steps: int | None = None  # instead of epochs
    earlier_lengths: tuple[Earlier, ...] = ()  # of a run whose length was changed when it was resumed
    repeat: int = 1  # times that an epoch shows each video
    optim: Optim = field(default_factory=Optim)
    schedule: Schedule
    batch_norm: Literal["own", "sync"] = "own"  # sync: statistics over all processes
    precision: Literal["auto", "float32", "bf16"] = "auto"  # auto: bf16 on a GPU, float32 on a CPU
    compile: Literal["no", "yes"] = "no"
    seed: int = 0
    weights: str | None = None  # run or file with initial weights of the backbone
    validate: Validate = field(default_factory=Validate)
    watch: Watch = field(default_factory=Watch)
    workers: int | None = None  # of each process's loader; None: as many as processors are left
    log_every: int = 10
    save_every: int = 500  # steps
    save_minutes: float = 10.0  # also after so much time, and once in the first minute; 0: by steps alone
    keep: Literal["last", "best"] = "last"  # best: also the state of the best epoch, whose weights are evaluated
    best_by: Literal["held_out_loss", "loss"] = "held_out_loss"  # the lowest is best; loss: mean of a whole epoch
    keep_every: int = 0  # steps after which the checkpoint is also kept in kept/; 0: never

    def __post_init__(self) -> None:
        check_limits(self, dict.fromkeys(("batch", "accumulate", "repeat", "log_every", "save_every"), WHOLE))
        _demand(self.keep_every >= 0, "keep_every", self.keep_every, "0 (never) or a number of steps")
        _demand(self.steps is None or self.steps >= 1, "steps", self.steps, "at least 1")
        _demand(0 <= self.save_minutes <= 1e6, "save_minutes", self.save_minutes, "0 (never) to 1e6")
        _demand(0 < self.epochs <= 1e9, "epochs", self.epochs, "above 0, and at most 1e9")
        _demand(0 <= self.seed < 2**63, "seed", self.seed, "from 0 to 2**63 - 1")
        _demand(self.validate.passes >= 1, "validate.passes", self.validate.passes, "at least 1")
        _demand(self.workers is None or self.workers >= 0, "workers", self.workers, "0 or more")
        for name, value in (("validate.every", self.validate.every), ("watch.every", self.watch.every)):
            _demand(value >= 0, name, value, "0 (never) or a number of epochs")
        _demand_validation(self)

    @property
    def method_name(self) -> str:
        return self.method.NAME

    @property
    def learns_from_labels(self) -> bool:
        return registry.entry(self.method_name).learns_from_labels

    @property
    def best_metric(self) -> str:
        """The number in metrics.jsonl whose lowest value makes an epoch the best; empty where none is kept."""
        return "" if self.keep == "last" else {"held_out_loss": "held_out_loss", "loss": "epoch_loss"}[self.best_by]

    @property
    def clip(self) -> tuple[int, int, int]:
        """Frames, height and width of the clips that the network sees."""
        sampling = self.method.sampling
        side = sampling.looks[0].size
        return sampling.frames, side, side

    def at_a_time(self, world: int) -> int:
        """Return the clips of one forward pass, over all processes."""
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
        """Return how long a training on that many videos is."""
        per_epoch = videos * self.repeat / self.batch
        steps = self.steps if self.steps is not None else ceil(self.epochs * per_epoch - 1e-9)
        return Length(steps=max(1, steps), per_epoch=per_epoch, earlier=self.earlier_lengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """The length of a training."""

    steps: int
    per_epoch: float  # steps
    earlier: tuple[Earlier, ...] = ()

    def planned(self, step: int) -> int:
        """Return the number of steps for which the schedules of this step are made."""
        return next((length.steps for length in self.earlier if step < length.until), self.steps)

    def is_end(self, step: int) -> bool:
        """Return whether this step ends the training, or ended it before it was lengthened."""
        return step == self.steps or any(step == length.until == length.steps for length in self.earlier)

    def epoch(self, step: int) -> float:
        return step / self.per_epoch

    def ends(self, step: int, every: float = 1.0) -> bool:
        """Return whether this step ends a period of `every` epochs."""
        over = [int((at / self.per_epoch + 1e-9) / every) for at in (step - 1, step)]
        return over[1] > over[0]

    def due(self, step: int, every: float) -> bool:
        """Return whether this step ends a period of `every` epochs, or the training."""
        return bool(every) and (self.ends(step, every) or self.is_end(step))


def for_classes(recipe: Recipe, classes: int | None) -> Recipe:
    """Return the recipe with the videos' number of classes, where its method learns from labels and names none."""
    method = cast(Any, recipe.method)
    if not recipe.learns_from_labels or getattr(method, "classes", None):
        return recipe
    if not classes:
        raise UsageError(
            f"the videos have no labels, or their sets disagree on the classes; {recipe.method_name} needs them"
        )
    has_setting = "classes" in {setting.name for setting in fields(method)}
    return replace(recipe, method=replace(method, classes=classes)) if has_setting else recipe


def read_recipe(path: Path, command: str) -> Recipe:
    """Return the recipe in a file. `command` is what the user would write after `vtrain` for a method MODULE:NAME."""
    found = read_json(path)
    method = found.get("method") if isinstance(found, dict) else None
    registry.demand_known(method.get(NAME) if isinstance(method, dict) else None, path, command)
    try:
        return from_json(Recipe, found)
    except UsageError as error:
        raise UsageError(f"{path} is no recipe: {error}") from None


def _demand_validation(recipe: Recipe) -> None:
    """Refuse settings that need a validation that the recipe does not have; name all that has to change at once."""
    every, on_something = recipe.validate.every, bool(recipe.data.hold_out or recipe.validate.split)
    plateau = recipe.schedule.kind == "plateau"
    best = recipe.keep == "best" and recipe.best_by == "held_out_loss"
    if on_something and (every == 1 or not plateau) and (every or not best):
        return
    if not (every or plateau or best):
        return
    needing = [f"validate.every={every:g}"] if every and not on_something else []
    needing += ["schedule.kind=plateau"] if plateau else []
    needing += ["keep=best with best_by=held_out_loss"] if best else []
    without = [*(["validate.every=0"] if every else []), *(["schedule.kind=constant"] if plateau else [])]
    without += ["keep=last"] if best else []
    missing = [] if on_something else ["data.hold_out=N or validate.split=SPLIT"]
    missing += ["validate.every=1"] if every != 1 and (plateau or not every) else []
    there = f"validate.every is {every:g}" if on_something else "data.hold_out is 0 and validate.split is empty"
    what = "a loss each epoch" if plateau else "videos to validate on"
    raise UsageError(
        f"{there}, but {' and '.join(needing)} must have {what}: set {' and '.join(missing)}; "
        f"or set {', '.join(without)}"
    )


def _demand(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise UsageError(f"{name} is {value}; it must be {wanted}")
