"""A batch: pixels as they are stored, and small tensors that describe them.

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
from vtrain.data.sampler import PlannedSample

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Bad:
    """A video that could not be used. Another video takes its slot in the batch, which `Batch.valid` marks.

    A clip that was fetched within a step has no such video: the method leaves it out.
    """

    shard: str
    key: str
    what: str  # the fault
    instead: str  # key of the video that takes its slot; empty: it is left out

    def __str__(self) -> str:
        end = f"video '{self.instead}' is used instead" if self.instead else "its clip is left out"
        return f"{self.shard}, video '{self.key}': {self.what}; {end}"


@dataclass(frozen=True, slots=True)
class SampleInfo:
    """Everything in a part of a batch but its pixels, as arrays, which pass between processes better than tensors."""

    keys: list[str]
    columns: Arrays  # those fields of `Batch` that every method has
    targets: Arrays
    augmentation: Arrays


@dataclass(slots=True)
class Batch:
    """Clips of several videos, with their labels, positions and drawn parameters."""

    clips: Tensor  # uint8 B,N,T,H,W,C
    keys: list[str]  # of the videos
    label: Tensor  # int64 B; -1 for a video without a label
    row: Tensor  # int64 B; index of the video in `Loader.videos`
    valid: Tensor  # bool B; false for a video that takes the slot of a bad one, or only fills up the last batch
    frame: Tensor  # int32 B,N,T; index of each frame in its video
    speed: Tensor  # float32 B,N
    group: Tensor  # int64 B,N; views of the same group share their crop and colours
    targets: dict[str, Tensor]  # the targets that the method's plan returns for a sample
    augmentation: dict[str, Tensor]  # drawn parameters of the augmentation, always on the host
    position: int = 0  # of the loader after this batch
    bad: list[Bad] = field(default_factory=list)  # videos of this batch that could not be used

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its tensors on `device`; what only the host needs stays on the host."""

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
        """Return the batch with its small tensors in pinned memory, where its clips are already."""
        return replace(
            self,
            label=self.label.pin_memory(),
            row=self.row.pin_memory(),
            valid=self.valid.pin_memory(),
            speed=self.speed.pin_memory(),
            targets={name: target.pin_memory() for name, target in self.targets.items()},
        )


def sample_info(samples: Sequence[PlannedSample], valid: Sequence[bool]) -> SampleInfo:
    """Return everything about the samples except their pixels."""
    videos, views = [planned.video for planned in samples], [planned.sample.views for planned in samples]
    columns = {
        "label": np.array([NO_LABEL if video.label is None else video.label for video in videos], np.int64),
        "row": np.array([planned.row for planned in samples], np.int64),
        "valid": np.array(valid, bool),
        "frame": np.array([[view.frames for view in group] for group in views], np.int32),
        "speed": np.array([[view.speed for view in group] for group in views], np.float32),
        "group": np.array([[view.group for view in group] for group in views], np.int64),
    }
    names = samples[0].sample.targets
    targets = {name: _array([planned.sample.targets[name] for planned in samples]) for name in names}
    augmentation = stack([planned.augmentation for planned in samples])
    return SampleInfo([video.key for video in videos], columns, targets, augmentation)


def batch_of(clips: Tensor, parts: Sequence[SampleInfo], bad: list[Bad], position: int) -> Batch:
    """Return a batch that consists of several parts; `clips` holds the pixels of all of them."""
    return Batch(
        clips=clips,
        keys=[key for part in parts for key in part.keys],
        targets=_joined([part.targets for part in parts]),
        augmentation=_joined([part.augmentation for part in parts]),
        position=position,
        bad=bad,
        **_joined([part.columns for part in parts]),
    )


def _array(values: list[Any]) -> npt.NDArray[Any]:
    array = np.array(values)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _joined(parts: Sequence[Arrays]) -> dict[str, Tensor]:
    """Concatenate the arrays of all parts, name by name."""
    return {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
