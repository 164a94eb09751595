"""Choose the frames that a network sees, by pure functions of a `Video` and a random generator.

A plan runs before any pixel is read, so only the frames that a view shows are read and decoded, each of them once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, Protocol, cast

from vtrain.conversion import SettingError, shown
from vtrain.data.augment.config import AugmentConfig

Short = Literal["loop", "restart", "stretch", "replace", "error"]
"""What to do with a video that has fewer frames than a clip spans.

loop      play it in a loop; the stride continues through the seam
restart   play it again from its first frame, where the stride restarts
stretch   spread its frames evenly over the clip; if it has no more frames than the clip, loop it at step 1 (RSPNet)
replace   show another random video in this epoch
error     count it as a bad video
"""
SLOWEST, FASTEST = 0.001, 10_000  # speeds of a clip


@dataclass(frozen=True, slots=True)
class Video:
    """The properties of a video that a plan may use."""

    key: str
    frames: int
    fps: float
    height: int
    width: int
    label: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One clip: the numbers of its frames in the order shown. Views of the same `group` share crop and colours."""

    frames: Sequence[int]
    group: int = 0
    speed: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The views of one video, and further targets of the method: numbers, or lists of numbers."""

    views: list[View]
    targets: dict[str, Any] = field(default_factory=dict)


class Plan(Protocol):
    """How a method samples a video: `views` clips of `length` frames each, and how these are augmented.

    A plan draws speeds before it uses the length of the video, so that a video that replaces a short video is shown at
    the same speeds.
    """

    @property
    def views(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def looks(self) -> tuple[AugmentConfig, ...]: ...  # how views are augmented: one for all, or one for each group
    def __call__(self, video: Video, rng: Random) -> Sample: ...


class TooShortError(Exception):
    """The video has fewer frames than the plan needs."""

    def __init__(self, needed: int, short: Short) -> None:
        super().__init__(f"a video of {needed} frames is needed")
        self.needed = needed
        self.short = short


def demand_positive(**settings: object) -> None:
    """Refuse a setting that is not above 0, and a tuple that is empty or holds such a number."""
    for name, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        if not values or any(not number > 0 for number in values):
            raise SettingError(f"{name} is '{shown(value)}'; write one or more numbers above 0")


def demand_speeds(**settings: object) -> None:
    """Refuse a speed, or one of several, that is not above 0 or that no video is long enough for."""
    demand_positive(**settings)
    for name, value in settings.items():
        for number in value if isinstance(value, tuple) else (value,):
            if not SLOWEST <= cast(float, number) <= FASTEST:
                raise SettingError(f"{name} is '{shown(number)}'; it must be from {SLOWEST} to {FASTEST}")


def span(count: int, step: int) -> int:
    """Return the number of frames from the first to the last of `count` frames that are `step` apart."""
    return (count - 1) * step + 1


def strided(start: int, count: int, step: int) -> list[int]:
    """Return `count` frames from `start` on, `step` apart."""
    return list(range(start, start + count * step, step))


def looped(start: int, count: int, step: int, frames: int) -> list[int]:
    """Return `count` frames, `step` apart, of a video of `frames` frames that is played in a loop."""
    return [(start + number * step) % frames for number in range(count)]


def restarted(start: int, count: int, step: int, frames: int) -> list[int]:
    """Return `count` frames, `step` apart; after the end of the video they restart at its first frame."""
    shown, frame = [], start
    for _ in range(count):
        if frame >= frames:
            frame = 0
        shown.append(frame)
        frame += step
    return shown


def evenly_spaced(first: float, last: float, count: int) -> list[float]:
    """Return `count` numbers from `first` to `last`, to the last bit as np.linspace; `first` alone if `count` is 1."""
    if count == 1:
        return [first]
    step = (last - first) / (count - 1)
    return [*(first + number * step for number in range(count - 1)), last]


def fallback(count: int, step: int, frames: int, short: Short) -> list[int]:
    """Return the clip of a video that is too short for it; raise when `short` is replace or error."""
    if short in ("replace", "error"):
        raise TooShortError(span(count, step), short)
    if short == "stretch":
        stretched = [round(frame) for frame in evenly_spaced(0, frames - 1, count)]
        return stretched if frames > count else looped(0, count, 1, frames)
    return restarted(0, count, step, frames) if short == "restart" else looped(0, count, step, frames)


def random_clip(rng: Random, count: int, step: int, frames: int, short: Short) -> list[int]:
    """Return a clip with a random start; all starts at which the clip fits are equally likely."""
    last = frames - span(count, step)
    return strided(rng.randrange(last + 1), count, step) if last >= 0 else fallback(count, step, frames, short)


PLAIN = AugmentConfig(scale=(0.25, 1.0))
CENTRE = AugmentConfig(crop="centre", flip=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneClip:
    """One random clip: frames `step` apart, or frames that cover the whole video (Something-Something-V2)."""

    frames: int = 16
    step: int = 1
    how: Literal["consecutive", "cover"] = "consecutive"
    short: Short = "loop"
    looks: tuple[AugmentConfig, ...] = (PLAIN,)  # how the clip is augmented

    views = 1

    def __post_init__(self) -> None:
        demand_positive(frames=self.frames, looks=len(self.looks))
        demand_speeds(step=self.step)

    @property
    def length(self) -> int:
        return self.frames

    def __call__(self, video: Video, rng: Random) -> Sample:
        if self.how == "cover":
            offset = rng.random() * (video.frames / self.frames)
            return Sample(views=[View(frames=covering(video.frames, self.frames, offset, self.short))])
        shown = random_clip(rng, self.frames, self.step, video.frames, self.short)
        return Sample(views=[View(frames=shown, speed=float(self.step))])


@dataclass(frozen=True, slots=True, kw_only=True)
class EvenClips:
    """Clips at fixed positions, for testing and retrieval.

    starts    evenly spaced; the first clip begins with the video, and the last one ends with it; a single clip lies in
              the middle, rounded down (RSPNet)
    centres   centres evenly spaced, from half a clip after the start to half a clip before the end; a single clip
              begins with the video, as np.linspace has it (VCOP, PRP, Pace)
    cover     each clip covers the whole video, with an offset of its own; a single clip takes the middle of each part
              (Something-Something-V2 in RSPNet)
    """

    clips: int = 10
    frames: int = 16
    step: int = 1
    how: Literal["starts", "centres", "cover"] = "starts"
    short: Short = "loop"
    looks: tuple[AugmentConfig, ...] = (CENTRE,)  # how the clips are augmented

    def __post_init__(self) -> None:
        demand_positive(clips=self.clips, frames=self.frames, looks=len(self.looks))
        demand_speeds(step=self.step)

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
            return [covering(frames, self.frames, offset, self.short) for offset in self._offsets(frames)]
        last = frames - span(self.frames, self.step)
        if last < 0:
            return [fallback(self.frames, self.step, frames, self.short)] * self.clips
        return [strided(start, self.frames, self.step) for start in self._starts(frames, last)]

    def _offsets(self, frames: int) -> list[float]:
        part = frames / self.frames
        return [part / 2] if self.clips == 1 else [number * (part / self.clips) for number in range(self.clips)]

    def _starts(self, frames: int, last: int) -> list[int]:
        if self.how == "starts":
            starts = [last // 2] if self.clips == 1 else evenly_spaced(0, last, self.clips)
            return [round(start) for start in starts]
        half = self.frames * self.step / 2
        return [max(0, int(centre - half)) for centre in evenly_spaced(half, frames - half, self.clips)]


def covering(frames: int, count: int, offset: float, short: Short = "loop") -> list[int]:
    """Return one frame of each of `count` equal parts of a video, `offset` frames after the part begins.

    A video of fewer than `count` frames is shown as `short` says.
    """
    if frames < count:
        return fallback(count, 1, frames, short)
    part = frames / count
    return [min(int(number * part + offset), frames - 1) for number in range(count)]
