"""Which frames of a video a network sees; pure functions of the video's facts and a random generator.

A plan runs before any pixel is read, so only the frames that some view shows are read and decoded, each once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, Protocol

from vprep.errors import UsageError
from vtrain.data.augment.config import AugmentConfig

Short = Literal["loop", "restart", "stretch", "replace", "error"]
"""What is done when a video has fewer frames than a clip spans.

loop      it is played in a loop, the stride running through the seam
restart   it is played again from its first frame, so that the stride starts anew
stretch   its frames are spread evenly over the clip; looped when there are fewer than the clip shows
replace   another video, drawn at random, takes its place in this epoch
error     it is a bad sample
"""
SHORTS: tuple[Short, ...] = ("loop", "restart", "stretch", "replace", "error")


@dataclass(frozen=True, slots=True)
class Video:
    """What a plan knows of a video."""

    key: str
    frames: int
    fps: float
    height: int
    width: int
    label: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One clip: the numbers of its frames, in the order shown. Views of one `group` get the same crop and colours."""

    frames: Sequence[int]
    group: int = 0
    speed: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The views of one video, and what the method wants to know of them beside: numbers, or lists of numbers."""

    views: list[View]
    targets: dict[str, Any] = field(default_factory=dict)


class Plan(Protocol):
    """What a method asks of the loader: `views` clips of `length` frames a video, looked at in a certain way.

    Speeds are drawn before the length of the video is looked at, so that a video that takes the place of a short one
    is shown at the same speeds.
    """

    @property
    def views(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def looks(self) -> tuple[AugmentConfig, ...]: ...  # one for all groups, or one a group
    def __call__(self, video: Video, rng: Random) -> Sample: ...


class TooShortError(Exception):
    """The video has not the frames that the plan needs."""

    def __init__(self, needed: int, short: Short) -> None:
        super().__init__(f"a video of {needed} frames is needed")
        self.needed = needed
        self.short = short


def demand_positive(**settings: object) -> None:
    """Frames, speeds and the like are at least 1 (a pace may be a fraction), and of several there is one at least."""
    for name, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        if not values or any(not one > 0 for one in values):
            said = ",".join(map(str, values))
            raise UsageError(f"{name} is '{said}'; write one or more numbers above 0")


def span(count: int, step: int) -> int:
    """How many frames a clip of `count` frames reaches over, `step` apart."""
    return (count - 1) * step + 1


def strided(start: int, count: int, step: int) -> list[int]:
    """`count` frames from `start`, `step` apart."""
    return list(range(start, start + count * step, step))


def looped(start: int, count: int, step: int, frames: int) -> list[int]:
    """The same in a video of `frames` frames that is played in a loop."""
    return [(start + number * step) % frames for number in range(count)]


def restarted(start: int, count: int, step: int, frames: int) -> list[int]:
    """The same, but where the video ends it begins again with its first frame, whatever the stride was in for."""
    shown, at = [], start
    for _ in range(count):
        if at >= frames:
            at = 0
        shown.append(at)
        at += step
    return shown


def even(first: float, last: float, count: int) -> list[float]:
    """`count` numbers from `first` to `last`, both included, evenly spaced; the middle when it is only one."""
    if count == 1:
        return [(first + last) / 2]
    return [first + (last - first) * number / (count - 1) for number in range(count)]


def fallback(count: int, step: int, frames: int, short: Short) -> list[int]:
    """The clip of a video that is too short for it."""
    if short in ("replace", "error"):
        raise TooShortError(span(count, step), short)
    if short == "stretch" and frames > count:
        return [round(place) for place in even(0, frames - 1, count)]
    return restarted(0, count, step, frames) if short == "restart" else looped(0, count, step, frames)


def random_clip(rng: Random, count: int, step: int, frames: int, short: Short) -> list[int]:
    """A clip that begins at random where it fits, each start as likely as the others."""
    room = frames - span(count, step)
    return strided(rng.randrange(room + 1), count, step) if room >= 0 else fallback(count, step, frames, short)


PLAIN = AugmentConfig(scale=(0.25, 1.0))
CENTRE = AugmentConfig(crop="centre", flip=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneClip:
    """One random clip: consecutive frames, or frames that cover the whole video (Something-Something-V2)."""

    frames: int = 16
    step: int = 1
    how: Literal["consecutive", "cover"] = "consecutive"
    short: Short = "loop"
    looks: tuple[AugmentConfig, ...] = (PLAIN,)

    views = 1

    def __post_init__(self) -> None:
        demand_positive(frames=self.frames, step=self.step, looks=len(self.looks))

    @property
    def length(self) -> int:
        return self.frames

    def __call__(self, video: Video, rng: Random) -> Sample:
        if self.how == "cover":
            offset = rng.random() * video.frames / self.frames
            return Sample(views=[View(frames=covering(video.frames, self.frames, offset))])
        shown = random_clip(rng, self.frames, self.step, video.frames, self.short)
        return Sample(views=[View(frames=shown, speed=float(self.step))])


@dataclass(frozen=True, slots=True, kw_only=True)
class EvenClips:
    """Clips at fixed places, for testing and retrieval.

    starts    the first clip begins with the video and the last one ends with it (RSPNet)
    centres   centres evenly from half a clip behind the start to half a clip before the end (VCOP, PRP, Pace)
    cover     each clip covers the whole video, shifted against the others (Something-Something-V2)
    """

    clips: int = 10
    frames: int = 16
    step: int = 1
    how: Literal["starts", "centres", "cover"] = "starts"
    short: Short = "loop"
    looks: tuple[AugmentConfig, ...] = (CENTRE,)

    def __post_init__(self) -> None:
        demand_positive(clips=self.clips, frames=self.frames, step=self.step, looks=len(self.looks))

    @property
    def views(self) -> int:
        return self.clips

    @property
    def length(self) -> int:
        return self.frames

    def __call__(self, video: Video, rng: Random) -> Sample:
        return Sample(views=[View(frames=shown, speed=float(self.step)) for shown in self._clips(video.frames)])

    def _clips(self, frames: int) -> list[list[int]]:
        if self.how == "cover":
            width = frames / self.frames
            return [covering(frames, self.frames, number * width / self.clips) for number in range(self.clips)]
        room = frames - span(self.frames, self.step)
        if room < 0:
            return [fallback(self.frames, self.step, frames, self.short)] * self.clips
        return [strided(start, self.frames, self.step) for start in self._starts(frames, room)]

    def _starts(self, frames: int, room: int) -> list[int]:
        if self.how == "starts":
            return [round(start) for start in even(0, room, self.clips)]
        half = self.frames * self.step // 2
        return [max(0, int(centre - half)) for centre in even(half, frames - half, self.clips)]


def covering(frames: int, count: int, offset: float) -> list[int]:
    """`count` frames spread over all of a video, from `offset`, which lies in the first of `count` equal parts."""
    return [min(int(number * frames / count + offset), frames - 1) for number in range(count)]
