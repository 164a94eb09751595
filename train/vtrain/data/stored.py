"""The set that a recipe was published with, and what a training says when its own set differs from it.

A difference does not stop a training. Crops may be smaller than the network's input and are then enlarged; crops of a
fixed size may show a smaller part of larger frames; people may be squeezed; and motion may have another speed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from random import Random
from typing import Literal

import numpy as np
import numpy.typing as npt

from vtrain.conversion import SettingError
from vtrain.data.augment.config import AugmentConfig

Rate = float | Literal["native"]
Numbers = npt.NDArray[np.float64]
DRAWS = 4000  # crops that are drawn to estimate a share: 0.64 is then exact to 0.015
RATE_TOLERANCE = 0.01  # 29.97 counts as 30
ASPECT_TOLERANCE = 0.05
LEAST = 0.01  # share of the videos or crops from which a difference is said


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """How the authors of a recipe stored their frames, in the words of `vprep shard`; none: it does not matter."""

    short_side: int | None = None  # in pixels, with the aspect ratio kept
    frame_size: tuple[int, int] | None = None  # height and width, for every aspect ratio
    fps: Rate | None = None  # native: each video's own rate

    def __post_init__(self) -> None:
        if self.short_side is not None and self.frame_size is not None:
            raise SettingError(f"short_side is {self.short_side} and frame_size is set, too; one of them must be none")
        if any(side < 1 for side in (1 if self.short_side is None else self.short_side, *(self.frame_size or ()))):
            raise SettingError("short_side and frame_size must be at least 1 pixel")
        if isinstance(self.fps, float) and not self.fps > 0:
            raise SettingError(f"fps is {self.fps:g}; it must be above 0, or native")

    @property
    def options(self) -> str:
        """The options of `vprep shard` that make such a set; empty where nothing matters."""
        words = [] if self.short_side is None else [f"--short-side {self.short_side}"]
        words += [] if self.frame_size is None else ["--size {}x{}".format(*self.frame_size)]
        words += [] if self.fps is None else [f"--fps {self.fps if isinstance(self.fps, str) else f'{self.fps:g}'}"]
        return " ".join(words)

    @property
    def least_side(self) -> int:
        """The shorter side of the frames; 0 where it does not matter."""
        return self.short_side or min(self.frame_size or (0,))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameInfo:
    """Size and rate of the frames of some videos, an entry for each video, and what became of their sources'."""

    height: Numbers
    width: Numbers
    fps: Numbers
    own_fps: Numbers  # of the source; as `fps` where it is not known
    stretch: Numbers  # width / height over that of the source; 1 where it is not known

    def __len__(self) -> int:
        return len(self.height)

    @property
    def shorter(self) -> Numbers:
        return np.minimum(self.height, self.width)

    @classmethod
    def joined(cls, several: Sequence["FrameInfo"]) -> "FrameInfo":
        """Return the entries of several sets as one."""
        return cls(**{each.name: np.concatenate([getattr(one, each.name) for one in several]) for each in fields(cls)})


def difference_note(stored: Stored, looks: Sequence[AugmentConfig], info: FrameInfo) -> str:
    """Return how these videos differ from the recipe's, in two sentences; empty where they fit."""
    if not stored.options or not len(info):
        return ""
    found = [_enlarged(stored, looks, info), _cut(stored, looks, info), _squeezed(stored, info), _rates(stored, info)]
    said = [text for text in found if text]
    if not said:
        return ""
    listed = said[0] if len(said) == 1 else f"{', '.join(said[:-1])}, and {said[-1]}"
    return f"In this set {listed}. This recipe expects a set made with: vprep shard VIDEOS {stored.options} --out DIR"


def enlarged_share(looks: Sequence[AugmentConfig], info: FrameInfo, draws: int = DRAWS) -> float:
    """Return the share of the recipe's crops with a side below the network's input, from a draw with a fixed seed."""
    rng = Random(0)
    below = 0
    for number in range(draws):
        look, row = looks[number % len(looks)], rng.randrange(len(info))
        _, _, height, width = look.draw(rng, int(info.height[row]), int(info.width[row]), 1)["box"][0]
        below += min(height, width) < look.size
    return below / draws


def _enlarged(stored: Stored, looks: Sequence[AugmentConfig], info: FrameInfo) -> str:
    """Return that crops are enlarged, where frames are smaller than those of the authors."""
    if np.mean(info.shorter < stored.least_side) < LEAST:
        return ""
    share, sizes = enlarged_share(looks, info), sorted({look.size for look in looks})
    if share < LEAST:
        return ""
    return f"{share:.0%} of the crops are smaller than {' or '.join(map(str, sizes))} pixels and are enlarged"


def _cut(stored: Stored, looks: Sequence[AugmentConfig], info: FrameInfo) -> str:
    """Return that crops of a fixed size show less of a frame, where frames are larger than those of the authors."""
    side = next((look.crop_size for look in looks if look.crop_size is not None), None)
    if side is None or stored.frame_size is None:
        return ""
    height, width = stored.frame_size
    wanted = min(side, height, width) ** 2 / (height * width)
    shown = float(np.mean(np.minimum(side, info.shorter) ** 2 / (info.height * info.width)))
    return f"crops of {side} pixels show {shown:.0%} of a frame instead of {wanted:.0%}" if shown < 0.9 * wanted else ""


def _squeezed(stored: Stored, info: FrameInfo) -> str:
    """Return that the aspect ratio was changed, where the authors kept it."""
    share = np.mean(np.abs(info.stretch - 1) > ASPECT_TOLERANCE)
    if stored.short_side is None or share < LEAST:
        return ""
    return f"{share:.0%} of the videos are squeezed or stretched"


def _rates(stored: Stored, info: FrameInfo) -> str:
    """Return that videos have another frame rate than with the authors."""
    if stored.fps is None:
        return ""
    wanted = info.own_fps if isinstance(stored.fps, str) else stored.fps
    share = np.mean(np.abs(info.fps - wanted) > RATE_TOLERANCE * wanted)
    if share < LEAST:
        return ""
    other = (
        "are not stored at their own frame rate" if isinstance(wanted, np.ndarray) else f"do not have {wanted:g} fps"
    )
    return f"{share:.0%} of the videos {other}"
