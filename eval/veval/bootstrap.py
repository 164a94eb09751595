"""How far a percentage could be off because of which videos were in the test: the bootstrap of Efron (1979).

Videos are drawn again with replacement, as many as there are, and the percentage is looked at each time; the interval
holds the middle of what is seen. It does not tell how far another training run would be off; other seeds do. Where
every video, or none, was right, there is nothing to draw from, and the interval is a point.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vprep.errors import UsageError

DRAWN_AT_ONCE = 1 << 22


def interval(
    hits: NDArray[np.floating],
    groups: Sequence[str] | None = None,
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Between which percentages the mean of `hits` lies, one number from 0 to 1 for each video.

    With `groups`, a word for each video, groups are drawn and not videos.
    """
    return _middle(100 * _means(np.asarray(hits, np.float64), groups, samples, seed), level)


def difference(
    hits_a: NDArray[np.floating],
    hits_b: NDArray[np.floating],
    groups: Sequence[str] | None = None,
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """By how many points a is better than b on the same videos, in the same order, and from where to where."""
    if len(hits_a) != len(hits_b):
        raise UsageError(f"hits of {len(hits_a)} videos and of {len(hits_b)}; a difference is that of the same videos")
    points = 100 * (np.asarray(hits_a, np.float64) - np.asarray(hits_b, np.float64))
    means = _means(points, groups, samples, seed)
    return (float(points.mean()), *_middle(means, level))


def _means(values: NDArray[np.float64], groups: Sequence[str] | None, samples: int, seed: int) -> NDArray[np.float64]:
    """The mean of each sample."""
    if not len(values) or samples < 1:
        raise UsageError(f"{samples} samples of {len(values)} videos; an interval needs one of each at least")
    if groups is not None and len(groups) != len(values):
        raise UsageError(f"{len(groups)} groups for {len(values)} videos; each video has one")
    of_video = np.arange(len(values)) if groups is None else np.unique(np.array(groups), return_inverse=True)[1]
    sums, counts = np.bincount(of_video, values), np.bincount(of_video)
    rng = np.random.default_rng(seed)
    means = np.empty(samples)
    step = max(1, DRAWN_AT_ONCE // len(sums))
    for begin in range(0, samples, step):
        drawn = rng.integers(len(sums), size=(min(step, samples - begin), len(sums)))
        means[begin : begin + step] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def _middle(means: NDArray[np.float64], level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise UsageError(f"level is {level}; it lies between 0 and 1, as 0.95")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
