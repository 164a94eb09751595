"""The clips that a network gets at test time, and the pixels that it sees in them.

N clips of a video, C channels, T time, S side
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from random import Random

import numpy as np
import torch
from torch import Tensor

from veval.features.forward import demand_memory
from veval.look.figure import Pixels
from veval.protocol import Normalise
from vtrain.data.augment.apply import DEVIATION, MEAN, Augment
from vtrain.data.augment.colour import WHITE
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.dataset import Videos
from vtrain.data.loader import Loader
from vtrain.data.sampling import Plan, Sample, Short, Video, View, looped, restarted, span
from vtrain.inference import evaluating


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clips:
    """The clips of a video."""

    key: str
    class_name: str  # empty: without a label
    frames: list[list[int]]  # numbers of the frames of each clip
    given: Tensor  # [N, C, T, S, S], as the network gets them
    seen: list[Pixels]  # [T, S, S, C] of each clip, in the order blue, green, red

    @property
    def label(self) -> str:
        """What a figure calls the video."""
        return f"{self.key} ({self.class_name})" if self.class_name else self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class PacedClips:
    """A plan: a clip at each pace, all from the same first frame, so that the slowest of them lies in the middle."""

    paces: tuple[Fraction, ...]
    frames: int
    short: Short
    looks: tuple[AugmentConfig, ...]

    @property
    def views(self) -> int:
        return len(self.paces)

    @property
    def length(self) -> int:
        return self.frames

    def __call__(self, video: Video, rng: Random) -> Sample:
        longest = max(span(self._shown(pace), _step(pace)) for pace in self.paces)
        start = max(0, (video.frames - longest) // 2)
        return Sample(views=[self._view(pace, start, video.frames) for pace in self.paces])

    def _view(self, pace: Fraction, start: int, frames: int) -> View:
        go_on = restarted if self.short == "restart" else looped
        shown = go_on(start, self._shown(pace), _step(pace), frames)
        repeated = [frame for frame in shown for _ in range(_times(pace))]
        return View(frames=repeated[: self.frames], speed=float(pace))

    def _shown(self, pace: Fraction) -> int:
        return -(-self.frames // _times(pace))


def _step(pace: Fraction) -> int:
    return pace.numerator if pace >= 1 else 1


def _times(pace: Fraction) -> int:
    """Return how many times each frame is shown."""
    return 1 if pace >= 1 else pace.denominator


def read(videos: Videos, plan: Plan, normalise: Normalise, *, seed: int = 0) -> Iterator[Clips]:
    """Yield the clips of each video by the plan, on the CPU."""
    demand_memory(plan, videos)
    augment = Augment(plan.looks)
    for batch in Loader(videos, plan, batch=1, epochs=1, shuffled=False, seed=seed):
        given = augment(batch.clips, batch.augmentation)[0]
        label = int(batch.label[0])
        yield Clips(
            key=batch.keys[0],
            class_name=videos.classes[label] if videos.classes and label >= 0 else "",
            frames=batch.frame[0].tolist(),
            given=given,
            seen=[pixels(clip, normalise) for clip in given],
        )


def pixels(clip_CTSS: Tensor, normalise: Normalise) -> Pixels:
    """Return the pixels [T, S, S, C] of a network's input, blue first: the inverse of its normalisation."""
    clip_TSSC = clip_CTSS.detach().to("cpu", torch.float32).permute(1, 2, 3, 0).numpy()
    if normalise == "imagenet":
        clip_TSSC = WHITE * (clip_TSSC * np.array(DEVIATION, np.float32) + np.array(MEAN, np.float32))
    elif normalise != "bgr255":  # Kinetics' mean and deviation are applied later, in front of the network
        clip_TSSC = WHITE * clip_TSSC
    rounded = np.clip(np.round(clip_TSSC), 0, 255).astype(np.uint8)
    return rounded if normalise == "bgr255" else np.ascontiguousarray(rounded[..., ::-1])


def mapped(net: Callable[[Tensor], Tensor], clips_NCTSS: Tensor, device: torch.device) -> Sequence[Tensor]:
    """Return the last map [C, T, H, W] of each clip, on the CPU; the network gets one clip at a time, in eval mode."""
    layout = torch.channels_last_3d
    with torch.no_grad(), evaluating(net):
        return [net(clip[None].to(device, memory_format=layout))[0].float().cpu() for clip in clips_NCTSS]
