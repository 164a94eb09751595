"""A protocol: everything that a number depends on besides the weights and the videos. It travels with the number.

Those of the papers have names. What a paper does not say is marked [?] and taken from whom it follows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from vprep.errors import UsageError
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import EvenClips
from vtrain.methods import METHODS
from vtrain.overrides import change

Task = Literal["features", "testing"]
Normalise = Literal["imagenet", "unit", "bgr255", "kinetics"]
Fusion = Literal["logits", "softmax"]
Pool = Literal["gap", "spatial-max", "pool5", "p4"]

# Of each clip that is shown: what is done after that concerns only features, or only testing.
ONLY: dict[Task, tuple[str, ...]] = {"features": ("pools", "level", "gallery"), "testing": ("fusion",)}
OF_WEIGHTS = ("frames", "size", "normalise")  # that a preset takes over from the weights
DROPPED_FROM = 8  # videos of a batch of RSPNet's retrieval, whose last and partial one it leaves out


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    name: str = "own"  # of the preset it began as
    clips: int = 10
    frames: int = 16  # of a clip
    step: int = 1  # from frame to frame
    how: Literal["starts", "centres", "cover"] = "starts"  # where the clips lie, as in `EvenClips`
    short: Literal["loop", "restart", "stretch", "error"] = "loop"  # videos with fewer frames than a clip spans
    crop: Literal["centre", "three", "ten"] = "centre"
    crop_size: int | None = None  # side in stored pixels; none: the largest square
    size: int = 112  # side of what the network sees
    normalise: Normalise = "imagenet"
    fusion: Fusion = "logits"  # what is averaged over the clips and crops of a video
    pools: tuple[Pool, ...] = ("gap",)
    level: Literal["video", "clip"] = "video"  # video: the mean of its clips
    # released: random crops and flips, and without the last partial batch, as in the code of RSPNet
    gallery: Literal["all", "released"] = "all"

    def __post_init__(self) -> None:
        for name in ("clips", "frames", "step", "size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it is at least 1: write a larger one")
        if not self.pools or len(set(self.pools)) < len(self.pools):
            raise UsageError(f"pools is '{','.join(self.pools)}'; write one or more, each once")

    @property
    def clip(self) -> tuple[int, int, int]:
        """Frames, height and width of what the network sees."""
        return self.frames, self.size, self.size

    @property
    def rows(self) -> int:
        """Clips and crops of a video."""
        return self.clips * self.plan().looks[0].crops

    def plan(self, *, of_gallery: bool = False) -> EvenClips:
        """The clips of a video; those of the gallery may differ."""
        # kinetics is not known there; `Standardise` does the rest.
        seen = "unit" if self.normalise == "kinetics" else self.normalise
        look = AugmentConfig(size=self.size, crop=self.crop, crop_size=self.crop_size, flip=0.0, normalise=seen)
        if of_gallery and self.gallery == "released":
            # One crop and one flip for all clips of a video: they were one long clip there.
            look = AugmentConfig(size=self.size, crop="area", scale=(0.25, 1.0), flip=0.5, normalise=seen)
        return EvenClips(
            clips=self.clips, frames=self.frames, step=self.step, how=self.how, short=self.short, looks=(look,)
        )

    def words(self, task: Task) -> dict[str, Any]:
        """All of it that a number of such a task depends on, flat, as it goes into results."""
        said = asdict(self)
        for other, names in ONLY.items():
            if other != task:
                for name in names:
                    del said[name]
        if "pools" in said:
            said["pools"] = ",".join(self.pools)
        if said["crop_size"] is None:
            said["crop_size"] = "largest"
        return said | {"name": self._called(task)}

    def line(self, task: Task) -> str:
        """The same in a line for people."""
        spaced = "" if self.step == 1 else f", every {self.step} frames"
        square = "the largest square" if self.crop_size is None else f"{self.crop_size} pixels"
        end = f"mean of {self.fusion}"
        if task == "features":
            end = f"{' and '.join(self.pools)} of each {self.level}"
            end += ", gallery as released" if self.gallery == "released" else ""
        return (
            f"{self._called(task)}: {self.clips} clips of {self.frames} frames{spaced} ({self.how}, {self.short} if "
            f"short), {self.crop} crop of {square} at {self.size}, {self.normalise}, {end}"
        )

    def _called(self, task: Task) -> str:
        """The preset's name, if this still is the preset but for what the weights decide."""
        known = PRESETS[task].get(self.name)
        if known is None:
            return self.name
        free = {name: getattr(self, name) for name in OF_WEIGHTS}
        free["crop_size"] = self.size if known.crop_size == known.size else known.crop_size  # as `for_weights` has it
        pools = (
            self.pools if set(self.pools) <= set(known.pools) else known.pools
        )  # one of its pools alone is no change
        return self.name if self == replace(known, **free, pools=pools) else f"{self.name}, changed"


