"""How many classes and videos a published number is about, and where a result is about other amounts.

Tests and galleries must be complete: a part of a test list may be easier or harder than all of it. Training may lack a
share of SLACK of the list, because validation videos are held out, and videos of Kinetics disappear from the web.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from veval.results.published import plain

SLACK = 0.1
FOLDS = (1, 2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """The official lists of a data set. A tuple has the number of videos in each fold."""

    classes: int
    train: tuple[int, int, int]
    test: tuple[int, int, int]


# Numbers on SSv2 are about its validation list, because its test list has no labels.
DATA_SETS = {
    "ucf101": DataSet(classes=101, train=(9537, 9586, 9624), test=(3783, 3734, 3696)),
    "hmdb51": DataSet(classes=51, train=(3570, 3570, 3570), test=(1530, 1530, 1530)),
    "ssv2": DataSet(classes=174, train=(168_913,) * 3, test=(24_777,) * 3),
}
PRETRAINING = {"kinetics400": 240_000} | {name: found.train[0] for name, found in DATA_SETS.items()}


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of classes or videos: that of the published number, and that of the result."""

    name: str
    there: int
    here: int | None

    def __str__(self) -> str:
        return f"{self.name}: {self.there} there, {'not said' if self.here is None else self.here} here"


def other_amounts(results: Sequence[Mapping[str, Any]], dataset: str, pretrain: str) -> list[str]:
    """Return the amounts in which results differ from a number on `dataset` with pre-training on `pretrain`."""
    found: dict[str, None] = {}
    for result in results:
        differing = [str(amount) for amount in _differing(result, dataset, pretrain)]
        failures = result["data"].get("failures")
        if differing and failures:
            differing.append(f"videos that vprep shard could not use: {failures} here")
        found |= dict.fromkeys(differing)
    return list(found)


def _differing(result: Mapping[str, Any], dataset: str, pretrain: str) -> Iterator[Amount]:
    known = DATA_SETS.get(plain(dataset))
    fold = (result["data"].get("fold") or 1) - 1
    fold = fold if 0 <= fold < len(FOLDS) else 0
    if known is not None:
        test = list(_tested(result, known, fold))
        yield from (amount for amount in test if amount.here != amount.there)
    trained = list(_trained(result, known, fold, pretrain))
    yield from (amount for amount in trained if abs((amount.here or 0) - amount.there) > SLACK * amount.there)


def _tested(result: Mapping[str, Any], known: DataSet, fold: int) -> Iterator[Amount]:
    classes = result["data"].get("classes") or len(result.get("per_class") or ())
    if classes:
        yield Amount("classes", known.classes, classes)
    counts = [*_counted(result), None, None]
    yield Amount("test videos", known.test[fold], counts[0])
    if result["kind"] == "retrieval":
        yield Amount("gallery videos", known.train[fold], counts[1])


def _trained(result: Mapping[str, Any], known: DataSet | None, fold: int, pretrain: str) -> Iterator[Amount]:
    """Yield the numbers of training videos that are known, held-out videos among them."""
    before = PRETRAINING.get(plain(pretrain))
    videos = _videos_of(result["weights"])
    if before and videos:
        yield Amount("videos of pre-training", before, videos)
    tuned = result.get("fine_tuned") or {}
    videos = _videos_of(tuned)
    if known and videos:
        held_out = ((tuned.get("by") or {}).get("data") or {}).get("hold_out") or 0
        yield Amount("training videos", known.train[fold], videos + held_out)


def _videos_of(weights: Mapping[str, Any]) -> int:
    data = weights.get("data")
    return int(data.get("videos") or 0) if isinstance(data, dict) else 0


def _counted(result: Mapping[str, Any]) -> list[int]:
    """Return how many videos of each split have a label and could be read, the tested split first."""
    counts = list((result["data"].get("videos") or {}).items())
    tested = counts[0][0] if counts else None
    dropped = [
        video.get("split", tested) if isinstance(video, dict) else tested for video in result.get("dropped") or ()
    ]
    lost = [dropped.count(split) for split, _ in counts]
    bare = (result.get("queries_without_label", result.get("unlabelled", 0)), result.get("gallery_without_label", 0))
    return [count - gone - none for (_, count), gone, none in zip(counts, lost, bare, strict=False)]
