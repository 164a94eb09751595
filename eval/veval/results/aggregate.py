"""Group results: several seeds of a measurement become one line, and so do several folds if the user wants.

A measurement is a task, a protocol, videos and weights; the seeds of training do not count.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np

from veval.results import bootstrap, result
from veval.results.check import OF_TENSORS, VIDEOS, Over, videos_of
from veval.results.published import METHODS
from veval.results.result import Result

Folds = Literal["separate", "averaged"]

OF_WEIGHTS = ("method", "recipe", "backbone", "settings", "step", "epochs", "kept", "data")
OF_DATA = ("hash", "split", "subset")
# By all pools of a result.
SHARED = (
    *("kind", "weights", "data", "dropped", "bootstrap", "queries_without_label", "gallery_without_label"),
    *("file", "precision", "made", "versions"),
)
OUTCOMES = ("first", "hit", "label", "predicted", "class", "named")  # entries of a video
SEEDS = ("seed", "few_seed")  # of the measurement, among the entries of a protocol
# Entries of a protocol that follow from the weights, so a network from scratch may have others.
WITH_WEIGHTS = ("name", "normalise")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Results that become one line of a table."""

    results: list[Result]

    @property
    def first(self) -> Result:
        return self.results[0]

    @property
    def folds(self) -> list[int]:
        return sorted({fold for entry in self.results if (fold := entry["data"].get("fold")) is not None})

    @property
    def over(self) -> str:
        """The seeds and folds that the value is a mean over, as in `3 seeds, 2 folds`; empty for a single result."""
        counts = {"seeds": len({seeds(entry) for entry in self.results}), "folds": len(self.folds)}
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count > 1)

    def value(self, metric: str) -> float:
        return fmean(entry[metric] for entry in self.results)

    def deviation(self, metric: str) -> float | None:
        """Return the standard deviation over seeds, each the mean of its folds; for a single seed, over folds."""
        by_seed: dict[str, list[float]] = {}
        for entry in self.results:
            by_seed.setdefault(seeds(entry), []).append(entry[metric])
        means = [fmean(values) for values in by_seed.values()]
        values = means if len(means) > 1 else [entry[metric] for entry in self.results]
        return stdev(values) if len(values) > 1 else None

    def hits(self, metric: str) -> list[dict[str, float]] | None:
        """Return the hits of each seed by fold and key."""
        found: dict[str, dict[str, float]] = {}
        for entry in self.results:
            hits = result.hits(entry, metric)
            if hits is None:
                return None
            of_seed = found.setdefault(seeds(entry), {})
            of_seed |= {f"{entry['data'].get('fold')}/{key}": hit for key, hit in hits.items()}
        return list(found.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """The gain from pre-training: a group beside the network from scratch, on the same videos."""

    group: Group
    scratch: Group
    metric: str
    points: float
    interval: tuple[float, float] | None
    over: Over  # what the interval draws
    why: str  # reason why there is no interval; empty when there is an interval
    others: int  # further groups from scratch that fit as well


def pool_by_pool(entry: Result) -> list[Result]:
    """Split a result of retrieval by the pools of its features, each of which has its own numbers."""
    others = entry.get("pools")
    found = [entry]
    for pool, numbers in others.items() if isinstance(others, dict) else ():
        if isinstance(numbers, dict) and "top1" in numbers:
            protocol = entry["protocol"] | {"pool": pool}
            shared = {name: entry[name] for name in SHARED if name in entry}
            own = {name: numbers[name] for name in (*result.metrics(numbers), "intervals") if name in numbers}
            found.append(shared | own | _videos_of_pool(entry, pool) | {"protocol": protocol})
    return found


def _videos_of_pool(entry: Result, pool: str) -> Result:
    """Return the ranks that the videos have by a pool, as a part of a result; older results do not list them."""
    videos = entry.get(VIDEOS)
    if not isinstance(videos, list) or any(pool not in video.get("pools", ()) for video in videos):
        return {}
    return {VIDEOS: [video | {"first": video["pools"][pool]} for video in videos]}


def groups(results: Sequence[Result], folds: Folds = "separate") -> list[Group]:
    """Group results, in the order of the first of each group.

    A measurement that was repeated with the same numbers counts once. Results that share a seed and a fold, but not the
    numbers, are not averaged. A result whose hash is of the weights' file, as in version 0.1, and one whose hash is of
    their tensors count once where they share seeds and fold, and the outcome for each video.
    """
    measured: dict[str, dict[str, Result]] = {}
    for entry in results:
        measured.setdefault(_measurement(entry, folds), {}).setdefault(_outcome(entry), entry)
    found = []
    for different in measured.values():
        members = _without_file_hashes(list(different.values()))
        distinct = {(seeds(entry), entry["data"].get("fold")) for entry in members}
        together = len(distinct) == len(members)
        found += [Group(results=members)] if together else [Group(results=[entry]) for entry in members]
    return found


def gains(found: Sequence[Group], over: Over | None = None) -> list[Gain]:
    """Compare each group with untrained weights of the same backbone, protocol and videos, by top-1."""
    untrained: dict[str, list[Group]] = {}
    for group in found:
        if is_scratch(group.first):
            untrained.setdefault(_apart_from_weights(group), []).append(group)
    compared = []
    for group in found:
        known = untrained.get(_apart_from_weights(group), [])
        if not known or is_scratch(group.first):
            continue
        scratch = max(known, key=lambda entry: len(entry.results))
        compared.append(_gain(group, scratch, "top1", len(known) - 1, over))
    return compared


def is_scratch(entry: Mapping[str, Any]) -> bool:
    return METHODS.get(str(entry["weights"].get("method"))) == "scratch"


def seeds(entry: Mapping[str, Any]) -> str:
    """Return all seeds in a result: of its weights, of the fine-tuning, and of the measurement."""
    tuned = entry.get("fine_tuned")
    trainings = (entry["weights"], tuned if isinstance(tuned, dict) else {})
    return json.dumps(
        [training.get("seed") for training in trainings] + [entry["protocol"].get(name) for name in SEEDS]
    )


def _gain(group: Group, scratch: Group, metric: str, others: int, over: Over | None) -> Gain:
    interval, films, why = None, None, ""
    ours, theirs = group.hits(metric), scratch.hits(metric)
    if ours is None or theirs is None:
        why = "the results do not list each video"
    elif len({frozenset(hits) for hits in (*ours, *theirs)}) > 1:
        why = "the results are about different videos"
    else:
        keys = sorted(ours[0])
        pair = [np.array([[hits[key] for key in keys] for hits in side]) for side in (ours, theirs)]
        films = bootstrap.groups_of([key.partition("/")[2] for key in keys], over)
        _, low, high = bootstrap.difference(pair[0], pair[1], films)
        interval = (low, high)
    return Gain(
        group=group, scratch=scratch, metric=metric, points=group.value(metric) - scratch.value(metric),
        interval=interval, over=bootstrap.name_of(films), why=why, others=others,
    )  # fmt: skip


def _without_file_hashes(entries: Sequence[Result]) -> list[Result]:
    """Leave out the results with the hash of a file that another result repeats with the hash of the tensors."""
    newer = [entry for entry in entries if entry["weights"].get("hash_of") == OF_TENSORS]
    if len(newer) in (0, len(entries)):
        return list(entries)
    repeated = {_of_each_video(entry) for entry in newer} - {None}
    return [entry for entry in entries if entry in newer or _of_each_video(entry) not in repeated]


def _of_each_video(entry: Result) -> str | None:
    """Return a text that is the same for results with the same seeds, numbers and outcomes; None without a list."""
    per_video = {metric: result.hits(entry, metric) for metric in result.metrics(entry)}
    if not any(per_video.values()):
        return None
    named = [(video["key"], *map(video.get, OUTCOMES)) for video in videos_of(entry)]
    numbers = {metric: entry[metric] for metric in result.metrics(entry)}
    return json.dumps([seeds(entry), entry["data"].get("fold"), numbers, sorted(named, key=str)])


def _measurement(entry: Result, folds: Folds) -> str:
    """Return a text that is the same for results of the same measurement."""
    data = _videos(entry) if folds == "averaged" else _videos(entry) | _of_fold(entry)
    weights = {name: entry["weights"].get(name) for name in OF_WEIGHTS}
    protocol = {name: value for name, value in entry["protocol"].items() if name not in SEEDS}
    return json.dumps([entry["kind"], data, weights, protocol, result.metrics(entry)], sort_keys=True)


def _videos(entry: Result) -> dict[str, Any]:
    """Return what identifies the videos of all folds. The same set may have had another name before."""
    found = {name: entry["data"].get(name) for name in OF_DATA}
    return found if found["hash"] else found | {"name": entry["data"].get("name")}


def _of_fold(entry: Result) -> dict[str, Any]:
    """Return the fold, and the videos of each split, which are fewer where only some shards were named."""
    return {name: entry["data"].get(name) for name in ("fold", "videos")}


def _outcome(entry: Result) -> str:
    """Return a text that is the same for results with the same seeds, weights and numbers."""
    numbers = {metric: entry[metric] for metric in result.metrics(entry)}
    return json.dumps([seeds(entry), entry["data"].get("fold"), entry["weights"].get("hash"), numbers], sort_keys=True)


def _apart_from_weights(group: Group) -> str:
    entry = group.first
    data = _videos(entry) | (_of_fold(entry) if len(group.folds) < 2 else {})
    network = {name: entry["weights"].get(name) or None for name in ("backbone", "settings")}
    protocol = {name: value for name, value in entry["protocol"].items() if name not in (*SEEDS, *WITH_WEIGHTS)}
    return json.dumps([entry["kind"], data, group.folds, network, protocol], sort_keys=True)
