"""What is handed over: pixels as they are stored, and small tensors that tell what they are.

B batch   N views   T frames   H height   W width   C channels
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vtrain.data.augment.config import stack
from vtrain.data.dataset import NO_LABEL
from vtrain.data.sampler import Planned

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Bad:
    """A sample that could not be used; another video stands in its place, and `valid` says so."""

    shard: str
    key: str
    what: str
    instead: str

    def __str__(self) -> str:
        return f"{self.shard}, video '{self.key}': {self.what}; '{self.instead}' stands in its place"


@dataclass(frozen=True, slots=True)
class SampleInfo:
    """All that is known of some samples but the pixels, in arrays, which travel between processes better than
    tensors."""

    keys: list[str]
    own: Arrays
    targets: Arrays
    augmentation: Arrays


@dataclass(slots=True)
class Batch:
    """Clips and all that is known of them."""

    clips: Tensor  # uint8 B,N,T,H,W,C
    keys: list[str]
    label: Tensor  # int64 B; -1 where there is none
    row: Tensor  # int64 B; number of the video among those that were chosen
    valid: Tensor  # bool B; false where a video stands in for a bad one
    frame: Tensor  # int32 B,N,T; number of each frame in its video
    speed: Tensor  # float32 B,N
    group: Tensor  # int64 B,N; views of one group are cut and coloured alike
    targets: dict[str, Tensor]
    augmentation: dict[str, Tensor]  # parameters of the augmentation, always on the host
    position: int = 0  # of the loader behind this batch
    bad: list[Bad] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> "Batch":
        """The same with its tensors on `device`; what the host has to know of the augmentation stays."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return replace(
            self,
            clips=move(self.clips),
            label=move(self.label),
            row=move(self.row),
            valid=move(self.valid),
            speed=move(self.speed),
            targets={name: move(target) for name, target in self.targets.items()},
        )

    def pin(self) -> "Batch":
        """The same with its small tensors in memory that a device can copy from; the clips are there already."""
        return replace(
            self,
            label=self.label.pin_memory(),
            row=self.row.pin_memory(),
            valid=self.valid.pin_memory(),
            speed=self.speed.pin_memory(),
            targets={name: target.pin_memory() for name, target in self.targets.items()},
        )


def sample_info(samples: Sequence[Planned], valid: Sequence[bool]) -> SampleInfo:
    """All but the pixels of some samples."""
    views = [one.sample.views for one in samples]
    own = {
        "label": np.array([NO_LABEL if one.video.label is None else one.video.label for one in samples], np.int64),
        "row": np.array([one.row for one in samples], np.int64),
        "valid": np.array(valid, bool),
        "frame": np.array([[view.frames for view in group] for group in views], np.int32),
        "speed": np.array([[view.speed for view in group] for group in views], np.float32),
        "group": np.array([[view.group for view in group] for group in views], np.int64),
    }
    targets = {name: _array([one.sample.targets[name] for one in samples]) for name in samples[0].sample.targets}
    return SampleInfo([one.video.key for one in samples], own, targets, stack([one.augmentation for one in samples]))


def batch_of(clips: Tensor, parts: Sequence[SampleInfo], bad: list[Bad], position: int) -> Batch:
    """One batch of the parts it came in; `clips` holds the pixels of all."""
    return Batch(
        clips=clips,
        keys=[key for part in parts for key in part.keys],
        targets=_joined([part.targets for part in parts]),
        augmentation=_joined([part.augmentation for part in parts]),
        position=position,
        bad=bad,
        **_joined([part.own for part in parts]),
    )


def _array(values: list[Any]) -> npt.NDArray[Any]:
    array = np.array(values)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _joined(parts: Sequence[Arrays]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
