"""The clips for training on labels, and those for testing and retrieval. (The methods' own are with the methods.)"""

from dataclasses import dataclass
from random import Random
from typing import Literal

from vtrain.data.clip import Sample, Short, Video, View, demand_positive, even, fallback, random_clip, span, strided
from vtrain.data.look import Look

PLAIN = Look(scale=(0.25, 1.0))
CENTRE = Look(crop="centre", flip=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneClip:
    """One random clip: consecutive frames, or frames that cover the whole video (Something-Something-V2)."""

    frames: int = 16
    step: int = 1
    how: Literal["consecutive", "cover"] = "consecutive"
    short: Short = "loop"
    looks: tuple[Look, ...] = (PLAIN,)

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
    looks: tuple[Look, ...] = (CENTRE,)

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
