"""A protocol: everything that a number depends on besides the weights and the videos. Results hold it.

`PRESETS` has the papers' protocols by name; add an entry for a new protocol. Settings that a paper does not state are
marked [?] and taken from the paper that it follows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from vprep.errors import UsageError
from vtrain.conversion import SettingError
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import EvenClips
from vtrain.methods import METHODS
from vtrain.overrides import change
from vtrain.recipes.names import split
from vtrain.setting_limits import WHOLE, check_limits

if TYPE_CHECKING:
    from veval.evaluation import WeightsInfo

Task = Literal["features", "testing"]
Normalise = Literal["imagenet", "unit", "bgr255", "kinetics"]
Fusion = Literal["logits", "softmax"]
Pool = Literal["gap", "spatial-max", "pool5", "p4"]

# Both tasks take clips in the same way. These settings are about the outputs, so only one of the tasks has them.
ONLY: dict[Task, tuple[str, ...]] = {"features": ("pools", "level", "gallery"), "testing": ("fusion",)}
OF_WEIGHTS = ("frames", "size", "crop_size", "normalise")  # settings of a preset that the weights decide
# Of the rules that place clips and crops. Results without it are of revision 1: the middle of a frame and of a video
# were rounded to even numbers, and clips of short videos were stretched or repeated frames where they loop now.
REVISION = 2
FINETUNE = "finetune-"  # the start of the names of recipes for fine-tuning
USUAL_SIDE = 128  # shortest side of the frames that fixed crops are for
RELEASED_BATCH = 8  # videos of a batch in RSPNet's code for retrieval, which leaves out the last, partial batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How clips are taken from videos, and how the network's outputs are used."""

    name: str = "own"  # of the preset that it was made from
    clips: int = 10  # per video
    frames: int = 16  # per clip
    step: int = 1  # from one frame of a clip to the next
    how: Literal["starts", "centres", "cover"] = "starts"  # where the clips lie, as in `EvenClips`
    short: Literal["loop", "restart", "stretch", "error"] = "loop"  # for videos with fewer frames than a clip spans
    crop: Literal["centre", "three", "ten"] = "centre"
    crop_size: int | None = None  # side in stored pixels; none: the largest square
    size: int = 112  # side of the network's input
    normalise: Normalise = "imagenet"
    fusion: Fusion = "logits"  # what is averaged over the clips and crops of a video
    pools: tuple[Pool, ...] = ("gap",)
    level: Literal["video", "clip"] = "video"  # video: the mean over its clips
    # released: random crops and flips, and no last partial batch, as in the code of RSPNet
    gallery: Literal["all", "released"] = "all"

    def __post_init__(self) -> None:
        check_limits(self, dict.fromkeys(("clips", "frames", "step", "size"), WHOLE))
        if self.crop_size is not None and self.crop_size < 1:
            raise SettingError(f"crop_size is {self.crop_size}; it must be at least 1, or none for the largest square")
        if not self.pools or len(set(self.pools)) < len(self.pools):
            raise SettingError(f"pools is '{','.join(self.pools)}'; write one or more pools, each once")

    @property
    def clip(self) -> tuple[int, int, int]:
        """Frames, height and width of the network's input."""
        return self.frames, self.size, self.size

    @property
    def rows(self) -> int:
        """Inputs of the network per video: its clips times their crops."""
        return self.clips * self.plan().looks[0].crops

    def plan(self, *, of_gallery: bool = False) -> EvenClips:
        """Return how the loader takes the clips of a video; the gallery may have clips of its own."""
        # The loader does not know "kinetics"; `Standardise` does the rest.
        normalise = "unit" if self.normalise == "kinetics" else self.normalise
        augment = AugmentConfig(size=self.size, crop=self.crop, crop_size=self.crop_size, flip=0.0, normalise=normalise)
        if of_gallery and self.gallery == "released":
            # All clips of a video share one crop and one flip: in that code they are a single long clip.
            augment = AugmentConfig(size=self.size, crop="area", scale=(0.25, 1.0), flip=0.5, normalise=normalise)
        return EvenClips(
            clips=self.clips, frames=self.frames, step=self.step, how=self.how, short=self.short, looks=(augment,)
        )

    def as_dict(self, task: Task) -> dict[str, Any]:
        """Return every setting that a number of `task` depends on, as flat JSON for results."""
        others = {name for other, names in ONLY.items() if other != task for name in names}
        settings = {name: value for name, value in asdict(self).items() if name not in others}
        if "pools" in settings:
            settings["pools"] = ",".join(self.pools)
        if settings["crop_size"] is None:
            settings["crop_size"] = "largest"
        return settings | {"name": self._label(task), "revision": REVISION}

    def line(self, task: Task) -> str:
        """Return the protocol as one line of text."""
        spaced = "" if self.step == 1 else f", every {self.step} frames"
        square = "the largest square" if self.crop_size is None else f"{self.crop_size} pixels"
        end = f"mean of {self.fusion}"
        if task == "features":
            end = f"{' and '.join(self.pools)} of each {self.level}"
            end += ", gallery as released" if self.gallery == "released" else ""
        return (
            f"{self._label(task)}: {self.clips} clips of {self.frames} frames{spaced} ({self.how}, {self.short} if "
            f"short), {self.crop} crop of {square} at {self.size}, {self.normalise}, {end}"
        )

    def _label(self, task: Task) -> str:
        """Return the name, with "changed" if settings differ from the preset that the weights do not decide."""
        known = PRESETS.get(self.name)
        if known is None or task not in known.tasks:
            return self.name
        of_weights = {name: getattr(self, name) for name in OF_WEIGHTS}
        return self.name_after(replace(known.protocol, **of_weights))

    def name_after(self, usual: "Protocol") -> str:
        """Return the name, with "changed" if a setting differs from `usual`; fewer pools count as no change."""
        pools = self.pools if set(self.pools) <= set(usual.pools) else usual.pools
        return self.name if self == replace(usual, name=self.name, pools=pools) else f"{self.name}, changed"


