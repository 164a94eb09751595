"""The set that a recipe was published with, and what a training says when its own set differs from it.

A difference does not stop a training. Crops may be smaller than the network's input and are then enlarged; crops of a
fixed size may show a smaller part of larger frames; people may be squeezed; and motion may have another speed.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

from vprep.errors import UsageError
from vtrain.data.augment.config import AugmentConfig

Rate = float | Literal["native"]
DRAWS = 2000  # crops that are drawn to estimate a share: 0.64 is then exact to 0.02
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
            raise UsageError("stored.short_side and stored.frame_size are both set; one of them must be none")
        if any(side < 1 for side in (self.short_side or 1, *(self.frame_size or ()))):
            raise UsageError("stored.short_side and stored.frame_size must be at least 1 pixel")

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


class FrameKind(NamedTuple):
    """What some videos of a set have in common: the size and rate of their frames, and what became of the source's."""

    height: int
    width: int
    fps: float
    own_fps: float  # of the source; as `fps` where it is not known
    stretch: float  # width / height over that of the source; 1 where it is not known


Kinds = Counter[FrameKind]


def difference_note(stored: Stored, looks: Sequence[AugmentConfig], kinds: Kinds) -> str:
    """Return how videos of these kinds differ from the recipe's, in two sentences; empty where they fit."""
    if not stored.options or not kinds:
        return ""
    found = [
        _enlarged(stored, looks, kinds),
        _cut(stored, looks, kinds),
        _squeezed(stored, kinds),
        _rates(stored, kinds),
    ]
    said = [text for text in found if text]
    if not said:
        return ""
    listed = said[0] if len(said) == 1 else f"{', '.join(said[:-1])}, and {said[-1]}"
    return f"In this set {listed}. This recipe expects a set made with: vprep shard VIDEOS {stored.options} --out DIR"


def enlarged_share(looks: Sequence[AugmentConfig], kinds: Kinds, draws: int = DRAWS) -> float:
    """Return the share of the recipe's crops with a side below the network's input, from a draw with a fixed seed."""
    rng = Random(0)
    shown = rng.choices(list(kinds), list(kinds.values()), k=draws)
    below = 0
    for number, kind in enumerate(shown):
        look = looks[number % len(looks)]
        _, _, height, width = look.draw(rng, kind.height, kind.width, 1)["box"][0]
        below += min(height, width) < look.size
    return below / draws


def _enlarged(stored: Stored, looks: Sequence[AugmentConfig], kinds: Kinds) -> str:
    """Return that crops are enlarged, where frames are smaller than those of the authors."""
    if _mean(kinds, lambda kind: min(kind.height, kind.width) < stored.least_side) < LEAST:
        return ""
    share, sizes = enlarged_share(looks, kinds), sorted({look.size for look in looks})
    if share < LEAST:
        return ""
    return f"{share:.0%} of the crops are smaller than {' or '.join(map(str, sizes))} pixels and are enlarged"


def _cut(stored: Stored, looks: Sequence[AugmentConfig], kinds: Kinds) -> str:
    """Return that crops of a fixed size show less of a frame, where frames are larger than those of the authors."""
    side = next((look.crop_size for look in looks if look.crop_size is not None), None)
    if side is None or stored.frame_size is None:
        return ""
    height, width = stored.frame_size
    wanted = min(side, height, width) ** 2 / (height * width)
    shown = _mean(kinds, lambda kind: min(side, kind.height, kind.width) ** 2 / (kind.height * kind.width))
    return f"crops of {side} pixels show {shown:.0%} of a frame instead of {wanted:.0%}" if shown < 0.9 * wanted else ""


def _squeezed(stored: Stored, kinds: Kinds) -> str:
    """Return that the aspect ratio was changed, where the authors kept it."""
    share = _mean(kinds, lambda kind: abs(kind.stretch - 1) > ASPECT_TOLERANCE)
    if stored.short_side is None or share < LEAST:
        return ""
    return f"{share:.0%} of the videos are squeezed or stretched"


def _rates(stored: Stored, kinds: Kinds) -> str:
    """Return that videos have another frame rate than with the authors."""
    wanted = stored.fps
    if wanted is None:
        return ""
    share = _mean(kinds, lambda kind: _differs(kind.fps, kind.own_fps if isinstance(wanted, str) else wanted))
    if share < LEAST:
        return ""
    return f"{share:.0%} of the videos " + (
        "are not stored at their own frame rate" if isinstance(wanted, str) else f"do not have {wanted:g} fps"
    )


def _differs(rate: float, wanted: float) -> bool:
    return abs(rate - wanted) > RATE_TOLERANCE * wanted


def _mean(kinds: Kinds, value: Callable[[FrameKind], float]) -> float:
    """Return the mean of a value over the videos; of a condition, the share of the videos that meet it."""
    return sum(count * value(kind) for kind, count in kinds.items()) / kinds.total()
