"""Results of the same thing put together: several seeds are one line, and several folds when that is asked for.

The same thing is the same task, protocol, videos and weights, but for the seeds they were trained with.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np

from veval.results import bootstrap, result
from veval.results.published import METHODS
from veval.results.result import Result

Folds = Literal["separate", "averaged"]

OF_WEIGHTS = ("method", "recipe", "backbone", "settings", "step", "epochs", "data")
OF_DATA = ("name", "hash", "split", "subset")
ALIKE = ("kind", "weights", "data", "dropped")  # for all pools
SEEDS = ("seed", "few_seed")  # of the measuring, among a protocol's words
# What goes with the weights, in a comparison with a network that had none.
WITH_WEIGHTS = ("name", "normalise")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Results that are one line of a table."""

    results: list[Result]

    @property
    def first(self) -> Result:
        return self.results[0]

    @property
    def folds(self) -> list[int]:
        return sorted({fold for one in self.results if (fold := one["data"].get("fold")) is not None})

    @property
    def over(self) -> str:
        """What the value is the mean of."""
        counts = {"seeds": len({seeds(one) for one in self.results}), "folds": len(self.folds)}
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count > 1)

    def value(self, metric: str) -> float:
        return fmean(one[metric] for one in self.results)

    def deviation(self, metric: str) -> float | None:
        """The sample's standard deviation: of the seeds, each the mean of its folds; of the folds, if seeds are one."""
        by_seed: dict[str, list[float]] = {}
        for one in self.results:
            by_seed.setdefault(seeds(one), []).append(one[metric])
        means = [fmean(values) for values in by_seed.values()]
        values = means if len(means) > 1 else [one[metric] for one in self.results]
        return stdev(values) if len(values) > 1 else None

    def hits(self, metric: str) -> list[dict[str, float]] | None:
        """Of each seed what was right; a video of two folds is two."""
        found: dict[str, dict[str, float]] = {}
        for one in self.results:
            told = result.hits(one, metric)
            if told is None:
                return None
            of_seed = found.setdefault(seeds(one), {})
            of_seed |= {f"{one['data'].get('fold')}/{key}": hit for key, hit in told.items()}
        return list(found.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What pre-training is worth: a group against the network from scratch, on the same videos."""

    group: Group
    scratch: Group
    metric: str
    points: float
    interval: tuple[float, float] | None
    why: str  # there is no interval; empty when there is one
    others: int  # lines of the network from scratch that could have been taken as well


def pool_by_pool(one: Result) -> list[Result]:
    """A result of retrieval whose features were pooled in several ways is several: each has numbers of its own."""
    others = one.get("pools")
    found = [one]
    for pool, numbers in others.items() if isinstance(others, dict) else ():
        if isinstance(numbers, dict) and "top1" in numbers:
            protocol = one["protocol"] | {"pool": pool}
            found.append({name: one.get(name) for name in ALIKE} | numbers | {"protocol": protocol})
    return found


def groups(results: Sequence[Result], folds: Folds = "separate") -> list[Group]:
    """In the order of their first. What has no seed of its own is never averaged; what was measured again, and came to
    the same, is one."""
    alike: dict[str, dict[str, Result]] = {}
    for one in results:
        alike.setdefault(_words(one, folds), {}).setdefault(_came_to(one), one)
    found = []
    for different in alike.values():
        members = list(different.values())
        own = {(seeds(one), one["data"].get("fold")) for one in members}
        together = len(own) == len(members)
        found += [Group(results=members)] if together else [Group(results=[one]) for one in members]
    return found


def gains(found: Sequence[Group]) -> list[Gain]:
    """Each group against that of untrained weights of the same backbone, protocol and videos."""
    untrained: dict[str, list[Group]] = {}
    for group in found:
        if is_scratch(group.first):
            untrained.setdefault(_apart_from_weights(group), []).append(group)
    compared = []
    for group in found:
        known = untrained.get(_apart_from_weights(group), [])
        if not known or is_scratch(group.first):
            continue
        scratch = max(known, key=lambda one: len(one.results))
        shared = [metric for metric in result.metrics(group.first) if metric in scratch.first]
        compared += [_gain(group, scratch, metric, len(known) - 1) for metric in shared]
    return compared


def is_scratch(one: Mapping[str, Any]) -> bool:
    return METHODS.get(str(one["weights"].get("method"))) == "scratch"


def seeds(one: Mapping[str, Any]) -> str:
    """All that a result says of seeds: of its weights, of the fine-tuning, and of the measuring."""
    tuned = one.get("fine_tuned")
    places = (one["weights"], tuned if isinstance(tuned, dict) else {})
    return json.dumps([place.get("seed") for place in places] + [one["protocol"].get(name) for name in SEEDS])


def _gain(group: Group, scratch: Group, metric: str, others: int) -> Gain:
    points, interval, why = group.value(metric) - scratch.value(metric), None, ""
    ours, theirs = group.hits(metric), scratch.hits(metric)
    if ours is None or theirs is None:
        why = "the results do not tell of each video"
    elif len({frozenset(hits) for hits in (*ours, *theirs)}) > 1:
        why = "they are not of the same videos"
    else:
        keys = sorted(ours[0])
        pair = [np.array([[hits[key] for key in keys] for hits in side]) for side in (ours, theirs)]
        _, low, high = bootstrap.difference(pair[0], pair[1])
        interval = (low, high)
    return Gain(group=group, scratch=scratch, metric=metric, points=points, interval=interval, why=why, others=others)


def _words(one: Result, folds: Folds) -> str:
    """The same for results of the same thing."""
    data = {name: one["data"].get(name) for name in (*OF_DATA, *(() if folds == "averaged" else ("fold",)))}
    weights = {name: one["weights"].get(name) for name in OF_WEIGHTS}
    protocol = {name: value for name, value in one["protocol"].items() if name not in SEEDS}
    return json.dumps([one["kind"], data, weights, protocol, result.metrics(one)], sort_keys=True)


def _came_to(one: Result) -> str:
    """The same for two results of the same measurement."""
    numbers = {metric: one[metric] for metric in result.metrics(one)}
    return json.dumps([seeds(one), one["data"].get("fold"), one["weights"].get("hash"), numbers], sort_keys=True)


def _apart_from_weights(group: Group) -> str:
    one = group.first
    data = {name: one["data"].get(name) for name in OF_DATA}
    network = {name: one["weights"].get(name) or None for name in ("backbone", "settings")}
    protocol = {name: value for name, value in one["protocol"].items() if name not in (*SEEDS, *WITH_WEIGHTS)}
    return json.dumps([one["kind"], data, group.folds, network, protocol], sort_keys=True)