@dataclass(frozen=True, slots=True)
class Preset:
    """A protocol with a name, for one task or for both."""

    protocol: Protocol
    tasks: tuple[Task, ...] = ("features", "testing")


def _named(presets: dict[str, Preset]) -> dict[str, Preset]:
    return {name: replace(preset, protocol=replace(preset.protocol, name=name)) for name, preset in presets.items()}


# VCOP: 112 of 128 x 171 stored pixels; its own code fails where a video is shorter than a clip [?].
_VCOP = Protocol(how="centres", crop_size=112, normalise="unit", pools=("pool5",))
# Pace says: 10 clips, evenly, centre crop, softmax; the other settings [?] are VCOP's, but short videos restart.
_PACE = replace(_VCOP, normalise="bgr255", short="restart", fusion="softmax")
# Retrieval of RSPNet: the code takes `gap`, the paper says spatial max-pooling; both are computed.
_RSPNET = Protocol(short="stretch", pools=("gap", "spatial-max"))

# ASCNet says 10 clips, evenly, and a centre crop; their positions, short videos [?] and the pool [?] as RSPNet.
_ASCNET = Protocol(fusion="softmax")

# The entry of a method names the preset P for its weights; for imported weights, P is the name of their origin. If the
# task has no preset P, its first preset P-... is used; without such a preset, DEFAULT. P-DATA-BACKBONE and P-DATA test
# the networks that P's recipe for these fine-tuned.
PRESETS = _named(
    {
        "rspnet": Preset(_RSPNET),
        "ascnet": Preset(_ASCNET),
        # ASCNet's table 3. The ten are [?] those of CoCLR, which it cites for them: squares of 7/8 of the height.
        "ascnet-three": Preset(replace(_ASCNET, crop="three"), ("testing",)),
        "ascnet-ten": Preset(replace(_ASCNET, frames=32, size=128, crop="ten", crop_size=112), ("testing",)),
        "vcop": Preset(_VCOP),
        "prp": Preset(_VCOP),
        "pace": Preset(_PACE, ("testing",)),
        "pace-p5": Preset(_PACE, ("features",)),
        "pace-p4": Preset(replace(_PACE, pools=("p4",)), ("features",)),
        # The paper's p5 is "the last pooling layer": VCOP's max-pool in pace-p5, the networks' own mean here.
        "pace-p5-mean": Preset(replace(_PACE, pools=("gap",)), ("features",)),
        # Something-Something-V2 in RSPNet: two clips, each over the whole video.
        "rspnet-ssv2": Preset(replace(_RSPNET, clips=2, how="cover"), ("testing",)),
        # In RSPNet's code, the file for ResNet-18 on HMDB51 has 3 clips in its final test, the other files have 10.
        "rspnet-hmdb51-resnet3d18": Preset(replace(_RSPNET, clips=3), ("testing",)),
    }
)
DEFAULT = "rspnet"


