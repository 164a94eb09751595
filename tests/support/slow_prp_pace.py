"""The targets, masks and losses of PRP and Pace as their papers and authors' code state them: one number at a time,
in double precision, from the raw frames of a window."""

from itertools import product
from math import exp, floor, log

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def between(frames: Array, place: float) -> Array:
    """Linear interpolation along the first axis; beyond the last frame there is only the last one."""
    last = len(frames) - 1
    before = min(max(floor(place), 0), last)
    share = min(max(place - before, 0.0), 1.0)
    return np.asarray((1 - share) * frames[before] + share * frames[min(before + 1, last)])


def resized(picture: Array, height: int, width: int) -> Array:
    """Bilinear, pixel centres at halves (align_corners off)."""
    tall, wide = picture.shape
    rows = [between(picture, max((y + 0.5) * tall / height - 0.5, 0)) for y in range(height)]
    columns = [between(np.array(rows).T, max((x + 0.5) * wide / width - 0.5, 0)) for x in range(width)]
    return np.array(columns).T


def pooled(picture: Array) -> Array:
    """Means over squares with a quarter of the side, a sixteenth of it apart."""
    side = len(picture)
    size, step = side // 4, max(1, side // 16)
    places = range(0, side - size + 1, step)
    return np.array([[picture[y : y + size, x : x + size].mean() for x in places] for y in places])


def target(window: Array, speed: int, rate: int, frames: int) -> tuple[Array, list[bool]]:
    """`rate` times as many frames as the clip has; and which of them are in the video."""
    places = [number * speed / rate for number in range(frames * rate)]
    return np.stack([between(window, place) for place in places]), [place == floor(place) for place in places]


def released_mask(window: Array, speed: int, rate: int, frames: int) -> Array:
    """Weights [T, C, H, W]; the window is [T, C, H, W]."""
    made, channels, side = frames * rate, window.shape[1], window.shape[2]
    mask = np.zeros((made, channels, side, side))
    for segment in range(speed):
        shown = window[segment * frames : (segment + 1) * frames]
        four = [shown[round(number * (frames - 1) / 3)] for number in range(4)]
        maps, constant = [], []
        for channel in range(channels):
            moved = pooled(sum((four[n + 1][channel] - four[n][channel]) ** 2 for n in range(3)) / 3)
            levels = (moved - moved.min() + 1e-6) / (moved.max() - moved.min() + 1e-6)
            constant.append(moved.max() == moved.min())
            maps.append(resized(0.8 + 1.2 * levels, side, side))
        each = made // speed
        mask[segment * each : (segment + 1) * each] = 1.0 if all(constant) else np.array(maps)
    return mask


def paper_mask(window: Array, speed: int, rate: int, frames: int) -> Array:
    """Section 3.2, literally: all neighbours of the window are compared, then pooled with stride."""
    made, side = frames * rate, window.shape[2]
    moved = [((window[t] - window[t + 1]) ** 2).sum(0) for t in range(len(window) - 1)]
    starts = range(0, len(moved) - (frames - 1) + 1, frames)
    maps = np.array([pooled(sum(moved[t : t + frames - 1]) / (frames - 1)) for t in starts])
    assert len(maps) == speed
    if maps.max() == maps.min():
        return np.ones((made, 1, side, side))
    levels = 1.2 / (maps.max() - maps.min()) * (maps - maps.min()) + 0.8
    large = np.array([resized(level, side, side) for level in levels])
    places = [max((t + 0.5) * speed / made - 0.5, 0) for t in range(made)]
    return np.array([between(large, place)[None] for place in places])


def reconstruction(made: Array, wanted: Array, mask: Array, counts: list[bool]) -> float:
    """Of one sample."""
    frames = [(mask[t] * (made[t] - wanted[t]) ** 2).mean() for t in range(len(wanted)) if counts[t]]
    return float(sum(frames) / len(frames))


def cross_entropy(logits: Array, labels: list[int]) -> float:
    """Equation 1 of both papers."""
    each = [log(sum(exp(x) for x in row)) - row[label] for row, label in zip(logits, labels, strict=True)]
    return sum(each) / len(each)


def contrastive(features: Array, kinds: list[int], softmax: str) -> float:
    """Pace, equations 2 and 3: positives have the anchor's kind."""
    count = len(features)
    pairs = [(i, j) for i, j in product(range(count), repeat=2) if i != j]
    similar = {pair: exp(float(features[pair[0]] @ features[pair[1]])) for pair in pairs}
    total = 0.0
    for i in range(count):
        positives = [j for j in range(count) if j != i and kinds[j] == kinds[i]]
        below = sum(value for (anchor, _), value in similar.items() if softmax == "batch" or anchor == i)
        for j in positives:
            total -= log(similar[i, j] / below) / len(positives)
    return total / count