# Retrieval of RSPNet: the code takes `gap`, the paper says spatial max-pooling; both are computed.
_RSPNET = Protocol(name="rspnet", short="stretch", pools=("gap", "spatial-max"))
# ASCNet says 10 clips, evenly, and a centre crop; where they lie, the short ones [?] and the pool [?] as in RSPNet.
_ASCNET = Protocol(name="ascnet", fusion="softmax")
# VCOP: 112 of 128 x 171 stored pixels; its own code fails where a video is shorter than a clip [?].
_VCOP = Protocol(name="vcop", how="centres", crop_size=112, normalise="unit", pools=("pool5",))
_PRP = replace(_VCOP, name="prp")
# Pace says: 10 clips, evenly, centre crop, softmax; all else [?] is VCOP's, and its own loop for short videos.
_PACE = replace(_VCOP, name="pace", normalise="bgr255", short="restart", fusion="softmax")

PRESETS: dict[Task, dict[str, Protocol]] = {
    "features": {
        "rspnet": _RSPNET,
        "ascnet": _ASCNET,
        "vcop": _VCOP,
        "prp": _PRP,
        "pace-p5": replace(_PACE, name="pace-p5"),
        "pace-p4": replace(_PACE, name="pace-p4", pools=("p4",)),
    },
    "testing": {
        "rspnet": replace(_RSPNET, pools=("gap",)),
        "ascnet": _ASCNET,
        "vcop": _VCOP,
        "prp": _PRP,
        "pace": _PACE,
        # Something-Something-V2 in RSPNet: two clips, each over the whole video.
        "rspnet-ssv2": replace(_RSPNET, name="rspnet-ssv2", clips=2, how="cover", pools=("gap",)),
    },
}
# Which one weights of a method, or from an origin, are measured by; all others by DEFAULT.
_PROTOCOLS = {entry.name: entry.protocol for entry in METHODS.values() if not entry.learns_from_labels}
OF_METHOD: dict[Task, dict[str, str]] = {
    "features": {**_PROTOCOLS, "pace": "pace-p5", "vcop": "vcop"},
    "testing": {**_PROTOCOLS, "vcop": "vcop"},
}
DEFAULT = "rspnet"


def preset(task: Task, name: str) -> Protocol:
    """Return the protocol of this name for a task."""
    try:
        return PRESETS[task][name]
    except KeyError:
        raise UsageError(f"no protocol '{name}' for {task}; there are {', '.join(PRESETS[task])}") from None


def for_weights(
    task: Task,
    facts: Mapping[str, Any],
    name: str | None = None,
    words: Iterable[str] = (),
    own: Mapping[str, Any] | None = None,
) -> Protocol:
    """The protocol for weights of which `facts` tell method, clip and normalisation.

    It is preset `name`, or that of the method, or DEFAULT; then with `own`, what a fine-tuned network was trained on.
    `words` are key=value and have the last say.
    """
    begun = preset(task, name or usual(task, facts))
    told: dict[str, Any] = {"normalise": facts["normalisation"]} if facts.get("normalisation") else {}
    if facts.get("clip"):
        told |= {"frames": facts["clip"][0], "size": facts["clip"][1]}
        if begun.crop_size == begun.size:  # what is cut is not resized
            told["crop_size"] = facts["clip"][1]
    if facts.get("crop"):
        told["crop_size"] = None if facts["crop"] == "largest" else facts["crop"]
    if name is None:
        told |= own or {}
    return change(replace(begun, **told), words)


def usual(task: Task, facts: Mapping[str, Any]) -> str:
    """The preset by which weights are measured when none is named."""
    method, recipe = str(facts.get("like") or facts.get("method")), str(facts.get("recipe"))
    if recipe.startswith("finetune-"):  # as METHOD's authors fine-tune: finetune-METHOD-BACKBONE-DATA
        method = recipe.split("-")[1]
        if task == "testing" and method == "rspnet" and "ssv2" in recipe.split("-"):
            return "rspnet-ssv2"
    return OF_METHOD[task].get(method, DEFAULT)
