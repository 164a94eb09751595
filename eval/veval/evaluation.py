"""The inputs of a command: a network, videos, the protocol, and how the work is executed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from veval.protocol import Protocol, Task
from veval.results.check import OF_TENSORS
from vtrain.data.dataset import Videos
from vtrain.data.shard_set import ShardSet

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vtrain.backbones import Backbone
    from vtrain.data.chunks import OnError
    from vtrain.inference import Precision

KEPT = ("kept", "kept_step")  # only in results about the weights of a best epoch
RANDOM = "random"  # the path of a network without training

Info = dict[str, Any]  # JSON in the form of results and feature files
# Called with the number of finished videos, and of all videos of this process; or of queries, or linear layers.
Progress = Callable[[int, int], None]


def nothing(done: int, videos: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsInfo:
    """The description of weights in results. None: not known."""

    path: str
    hash: str
    hash_of: str = OF_TENSORS  # results of version 0.1 lack it, and their hash is of the file
    method: str | None = None  # the method that trained them, or the origin of imported weights
    recipe: str | None = None
    backbone: str
    settings: dict[str, Any] = field(default_factory=dict)  # of the backbone
    dim: int
    step: int | None = None  # number of steps of the training
    epochs: float | None = None  # of the training
    kept: str | None = None  # the number by which these are the weights of the training's best epoch; None: of the last
    kept_step: int | None = None  # of that epoch
    clip: list[int] | None = None  # frames, height and width
    seed: int | None = None
    crop: int | str | None = None  # side in stored pixels of the square that training cropped, or "largest"
    normalisation: str | None = None
    data: Any = None  # on which they were trained, according to their file
    like: str | None = None  # method of the run whose untrained network this is
    like_recipe: str | None = None  # recipe of that run
    protocol: str | None = None  # of a method from outside, from its run; results name the protocol that was used
    epoch: str = ""  # which epoch the weights are of, for the user; empty where their run keeps only the last

    @property
    def is_random(self) -> bool:
        return self.path == RANDOM

    @property
    def word(self) -> str:
        """What the user calls these weights: a path, `random`, or `random:RECIPE`."""
        return f"{self.path}:{self.like_recipe}" if self.is_random and self.like_recipe else self.path

    def as_dict(self) -> Info:
        info = asdict(self)
        left = ["protocol", "epoch", *([] if self.is_random else ["like", "like_recipe"]), *([] if self.kept else KEPT)]
        return {name: value for name, value in info.items() if name not in left}


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A backbone in eval mode, and its description in results."""

    net: "Backbone"
    info: WeightsInfo


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """A network that predicts the class of each clip, [R, C, T, S, S] -> [R, K]; K classes, by number.

    `trained_on` is how its clips were sampled and cropped in training, in the words of a protocol.
    """

    net: "nn.Module"
    info: WeightsInfo
    classes: list[str]
    trained_on: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataInfo:
    """The description of videos in results."""

    shards: str  # the SPEC
    name: str
    side: int | None  # the shortest side of the frames in pixels
    hash: str  # of the complete set
    split: str  # joined by commas
    fold: int
    subset: str | None
    videos: dict[str, int]  # number by split
    fingerprints: dict[str, str]  # by split
    classes: int | None = None  # None: the sets have different classes
    failures: int = 0  # videos of the sets that could not be used when they were made

    def as_dict(self) -> Info:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Data:
    """Videos by split, from shards that are open."""

    shards: ShardSet
    videos: Mapping[str, Videos]
    info: DataInfo

    @classmethod
    def select(
        cls, shards: ShardSet, splits: Sequence[str] | None, *, fold: int = 1, subset: Path | None = None
    ) -> "Data":
        """Select the videos of each split; without `splits`, all videos, as a split with the name "all"."""
        wanted = {"all": None} if splits is None else {split: split for split in splits}
        videos = {name: shards.select(split, subset=subset, fold=fold) for name, split in wanted.items()}
        info = DataInfo(
            shards=shards.spec,
            name=shards.name,
            side=shards.smallest_side,
            hash=shards.fingerprint,
            split=",".join(videos),
            fold=fold,
            subset=None if subset is None else str(subset),
            videos={split: len(chosen) for split, chosen in videos.items()},
            fingerprints={split: chosen.fingerprint for split, chosen in videos.items()},
            classes=next((len(chosen.classes) for chosen in videos.values() if chosen.classes is not None), None),
            failures=shards.failures,
        )
        return cls(shards=shards, videos=videos, info=info)


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How the work is done. With float32 on a CPU, results do not depend on any of it."""

    device: "torch.device | str" = "cpu"
    precision: "Precision" = "auto"
    batch: int | None = None  # videos; None: what suits the device
    workers: int = 0
    on_error: "OnError" = "raise"
    budget: float = 0.001  # share of the videos that may be unreadable when these are skipped
    rank: int | None = None  # None: from torchrun
    world: int | None = None
    patience: float = 600  # seconds without a new part, after which the other processes count as dead
    begin: Callable[[str], None] = field(default=lambda what: None)  # called with the name of the work that begins
    progress: Progress = nothing

    @property
    def rank_and_world(self) -> tuple[int, int]:
        """The number of this process, and the number of processes."""
        rank = int(environ.get("RANK", 0)) if self.rank is None else self.rank
        world = int(environ.get("WORLD_SIZE", 1)) if self.world is None else self.world
        return rank, world

    @property
    def number_format(self) -> str:
        """The format that the network computes in; it changes the last digits."""
        import torch

        from vtrain.inference import uses_bf16

        return "bf16" if uses_bf16(self.precision, torch.device(self.device)) else "float32"


Network = TypeVar("Network", Weights, Classifier)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation(Generic[Network]):
    """All inputs of a command."""

    network: Network
    data: Data
    protocol: Protocol
    execution: Execution = field(default_factory=Execution)

    def info(self, task: Task) -> Info:
        """Return everything that the numbers of `task` depend on, for results and feature files."""
        return {
            "weights": self.network.info.as_dict(),
            "protocol": self.protocol.as_dict(task),
            "data": self.data.info.as_dict(),
            "precision": self.execution.number_format,
        }
