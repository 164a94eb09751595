"""RSPNet. Chen, Huang, He, Long, Zeng, Wen, Tan, Gan: RSPNet: Relative Speed Perception for Unsupervised Video
Representation Learning (AAAI 2021).

Two windows of consecutive frames of a video; the clips at 1x and at `speed` are taken from them on the device, after
the augmentation, so that clips of one window have the same crop and colours.
"""

from dataclasses import dataclass
from random import Random

from vtrain.data.clip import Sample, Short, Video, View, random_clip
from vtrain.data.look import Look

# The authors' code: grey comes before the jitter, flip is in, blur (of which the paper speaks) is not.
RELEASED = Look(jitter=(0.4, 0.4, 0.4, 0.4), grey=0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The two windows of a sample."""

    frames: int = 16
    speed: int = 2
    short: Short = "loop"
    looks: tuple[Look, ...] = (RELEASED,)

    @property
    def views(self) -> int:
        return 2

    @property
    def length(self) -> int:
        return self.frames * self.speed

    def __call__(self, video: Video, rng: Random) -> Sample:
        windows = [random_clip(rng, self.length, 1, video.frames, self.short) for _ in range(2)]
        return Sample(views=[View(frames=window, group=group) for group, window in enumerate(windows)])
