"""How far a percentage could be off because of which videos were in the test: the bootstrap of Efron (1979).

Videos are drawn again with replacement, as many as there are, and the percentage is looked at each time; the interval
holds the middle of what is seen. It does not tell how far another training would be off. For the difference of two
things that were trained several times, trainings are drawn in the same way; of few of them, it is still too narrow.
Where every video, or none, was right, there is nothing to draw from, and the interval is a point.

S samples   R trainings   V videos
"""

import numpy as np
from numpy.typing import NDArray

from vprep.errors import UsageError

DRAWN_AT_ONCE = 1 << 20


def interval(
    hits: NDArray[np.floating], *, samples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Between which percentages the mean of `hits` lies, one number from 0 to 1 for each video."""
    _, low, high = difference(hits, np.zeros(len(hits)), samples=samples, level=level, seed=seed)
    return low, high


def difference(
    hits_a: NDArray[np.floating],
    hits_b: NDArray[np.floating],
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """By how many points a is better than b on the same videos, in the same order, and from where to where; each one
    training, [V], or several, [R, V]."""
    sides = [np.atleast_2d(np.asarray(hits, np.float64)) for hits in (hits_a, hits_b)]
    counts = [hits_RV.shape[1] for hits_RV in sides]
    if counts[0] != counts[1]:
        raise UsageError(f"hits of {counts[0]} videos and of {counts[1]}; a difference is that of the same videos")
    if not counts[0] or samples < 1:
        raise UsageError(f"{samples} samples of {counts[0]} videos; an interval needs one of each at least")
    rng = np.random.default_rng(seed)
    means = np.empty(samples)
    step = max(1, DRAWN_AT_ONCE // counts[0])
    for begin in range(0, samples, step):
        some = min(step, samples - begin)
        a_SV, b_SV = (_of_drawn_trainings(hits_RV, some, rng) for hits_RV in sides)
        drawn_SV = rng.integers(counts[0], size=(some, counts[0]))
        means[begin : begin + some] = np.take_along_axis(a_SV - b_SV, drawn_SV, axis=1).mean(axis=1)
    points_V = 100 * (sides[0].mean(axis=0) - sides[1].mean(axis=0))
    return (float(points_V.mean()), *_middle(100 * means, level))


def _of_drawn_trainings(hits_RV: NDArray[np.float64], samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    trainings = len(hits_RV)
    times_SR = rng.multinomial(trainings, np.full(trainings, 1 / trainings), size=samples)
    return np.asarray(times_SR / trainings @ hits_RV)


def _middle(means: NDArray[np.float64], level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise UsageError(f"level is {level}; it lies between 0 and 1, as 0.95")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
