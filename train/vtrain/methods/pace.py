"""Pace prediction. Wang, Jiao, Liu: Self-supervised Video Representation Learning by Pace Prediction (ECCV 2020).

A clip is played at one of several paces; the network says at which.
"""

from dataclasses import dataclass
from fractions import Fraction
from random import Random

from vtrain.data.clip import Sample, Short, Video, View, looped, random_clip, restarted
from vtrain.data.look import Look

# The authors' code: blue comes first, values are 0 to 255, and each frame has a jitter of its own.
RELEASED = Look(
    crop="random",
    crop_size=112,
    jitter=(0.8, 0.8, 0.8, 0.2),
    jitter_chance=0.8,
    jitter_per="frame",
    normalise="bgr255",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """One clip, or two for the contrastive loss, each at a pace of its own.

    At a pace of 1/k each frame is shown k times. A clip may begin anywhere, with the last frame too: where the video
    ends, `short` says how it goes on (the authors' code: restart).
    """

    frames: int = 16
    paces: tuple[Fraction | int, ...] = (1, 2, 3, 4)
    clips: int = 1
    short: Short = "restart"
    looks: tuple[Look, ...] = (RELEASED,)

    @property
    def views(self) -> int:
        return self.clips

    @property
    def length(self) -> int:
        return self.frames

    def __call__(self, video: Video, rng: Random) -> Sample:
        labels = [rng.randrange(len(self.paces)) for _ in range(self.clips)]
        views = [self._view(Fraction(self.paces[label]), video, group, rng) for group, label in enumerate(labels)]
        return Sample(views=views, targets={"pace": labels})

    def _view(self, pace: Fraction, video: Video, group: int, rng: Random) -> View:
        step, times = (pace.numerator, 1) if pace >= 1 else (1, pace.denominator)
        count = -(-self.frames // times)
        if self.short in ("restart", "loop"):
            start = rng.randrange(video.frames)
            go_on = restarted if self.short == "restart" else looped
            shown = go_on(start, count, step, video.frames)
        else:
            shown = random_clip(rng, count, step, video.frames, self.short)
        repeated = [frame for frame in shown for _ in range(times)][: self.frames]
        return View(frames=repeated, group=group, speed=float(pace))
