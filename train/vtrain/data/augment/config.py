"""How clips are augmented (`AugmentConfig`), and the parameters drawn for each clip, in a worker and without torch.

The same `random.Random` draws the same parameters, so a sample is the same with 1 worker or 16. The device only applies
them (`apply.py`).

`AugmentConfig.draw` returns the parameters of one clip, or of several clips that must be augmented alike. `stack` makes
arrays of them (K boxes; F = 1, or one for each frame):
    box           float32 [K, 4]  top, left, height, width in stored pixels, whole numbers
    flip          bool    [K]
    grey          bool    []
    jitter        float32 [F, 4]  factors of brightness, contrast and saturation, shift of the hue in turns
    jitter_order  uint8   [F, 4]  the order of these four
    sigma         float32 []      of the blur, in pixels of the network's input; 0: no blur
    solarise      bool    []
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import exp, log, sqrt
from random import Random
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from vprep.errors import UsageError
from vtrain.conversion import SettingError, shown

Array = npt.NDArray[Any]
DrawnParameters = dict[str, Any]
Box = tuple[int, int, int, int]  # top, left, height, width

Crop = Literal["area", "random", "centre", "three", "ten"]
Per = Literal["clip", "frame"]
Normalise = Literal["imagenet", "unit", "bgr255"]
OPS = ("grey", "jitter", "blur", "solarise", "flip")

KINDS: dict[str, npt.DTypeLike] = {
    "box": np.float32,
    "flip": np.bool_,
    "grey": np.bool_,
    "jitter": np.float32,
    "jitter_order": np.uint8,
    "sigma": np.float32,
    "solarise": np.bool_,
}
CROPS = {"three": 3, "ten": 10}  # boxes of a clip; other crops have one
TRIES = 10  # to draw an area crop, before it becomes the largest box in the centre
PERMUTATIONS = tuple(permutations(range(4)))
IDENTITY = (1.0, 1.0, 1.0, 0.0)  # the jitter that changes nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """How clips are augmented. A chance applies to each clip, and each sample draws its own parameters."""

    size: int = 112  # side of the square that the network gets, in pixels
    crop: Crop = "area"
    crop_size: int | None = None  # side of the box in stored pixels, except for "area"; None: the largest square
    scale: tuple[float, float] = (0.4, 1.0)  # "area": least and greatest share of the frame
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # "area": least and greatest width / height
    flip: float = 0.5  # chance; "ten" always has each box both ways
    jitter: tuple[float, float, float, float] = (0, 0, 0, 0)  # strengths of brightness, contrast, saturation, hue
    jitter_chance: float = 1.0
    jitter_per: Per = "clip"  # what shares its factors; Pace draws them for each frame
    grey: float = 0.0  # chance
    blur: float = 0.0  # chance
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # least and greatest, in pixels
    blur_kernel: int = 11  # width in pixels
    solarise: float = 0.0  # chance
    solarise_threshold: float = 0.5  # share of white from which pixels are inverted
    order: tuple[str, ...] = OPS
    normalise: Normalise = "imagenet"

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_numbers(self)
        _check_pairs(self)

    @property
    def crops(self) -> int:
        """The number of boxes that are cut out of a clip."""
        return CROPS.get(self.crop, 1)

    def draw(self, rng: Random, height: int, width: int, frames: int) -> DrawnParameters:
        """Draw the parameters for a clip of `frames` frames of `height` x `width` stored pixels."""
        boxes = self._boxes(rng, height, width)
        flips = self._flips(rng)
        grey = rng.random() < self.grey
        jitters = [self._jitter(rng) for _ in range(frames if self.jitter_per == "frame" else 1)]
        low, high = self.blur_sigma
        sigma = low + (high - low) * rng.random() if rng.random() < self.blur else 0.0
        return {
            "box": boxes,
            "flip": flips,
            "grey": grey,
            "jitter": [factors for factors, _ in jitters],
            "jitter_order": [order for _, order in jitters],
            "sigma": sigma,
            "solarise": rng.random() < self.solarise,
        }

    def fixed_box(self, height: int, width: int) -> tuple[int, int] | None:
        """Return height and width of the box if these do not vary, so that a worker can cut it out; else None."""
        if self.crop not in ("random", "centre"):
            return None
        side = self._side(height, width)
        return side, side

    def distinct(self, height: int, width: int) -> int:
        """Return how many of the crops of "three" and "ten" differ, flips included, in frames of this size."""
        rng = Random(0)
        return len(set(zip(self._boxes(rng, height, width), self._flips(rng), strict=True)))

    def _side(self, height: int, width: int) -> int:
        return min(self.crop_size or height, height, width)

    def _boxes(self, rng: Random, height: int, width: int) -> list[Box]:
        if self.crop == "area":
            return [self._area(rng, height, width)]
        side = self._side(height, width)
        down, right = height - side, width - side  # how far a box can move
        if self.crop == "random":
            corners = [(int(rng.random() * (down + 1)), int(rng.random() * (right + 1)))]
        else:
            corners = self._fixed_corners(down, right)
        return [(top, left, side, side) for top, left in corners]

    def _fixed_corners(self, down: int, right: int) -> list[tuple[int, int]]:
        """Return the upper left corners of the boxes of "centre", "three" or "ten"."""
        top, left = self._middle(down), self._middle(right)
        if self.crop == "centre":
            return [(top, left)]
        if self.crop == "three":
            return [(top, 0), (top, left), (top, right)] if right >= down else [(0, left), (top, left), (down, left)]
        return [(0, 0), (0, right), (down, 0), (down, right), (top, left)] * 2

    def _middle(self, space: int) -> int:
        """Return where the middle box begins: as RSPNet cuts the largest square, or as torchvision cuts any other."""
        return space // 2 if self.crop_size is None else round(space / 2)

    def _area(self, rng: Random, height: int, width: int) -> Box:
        (least, most), (low, high) = self.scale, (log(self.ratio[0]), log(self.ratio[1]))
        for _ in range(TRIES):
            area = height * width * (least + (most - least) * rng.random())
            ratio = exp(low + (high - low) * rng.random())
            h, w = round(sqrt(area / ratio)), round(sqrt(area * ratio))
            if 0 < h <= height and 0 < w <= width:
                return int(rng.random() * (height - h + 1)), int(rng.random() * (width - w + 1)), h, w
        h = min(height, max(1, round(width / self.ratio[0])))
        w = min(width, max(1, round(height * self.ratio[1])))
        return (height - h) // 2, (width - w) // 2, h, w

    def _flips(self, rng: Random) -> list[bool]:
        if self.crop == "ten":
            return [False] * 5 + [True] * 5
        return [rng.random() < self.flip] * self.crops

    def _jitter(self, rng: Random) -> tuple[list[float], tuple[int, ...]]:
        order = PERMUTATIONS[int(rng.random() * len(PERMUTATIONS))]
        factors = list(IDENTITY)
        if any(self.jitter) and rng.random() < self.jitter_chance:
            for at, strength in enumerate(self.jitter[:3]):
                if strength:
                    low = max(0.0, 1 - strength)
                    factors[at] = low + (1 + strength - low) * rng.random()
            factors[3] = self.jitter[3] * (2 * rng.random() - 1)
        return factors, order


def demand_distinct(config: AugmentConfig, sizes: Sequence[tuple[int, int]]) -> None:
    """Refuse "ten" where some of its crops coincide in frames of one of these sizes, and "three" where in all."""
    if config.crop not in CROPS:
        return
    same = [size for size in sizes if config.distinct(*size) < config.crops]
    if not same or (config.crop == "three" and len(same) < len(sizes)):
        return
    height, width = same[0]
    shorter, side, given = min(height, width), config.crop_size or config.size, config.distinct(height, width)
    larger = f", or crop_size={side} for frames of vprep shard --short-side {side * 8 // 7}" if side >= shorter else ""
    raise UsageError(
        f"crop is '{config.crop}', which is {config.crops} different crops, but frames of {height} x {width} pixels "
        f"give only {given}; set crop_size={shorter * 7 // 8}{larger}"
    )


def stack(parameters: Sequence[Sequence[DrawnParameters]]) -> dict[str, Array]:
    """Return the parameters of a batch, [B samples][N views], as arrays of shape [B, N, ...]."""
    return {
        name: np.array([[view[name] for view in sample] for sample in parameters], kind) for name, kind in KINDS.items()
    }


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SettingError(message)


def _check_choices(config: AugmentConfig) -> None:
    for name, kind in (("crop", Crop), ("jitter_per", Per), ("normalise", Normalise)):
        value, known = getattr(config, name), get_args(kind)
        _require(value in known, f"{name} is '{value}'; write one of {', '.join(known)}")
    order = shown(config.order)
    _require(
        sorted(config.order) == sorted(OPS),
        f"order is '{order}'; write each of {', '.join(OPS)} exactly once, also those with chance 0",
    )


def _check_numbers(config: AugmentConfig) -> None:
    for name in ("size", "crop_size"):
        value = getattr(config, name)
        _require(value is None or value >= 1, f"{name} is {value}; it must be at least 1 pixel")
    _require(
        config.crop != "area" or config.crop_size is None,
        f"crop_size is {config.crop_size} with crop 'area', which draws its sizes by scale: leave crop_size out",
    )
    for name in ("flip", "jitter_chance", "grey", "blur", "solarise", "solarise_threshold"):
        value = getattr(config, name)
        _require(0 <= value <= 1, f"{name} is {value}; it must be from 0 to 1")
    kernel, most = config.blur_kernel, 2 * config.size - 1
    _require(
        kernel % 2 == 1 and 1 <= kernel <= most,
        f"blur_kernel is {kernel}; it must be odd, and from 1 to {most}, which is 2 x size - 1",
    )


def _check_pairs(config: AugmentConfig) -> None:
    for name, bound, most in (("scale", " up to 1", 1.0), ("ratio", "", np.inf), ("blur_sigma", "", np.inf)):
        pair = tuple(getattr(config, name))
        _require(
            len(pair) == 2 and 0 < pair[0] <= pair[1] <= most,
            f"{name} is {pair}; it must be two numbers above 0{bound}, the smaller first",
        )
    strengths = tuple(config.jitter)
    _require(
        len(strengths) == 4 and min(strengths) >= 0 and strengths[3] <= 0.5,
        f"jitter is {strengths}; it must be four strengths from 0 on, of brightness, contrast, saturation and hue, "
        "the last one up to 0.5",
    )
