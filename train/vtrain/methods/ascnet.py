"""ASCNet. Huang, Wu, Hu, Liu, He, Wu, Wu, Tan, Ding: ASCNet: Self-supervised Video Representation Learning with
Appearance-Speed Consistency (ICCV 2021).

Two clips of a video at two different speeds. No code was released; what the paper leaves open follows BYOL.
"""

from dataclasses import dataclass, replace
from random import Random

from vtrain.data.clip import Sample, Short, Video, View, random_clip
from vtrain.data.look import Look

ONLINE = Look(
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_chance=0.8,
    grey=0.2,
    blur=1.0,
    order=("flip", "jitter", "grey", "blur", "solarise"),
)
TARGET = replace(ONLINE, blur=0.1, solarise=0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Two clips; which of the speeds comes first is drawn for each sample, so that both are there in both roles."""

    frames: int = 16
    speeds: tuple[int, ...] = (4, 8)
    short: Short = "loop"
    looks: tuple[Look, ...] = (ONLINE, TARGET)

    @property
    def views(self) -> int:
        return 2

    @property
    def length(self) -> int:
        return self.frames

    def __call__(self, video: Video, rng: Random) -> Sample:
        speeds = rng.sample(self.speeds, 2)
        views = [
            View(frames=random_clip(rng, self.frames, speed, video.frames, self.short), group=group, speed=float(speed))
            for group, speed in enumerate(speeds)
        ]
        return Sample(views=views, targets={"speed": speeds})
