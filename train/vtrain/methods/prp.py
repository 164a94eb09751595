"""PRP. Yao, Liu, Luo, Zhou, Ye: Video Playback Rate Perception for Self-supervised Spatio-Temporal Representation
Learning (CVPR 2020).

From a window of 16 s consecutive frames the network sees every s-th; it tells s, and paints the same time at `rate`
times as many frames, most carefully where much moves.
"""

from dataclasses import dataclass
from random import Random

from vtrain.data.clip import Sample, Short, TooShortError, Video, View, fallback
from vtrain.data.look import Look

# The authors' code: the centre of 112 x 112 stored pixels, in [0, 1]. (The paper says a random crop.)
RELEASED = Look(crop="centre", crop_size=112, flip=0.0, normalise="unit")
SEGMENT = 16  # frames to which one motion map belongs
MOTION_FRAMES = (0, 5, 10, 15)  # of a segment; the authors' code compares these (the paper: all neighbours)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """One view: the frames to be painted, then those that the motion maps are made of.

    The clip that the network sees is every `rate`-th of the frames to be painted. Where these lie half-way between
    two frames they are blended, and not `real`: they are left out of the loss. `segments` tells how many of the maps
    there are; slots of further ones repeat the last frame.
    """

    frames: int = 16
    speeds: tuple[int, ...] = (1, 2, 4, 8)
    rate: int = 2
    short: Short = "replace"
    looks: tuple[Look, ...] = (RELEASED,)

    @property
    def views(self) -> int:
        return 1

    @property
    def painted(self) -> int:
        return self.frames * self.rate

    @property
    def length(self) -> int:
        return self.painted + self._segments(max(self.speeds)) * len(MOTION_FRAMES)

    def __call__(self, video: Video, rng: Random) -> Sample:
        label = rng.randrange(len(self.speeds))
        speed = self.speeds[label]
        window = self._window(video, speed, rng)
        painted, blend = self._painted(window, speed)
        motion = [
            window[segment * SEGMENT + number] for segment in range(self._segments(speed)) for number in MOTION_FRAMES
        ]
        filler = [window[-1]] * (self.length - self.painted - len(motion))
        view = View(
            frames=[*painted, *motion, *filler],
            speed=float(speed),
            blend=[*blend, *[False] * (self.length - self.painted)],
        )
        real = [not blended for blended in blend]
        return Sample(views=[view], targets={"rate": label, "real": real, "segments": self._segments(speed)})

    def _segments(self, speed: int) -> int:
        return self.frames * speed // SEGMENT

    def _window(self, video: Video, speed: int, rng: Random) -> list[int]:
        size = self.frames * speed
        room = video.frames - (size + 1)
        if room < 0:
            try:
                return fallback(size, 1, video.frames, self.short)
            except TooShortError as short:
                raise TooShortError(size + 1, short.short) from None
        start = max(0, rng.randrange(room + 1) - 1)  # as the authors' code draws it: the first frame twice as often
        return list(range(start, start + size)) if room >= 0 else []

    def _painted(self, window: list[int], speed: int) -> tuple[list[int], list[bool]]:
        """Frames at `rate` times the clip's own; where the video has none between two, their mean."""
        if speed >= self.rate:
            return window[:: speed // self.rate], [False] * self.painted
        between = self.rate // speed
        return [frame for frame in window for _ in range(between)], [
            number % between > 0 for number in range(self.painted)
        ]
