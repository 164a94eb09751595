"""Estimate how much a percentage depends on the choice of test videos, by the bootstrap of Efron (1979).

Each sample draws all videos again, with replacement, and gives a percentage; the interval holds the middle 95 % of the
percentages. Where the names of all videos say which film each was cut from, films are drawn instead of videos, with
all their videos: clips of one film are not independent, and an interval over videos would be too narrow.

It does not show how much another training would differ. For the difference of two groups of several
trainings, trainings are drawn in the same way; for few trainings, the interval is still too narrow. If all videos are
correct, or none is, the interval is a point.

S samples   R trainings   V videos   G groups: films, or single videos
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veval.features.films import film_of
from veval.results.check import Over
from vprep.errors import UsageError

SAMPLES, LEVEL = 1000, 0.95
DRAWN_AT_ONCE = 1 << 20


def groups_of(keys: Sequence[str], over: Over | None = None) -> list[str] | None:
    """Return the film of each video to draw films; None to draw videos, as where films are not known or only one is."""
    films = [film_of(key) for key in keys] if over != "videos" else []
    known = [film for film in films if film is not None]
    return known if len(known) == len(keys) and len(set(known)) > 1 else None


def name_of(groups: Sequence[str] | None) -> Over:
    """Return what a bootstrap draws, as results name it."""
    return "videos" if groups is None else "groups"


def interval(hits: NDArray[np.floating], groups: Sequence[str] | None = None) -> tuple[float, float]:
    """Return the two percentages between which the mean of `hits` lies; each video has a hit from 0 to 1."""
    _, low, high = difference(hits, np.zeros(len(hits)), groups)
    return low, high


def difference(
    hits_a: NDArray[np.floating], hits_b: NDArray[np.floating], groups: Sequence[str] | None = None
) -> tuple[float, float, float]:
    """Return by how many points a is better than b, and the interval of this difference.

    Both have hits of the same videos in the same order, of one training [V] or of several [R, V]. Videos with the same
    word in `groups` are drawn together.
    """
    sides = [np.atleast_2d(np.asarray(hits, np.float64)) for hits in (hits_a, hits_b)]
    counts = [hits_RV.shape[1] for hits_RV in sides]
    if counts[0] != counts[1]:
        raise UsageError(f"there are hits of {counts[0]} videos and of {counts[1]}; compare results of the same videos")
    if not counts[0]:
        raise UsageError("there are hits of 0 videos; an interval needs at least 1 video")
    rng = np.random.default_rng(0)
    means = np.empty(SAMPLES)
    order_V, first_G = _grouped(groups, counts[0])
    ordered = [hits_RV[:, order_V] for hits_RV in sides]
    videos_G = np.diff(first_G, append=counts[0])
    step = max(1, DRAWN_AT_ONCE // counts[0])
    for begin in range(0, SAMPLES, step):
        samples = min(step, SAMPLES - begin)
        a_SV, b_SV = (_of_drawn_trainings(hits_RV, samples, rng) for hits_RV in ordered)
        sum_SG = np.add.reduceat(a_SV - b_SV, first_G, axis=1)
        drawn_SG = rng.integers(len(first_G), size=(samples, len(first_G)))
        sum_S = np.take_along_axis(sum_SG, drawn_SG, axis=1).sum(axis=1)
        means[begin : begin + samples] = sum_S / videos_G[drawn_SG].sum(axis=1)
    points_V = 100 * (sides[0].mean(axis=0) - sides[1].mean(axis=0))
    low, high = np.quantile(100 * means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(points_V.mean()), float(low), float(high)


def _grouped(groups: Sequence[str] | None, videos: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return an order in which the videos of each group follow each other, and where in it each group begins."""
    if groups is None:
        return np.arange(videos), np.arange(videos)
    if len(groups) != videos:
        raise UsageError(f"there are hits of {videos} videos and groups of {len(groups)}; name the group of each video")
    _, number_V = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
    order_V = np.argsort(number_V, kind="stable")
    return order_V, np.flatnonzero(np.diff(number_V[order_V], prepend=-1))


def _of_drawn_trainings(hits_RV: NDArray[np.float64], samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    trainings = len(hits_RV)
    times_SR = rng.multinomial(trainings, np.full(trainings, 1 / trainings), size=samples)
    return np.asarray(times_SR / trainings @ hits_RV)
