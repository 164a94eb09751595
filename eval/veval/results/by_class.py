"""How often each class of a result is correct, what is taken for what, and where two results differ.

A network of retrieval predicts the class of the nearest neighbour. Videos without a label do not count.

K classes
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veval.results import result as results
from veval.results.check import videos_of
from veval.results.class_names import in_order, name_of
from veval.results.neighbours import read_neighbours
from veval.results.result import Result
from vprep.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The true and the predicted class of a video, or of one of its clips."""

    key: str
    label: str
    predicted: str

    @property
    def is_correct(self) -> bool:
        return self.label == self.predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassAccuracy:
    """How many percent of the videos of a class are correct."""

    name: str
    videos: int
    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """The number of videos, or of clips in retrieval on that level, by true and predicted class."""

    classes: list[str]
    counts: NDArray[np.int64]  # [K, K], the true class first

    def worst(self, most: int = 10) -> list[tuple[str, str, int]]:
        """Return the pairs of a true class and a wrong one that were confused most often, with their count."""
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        rows, columns = np.nonzero(wrong)
        pairs = sorted(
            (-int(wrong[row, column]), int(row), int(column)) for row, column in zip(rows, columns, strict=True)
        )
        return [(self.classes[row], self.classes[column], -count) for count, row, column in pairs[:most]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassDifference:
    """The percentages of a class in two results, of the videos that both have."""

    name: str
    videos: int
    first: float
    second: float

    @property
    def points(self) -> float:
        """By how many points the second result is better."""
        return self.second - self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two results on the videos that both have."""

    classes: list[ClassDifference]  # the largest gain first
    shared: int  # videos in both
    gained: list[str]  # keys of videos that only the second result has correct
    lost: list[str]  # keys of videos that only the first result has correct


def predictions(result: Result) -> list[Prediction]:
    """Return the prediction for each video; empty where the result lists none, as retrieval without neighbours."""
    if result["kind"] == "retrieval":
        return _by_nearest(result) if result.get("gallery_videos") and result.get("keep") else []
    found = []
    for video in videos_of(result):
        names = ("class", "named") if "named" in video else ("label", "predicted")
        label, predicted = (video.get(name) for name in names)
        if label is not None and predicted is not None:
            pair = name_of(result, label), name_of(result, predicted)
            found.append(Prediction(key=video["key"], label=pair[0], predicted=pair[1]))
    return found


def per_class(result: Result) -> list[ClassAccuracy]:
    """Return the accuracy of each class with a tested video, by top-1; empty where the result lists no videos."""
    hits: defaultdict[str, list[float]] = defaultdict(list)
    for hit, name in _hits(result).values():
        hits[name].append(hit)
    return [
        ClassAccuracy(name=name, videos=len(hits[name]), percent=100 * sum(hits[name]) / len(hits[name]))
        for name in in_order(result, hits)
    ]


def confusion(result: Result) -> Confusion | None:
    """Return the confusion matrix over all classes that occur; None where the result lists no predictions."""
    pairs = Counter((video.label, video.predicted) for video in predictions(result))
    if not pairs:
        return None
    classes = in_order(result, (name for pair in pairs for name in pair))
    number = {name: at for at, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for (label, predicted), count in pairs.items():
        counts[number[label], number[predicted]] = count
    return Confusion(classes=classes, counts=counts)


def difference(first: Result, second: Result) -> Difference:
    """Return how two results differ, by top-1, on the videos that both list."""
    ours, theirs = _hits(first), _hits(second)
    shared = [key for key in ours if key in theirs and ours[key][1] == theirs[key][1]]
    if not shared:
        raise UsageError("the two results list no videos in common; compare results on the same split of the same set")
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for key in shared:
        by_class[ours[key][1]].append(key)
    found = [
        ClassDifference(name=name, videos=len(keys), first=_percent(ours, keys), second=_percent(theirs, keys))
        for name in in_order(first, by_class)
        for keys in [by_class[name]]
    ]
    return Difference(
        classes=sorted(found, key=lambda each: -each.points),
        shared=len(shared),
        gained=[key for key in shared if theirs[key][0] > ours[key][0]],
        lost=[key for key in shared if theirs[key][0] < ours[key][0]],
    )


def _by_nearest(result: Result) -> list[Prediction]:
    return [
        Prediction(key=query.key, label=query.label, predicted=query.neighbours[0].label)
        for query in read_neighbours(result).queries
        if query.neighbours
    ]


def _hits(result: Result) -> dict[str, tuple[float, str]]:
    """Return the hit, from 0 to 1, and the class of each video."""
    names = {video["key"]: name_of(result, _label(video)) for video in videos_of(result) if _label(video) is not None}
    return {key: (hit, names[key]) for key, hit in (results.hits(result) or {}).items() if key in names}


def _label(video: Mapping[str, Any]) -> Any:  # noqa: ANN401  a name, a number, or None
    return video.get("class") if "named" in video else video.get("label")


def _percent(hits: Mapping[str, tuple[float, str]], keys: list[str]) -> float:
    return 100 * sum(hits[key][0] for key in keys) / len(keys)
