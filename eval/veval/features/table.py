"""Features of videos, one row per video, with the labels that retrieval, k-NN and linear classification need.

V videos   K clips of each   D feature
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veval.features.films import film_of
from vprep.errors import UsageError

Ints = NDArray[np.int64]

PART = 64 << 20  # bytes of features that are processed at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Features of videos: [V, D], or [V, K, D] with a vector for each clip."""

    keys: list[str]
    label: Ints  # -1: none
    group: list[str] | None = None  # a hash of the content; "": not known
    features: NDArray[np.float32]

    def __post_init__(self) -> None:
        videos = len(self.keys)
        shapes = {"label": self.label.shape, "group": (videos if self.group is None else len(self.group),)}
        for name, shape in shapes.items():
            if shape != (videos,):
                raise UsageError(f"{name} has the shape {shape} for {videos} videos; one for each is needed")
        shape = self.features.shape
        if len(shape) not in (2, 3) or shape[0] != videos or 0 in shape[1:]:
            raise UsageError(f"features have the shape {shape} for {videos} videos; [V, D] or [V, K, D] is needed")
        if self.features.dtype != np.float32:
            raise UsageError(f"features are {self.features.dtype}; float32 is needed")

    @property
    def clips(self) -> int:
        """The number of feature vectors per video."""
        return 1 if self.features.ndim == 2 else self.features.shape[1]

    def labelled(self) -> Ints:
        """Return the rows with a label."""
        return np.flatnonzero(self.label >= 0)

    def taken(self, rows: Ints) -> "Features":
        """Return the videos `rows`, in that order."""
        return Features(
            keys=[self.keys[row] for row in rows],
            label=self.label[rows],
            group=None if self.group is None else [self.group[row] for row in rows],
            features=self.features[rows],
        )


def refuse_unusable(features: Features, name: str) -> None:
    """Refuse features that are not finite: every similarity with their video would be NaN."""
    flat = features.features.reshape(len(features.keys), -1)
    pieces = parts(len(flat), 4 * flat.shape[1] if flat.size else 1)
    bad = [rows.start + int(row) for rows in pieces for row in np.flatnonzero(~np.isfinite(flat[rows]).all(axis=1))]
    if len(bad) > 1 and len(bad) == len(flat):
        raise UsageError(
            f"{name}: the features of all {len(bad)} videos are not finite, so their weights are at fault; "
            "take an older state of the run, or a good copy, and extract them again"
        )
    if bad:
        raise UsageError(
            f"{name}: the features of video '{features.keys[bad[0]]}' are not all finite; "
            "extract them again, or leave the video out if its frames are damaged"
        )


def by_video(features: Features) -> NDArray[np.float32]:
    """Return the mean over the clips of each video, [V, D]."""
    if features.features.ndim == 2:
        return features.features
    videos, _, width = features.features.shape
    mean_VD = np.empty((videos, width), np.float32)
    for rows in parts(videos, 8 * features.features[0].size if videos else 1):
        mean_VD[rows] = features.features[rows].mean(axis=1, dtype=np.float64)
    return mean_VD


def film(key: str, content: str = "") -> str:
    """Return a name that is the same for videos that must stay together when a split is divided."""
    return film_of(key) or content or key


def films(features: Features) -> list[str]:
    contents: Sequence[str] = features.group or [""] * len(features.keys)
    return [film(key, content) for key, content in zip(features.keys, contents, strict=True)]


def parts(rows: int, bytes_per_row: int, at_once: int = PART) -> Iterator[slice]:
    """Yield all rows in parts of at most `at_once` bytes, but of at least one row."""
    step = max(1, at_once // bytes_per_row)
    for begin in range(0, rows, step):
        yield slice(begin, min(begin + step, rows))
