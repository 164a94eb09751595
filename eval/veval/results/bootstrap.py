"""Estimate how much a percentage depends on the choice of test videos, by the bootstrap of Efron (1979).

Each sample draws all videos again, with replacement, and gives a percentage; the interval holds the middle 95 % of the
percentages. It does not show how much another training would differ. For the difference of two groups of several
trainings, trainings are drawn in the same way; for few trainings, the interval is still too narrow. If all videos are
correct, or none is, the interval is a point.

S samples   R trainings   V videos
"""

import numpy as np
from numpy.typing import NDArray

from vprep.errors import UsageError

SAMPLES, LEVEL = 1000, 0.95
DRAWN_AT_ONCE = 1 << 20


def interval(hits: NDArray[np.floating]) -> tuple[float, float]:
    """Return the two percentages between which the mean of `hits` lies; each video has a hit from 0 to 1."""
    _, low, high = difference(hits, np.zeros(len(hits)))
    return low, high


def difference(hits_a: NDArray[np.floating], hits_b: NDArray[np.floating]) -> tuple[float, float, float]:
    """Return by how many points a is better than b, and the interval of this difference.

    Both have hits of the same videos in the same order, of one training [V] or of several [R, V].
    """
    sides = [np.atleast_2d(np.asarray(hits, np.float64)) for hits in (hits_a, hits_b)]
    counts = [hits_RV.shape[1] for hits_RV in sides]
    if counts[0] != counts[1]:
        raise UsageError(f"there are hits of {counts[0]} videos and of {counts[1]}; compare results of the same videos")
    if not counts[0]:
        raise UsageError("there are hits of 0 videos; an interval needs at least 1 video")
    rng = np.random.default_rng(0)
    means = np.empty(SAMPLES)
    step = max(1, DRAWN_AT_ONCE // counts[0])
    for begin in range(0, SAMPLES, step):
        samples = min(step, SAMPLES - begin)
        a_SV, b_SV = (_of_drawn_trainings(hits_RV, samples, rng) for hits_RV in sides)
        drawn_SV = rng.integers(counts[0], size=(samples, counts[0]))
        means[begin : begin + samples] = np.take_along_axis(a_SV - b_SV, drawn_SV, axis=1).mean(axis=1)
    points_V = 100 * (sides[0].mean(axis=0) - sides[1].mean(axis=0))
    low, high = np.quantile(100 * means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(points_V.mean()), float(low), float(high)


def _of_drawn_trainings(hits_RV: NDArray[np.float64], samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    trainings = len(hits_RV)
    times_SR = rng.multinomial(trainings, np.full(trainings, 1 / trainings), size=samples)
    return np.asarray(times_SR / trainings @ hits_RV)