def names_for(task: Task) -> list[str]:
    """Return the names of the presets for a task."""
    return [name for name, preset in PRESETS.items() if task in preset.tasks]


def preset(task: Task, name: str) -> Protocol:
    """Return the protocol with this name."""
    if name not in names_for(task):
        raise UsageError(f"there is no protocol '{name}' for {task}; there are {', '.join(names_for(task))}")
    return PRESETS[name].protocol


def for_weights(
    task: Task,
    weights: "WeightsInfo",
    name: str | None = None,
    words: Iterable[str] = (),
    trained_on: Mapping[str, Any] | None = None,
) -> Protocol:
    """Return the protocol for weights, with the clip and the normalisation that they expect.

    It is preset `name`; without one, the preset of their method with `trained_on`, the clips of the fine-tuning.
    `words` are key=value and override everything else.
    """
    start = preset(task, name or default_name(task, weights))
    changes: dict[str, Any] = {"normalise": weights.normalisation} if weights.normalisation else {}
    if weights.clip:
        changes |= {"frames": weights.clip[0], "size": weights.clip[1]}
        if start.crop_size == start.size:  # then the crop is not resized
            changes["crop_size"] = weights.clip[1]
    if weights.crop and start.crop != "ten":  # ten squares of the size of training may coincide
        changes["crop_size"] = None if weights.crop == "largest" else weights.crop
    if name is None:
        changes |= trained_on or {}
    usual = replace(start, **changes)
    protocol = change(usual, words)
    return replace(protocol, name=protocol.name_after(usual))


def default_name(task: Task, weights: "WeightsInfo") -> str:
    """Return the name of the preset for weights when the user names no preset."""
    method, recipe = str(weights.like or weights.method), split(str(weights.recipe))
    if recipe.start.startswith(FINETUNE):  # tested as the authors of the recipe do
        method = recipe.start.removeprefix(FINETUNE)
        own = (f"{method}-{recipe.data}-{recipe.backbone}", f"{method}-{recipe.data}")
        if task == "testing" and (name := next((name for name in own if name in PRESETS), None)):
            return name
    return usual_for(task, method, weights.protocol)


def usual_for(task: Task, method: str, outside: str | None = None) -> str:
    """Return the name of the preset for weights of a method, or from an origin.

    `outside` is the protocol that a run names; it counts only for methods from outside this package.
    """
    wanted = METHODS[method].protocol if method in METHODS else outside or method
    return next((name for name in names_for(task) if name == wanted or name.startswith(f"{wanted}-")), DEFAULT)


def crop_note(protocol: Protocol, weights: "WeightsInfo", side: int | None, before: str = "") -> str:
    """Return a sentence if a crop of fixed size, which was made for small frames, meets larger ones; "" otherwise.

    `side` is the shortest side of the frames. Crops that the weights were trained on are right as they are.
    `before` is what the command has before settings of the protocol.
    """
    size = protocol.crop_size
    from_weights = size == weights.crop and protocol.crop != "ten"
    if size is None or side is None or side <= USUAL_SIDE or from_weights:
        return ""
    return (
        f"crops of {size} pixels cover {size / side:.0%} of the shorter side of these frames, {side}, where the "
        f"protocol means {size / USUAL_SIDE:.0%} of {USUAL_SIDE}; for the same share write "
        f"{before}crop_size={round(size * side / USUAL_SIDE)}"
    )
