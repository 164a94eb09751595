"""What may be done to how a clip looks, and what is done to one clip: numbers drawn in a worker, without torch.

The same `random.Random` gives the same numbers, so a sample looks the same with 1 or 16 workers. The device only
applies them (`augment.py`).

`AugmentConfig.draw` returns these parameters for one clip, or for several clips that must look alike. `stack` makes
arrays of them (K boxes, F = 1 or one a frame):
    box           float32 [K, 4]  top, left, height, width in stored pixels, whole numbers
    flip          bool    [K]
    grey          bool    []
    jitter        float32 [F, 4]  factors of brightness, contrast and saturation, shift of the hue in turns
    jitter_order  uint8   [F, 4]  in which order these four come
    sigma         float32 []      of the blur in pixels of the network's input; 0: none
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
CROPS = {"three": 3, "ten": 10}  # all others give one
THIRDS = (0.0, 0.5, 1.0)  # where the boxes of "three" lie on their way along the longer side
TRIES = 10  # of an area crop, before it falls back to the centre
PERMUTATIONS = tuple(permutations(range(4)))
IDENTITY = (1.0, 1.0, 1.0, 0.0)  # factors of a jitter that changes nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """What may be done to a clip; chances are of a clip, and each sample draws its own."""

    size: int = 112  # side of the square that the network sees
    crop: Crop = "area"
    crop_size: int | None = None  # side in stored pixels for all but "area"; None: the largest square
    scale: tuple[float, float] = (0.4, 1.0)  # of "area": its share of the frame
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # of "area": width to height
    flip: float = 0.5  # "ten" shows every box both ways, whatever this is
    jitter: tuple[float, float, float, float] = (0, 0, 0, 0)  # strengths: brightness, contrast, saturation, hue
    jitter_chance: float = 1.0
    jitter_per: Per = "clip"  # Pace jitters each frame on its own
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_kernel: int = 11
    solarise: float = 0.0
    solarise_threshold: float = 0.5  # as a share of white
    order: tuple[str, ...] = OPS
    normalise: Normalise = "imagenet"

    def __post_init__(self) -> None:
        _check_words(self)
        _check_numbers(self)
        _check_pairs(self)

    @property
    def crops(self) -> int:
        """How many boxes are cut from a clip."""
        return CROPS.get(self.crop, 1)

    def draw(self, rng: Random, height: int, width: int, frames: int) -> DrawnParameters:
        """The numbers for a clip of frames of height x width stored pixels."""
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
        """Height and width of the box if every draw gives one of that size, so that a worker may cut it itself."""
        if self.crop not in ("random", "centre"):
            return None
        side = self._side(height, width)
        return side, side

    def _side(self, height: int, width: int) -> int:
        return min(self.crop_size or height, height, width)

    def _boxes(self, rng: Random, height: int, width: int) -> list[Box]:
        if self.crop == "area":
            return [self._area(rng, height, width)]
        side = self._side(height, width)
        down, right = height - side, width - side  # how far a box can move
        if self.crop == "random":
            corners = [(int(rng.random() * (down + 1)), int(rng.random() * (right + 1)))]
        elif self.crop == "centre":
            corners = [(round(down / 2), round(right / 2))]
        elif self.crop == "three" and right >= down:
            corners = [(round(down / 2), round(right * at)) for at in THIRDS]
        elif self.crop == "three":
            corners = [(round(down * at), round(right / 2)) for at in THIRDS]
        else:
            corners = [(0, 0), (0, right), (down, 0), (down, right), (round(down / 2), round(right / 2))] * 2
        return [(top, left, side, side) for top, left in corners]

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


def stack(draws: Sequence[Sequence[DrawnParameters]]) -> dict[str, Array]:
    """The draws of a batch, [B samples][N views], as arrays that begin with [B, N]."""
    return {name: np.array([[view[name] for view in sample] for sample in draws], kind) for name, kind in KINDS.items()}


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise UsageError(otherwise)


def _check_words(look: AugmentConfig) -> None:
    for name, kind in (("crop", Crop), ("jitter_per", Per), ("normalise", Normalise)):
        value, known = getattr(look, name), get_args(kind)
        _demand(value in known, f"{name} is '{value}'; it is one of {', '.join(known)}: write one of these")
    said = ", ".join(look.order)
    _demand(
        sorted(look.order) == sorted(OPS),
        f"order is '{said}'; each of {', '.join(OPS)} comes exactly once: an op with chance 0 stays in it, unused",
    )


def _check_numbers(look: AugmentConfig) -> None:
    for name in ("size", "crop_size"):
        value = getattr(look, name)
        _demand(value is None or value >= 1, f"{name} is {value}; a side has at least 1 pixel: write a larger one")
    _demand(
        look.crop != "area" or look.crop_size is None,
        f"crop_size is {look.crop_size} with crop 'area', which draws its own sizes: leave crop_size out, or set scale",
    )
    for name in ("flip", "jitter_chance", "grey", "blur", "solarise", "solarise_threshold"):
        value = getattr(look, name)
        _demand(0 <= value <= 1, f"{name} is {value}; it is a share from 0 to 1: write one of these")
    kernel, most = look.blur_kernel, 2 * look.size - 1
    _demand(
        kernel % 2 == 1 and 1 <= kernel <= most,
        f"blur_kernel is {kernel}; it is odd and from 1 to {most}, twice the size less one: write such a number",
    )


def _check_pairs(look: AugmentConfig) -> None:
    for name, bound, most in (("scale", " up to 1", 1.0), ("ratio", "", np.inf), ("blur_sigma", "", np.inf)):
        pair = tuple(getattr(look, name))
        _demand(
            len(pair) == 2 and 0 < pair[0] <= pair[1] <= most,
            f"{name} is {pair}; it is two numbers above 0{bound}, the smaller one first: write such a pair",
        )
    strengths = tuple(look.jitter)
    _demand(
        len(strengths) == 4 and min(strengths) >= 0 and strengths[3] <= 0.5,
        f"jitter is {strengths}; it is four strengths from 0 (brightness, contrast, saturation, hue), "
        "that of the hue up to 0.5: write four such numbers",
    )
