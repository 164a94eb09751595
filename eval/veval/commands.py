"""Compute the result of each command from an evaluation. Any program may call these functions.

A result is one JSON object: the numbers at its top, and everything that they depend on.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from veval.evaluation import Classifier, Data, Evaluation, Info, Weights
from veval.features import extract, feature_file
from veval.features.feature_file import FeatureTables
from veval.features.films import film_of
from veval.features.table import Features
from veval.inputs import demand_labels
from veval.results import result
from veval.results.bootstrap import groups_of, interval, name_of
from veval.results.check import SCHEMA, Over
from veval.results.class_names import CLASS_NAMES
from veval.results.neighbours import KEEP
from veval.results.result import Result
from veval.tasks import knn as neighbours
from veval.tasks import linear as linear_layer
from veval.tasks import video_accuracy
from veval.tasks.finetune import FineTuning
from veval.tasks.finetune import finetune as tune
from veval.tasks.retrieval import KS, LeaveOut, retrieve
from veval.tasks.voting import Voting
from vprep.errors import UsageError

SEARCHED, FITTED = "searched queries", "fitted linear layers"  # for the user, before how many


def retrieval(
    evaluation: Evaluation[Weights], *, features: Path | None = None, leave_out: LeaveOut = "nothing",
    over: Over | None = None, keep: int = KEEP,
) -> Result | None:  # fmt: skip
    """Search the second split for the videos of the first split; return None in all processes but the first.

    The result lists the `keep` nearest neighbours of each query, by the features of the first pool. `over` is what the
    intervals draw: groups, which are films, or videos; None: groups where they are known.
    """
    began = time.monotonic()
    refuse_groups(evaluation.data, over)
    split, gallery = evaluation.data.videos
    tables = features_of(evaluation, features, gallery)
    if tables is None:
        return None
    hashes, execution = evaluation.data.shards.content_hashes(), evaluation.execution
    execution.begin(SEARCHED)

    def numbers_of(pool: str, keep: int) -> Info:
        sides = [with_content(tables.of(name, pool), hashes) for name in (split, gallery)]
        found = retrieve(
            *sides,
            level=evaluation.protocol.level,
            leave_out=leave_out,
            keep=keep,
            device=str(execution.device),
            progress=execution.progress,
        )
        groups = groups_of(found.keys, over)
        return {
            **found.entries(),
            "intervals": {f"top{k}": interval(found.hits(k), groups) for k in KS},
            "bootstrap": name_of(groups),
            "same_content": [{"query": query, "gallery": other} for query, other in found.duplicates],
            **found.with_neighbours(keep),
        }

    pools = enumerate(tables.arrays)
    (pool, numbers), *others = [(pool, numbers_of(pool, 0 if number else keep)) for number, pool in pools]
    for name, found in others:
        for video, other in zip(numbers["videos"], found["videos"], strict=True):
            video.setdefault("pools", {})[name] = other["first"]
    numbers |= {"pools": {name: _short(found) for name, found in others}, "dropped": tables.info["dropped"]}
    numbers |= class_names(evaluation.data)
    return finished(
        "retrieval", numbers, info_of(evaluation, tables), began, pool=pool, leave_out=leave_out, engine="exact"
    )


def _short(numbers: Info) -> Info:
    return {name: value for name, value in numbers.items() if name.startswith("top") or name == "intervals"}


def linear(
    evaluation: Evaluation[Weights], *, features: Path | None = None, few: int | None = None, seed: int = 0,
    over: Over | None = None,
) -> Result | None:  # fmt: skip
    """Train a linear layer on frozen features of the second split, and test it on the first split."""
    began = time.monotonic()
    refuse_groups(evaluation.data, over)
    refuse_few(evaluation.data, few, seed)
    tables = features_of(evaluation, features)
    if tables is None:
        return None
    test, train = _sides(tables, evaluation.data, few, seed)
    execution = evaluation.execution
    execution.begin(FITTED)
    found = linear_layer.classify(train, test, seed=seed, device=str(execution.device), progress=execution.progress)
    return finished(
        "linear",
        _numbers(found, tables, over) | class_names(evaluation.data),
        info_of(evaluation, tables),
        began,
        **_choices(tables, few, seed),
    )


def knn(
    evaluation: Evaluation[Weights], *, features: Path | None = None, few: int | None = None, seed: int = 0,
    voting: Voting | None = None, over: Over | None = None,
) -> Result | None:  # fmt: skip
    """Let the nearest labelled videos of the second split vote on the class of each video of the first split."""
    began = time.monotonic()
    refuse_groups(evaluation.data, over)
    voting = voting or Voting()
    refuse_few(evaluation.data, few, seed)
    tables = features_of(evaluation, features)
    if tables is None:
        return None
    test, train = _sides(tables, evaluation.data, few, seed)
    execution = evaluation.execution
    execution.begin(SEARCHED)
    found = neighbours.classify(train, test, voting, device=str(execution.device), progress=execution.progress)
    chosen = {"k": voting.k, "temperature": voting.temperature, "votes": voting.votes, **_choices(tables, few, seed)}
    numbers = _numbers(found, tables, over) | class_names(evaluation.data)
    return finished("knn", numbers, info_of(evaluation, tables), began, **chosen)


def _sides(tables: FeatureTables, data: Data, few: int | None, seed: int) -> tuple[Features, Features]:
    test, train = (tables.of(split) for split in data.videos)
    return test, train if few is None else linear_layer.few(train, few, seed)


def _choices(tables: FeatureTables, few: int | None, seed: int) -> dict[str, Any]:
    return {"pool": next(iter(tables.arrays)), "few": few, "few_seed": seed if few else None}


def _numbers(found: neighbours.Classified, tables: FeatureTables, over: Over | None) -> Info:
    groups = groups_of(found.keys, over)
    return {
        **found.entries(),
        "intervals": {"top1": interval(found.hits(), groups)},
        "bootstrap": name_of(groups),
        "dropped": tables.info["dropped"],
        "videos": found.videos(),
    }


def class_names(data: Data) -> Info:
    """Return the names of the classes, whose numbers are the labels of videos; nothing where the sets differ."""
    names = next(iter(data.videos.values())).classes
    return {} if names is None else {CLASS_NAMES: names}


def refuse_few(data: Data, few: int | None, seed: int) -> None:
    """Refuse a number of videos per class that not all classes have, before features are computed."""
    _, train = data.videos.values()
    if few is not None:
        label, nothing = train.label.astype(np.int64), np.zeros((len(train), 1), np.float32)
        linear_layer.few(Features(keys=train.keys.to_pylist(), label=label, features=nothing), few, seed)


def refuse_groups(data: Data, over: Over | None) -> None:
    """Refuse intervals over groups, before anything is computed, where the names of the videos say no films."""
    tested = next(iter(data.videos.values()))
    keys = tested.keys.to_pylist()
    if over == "groups" and groups_of(keys, over) is None:
        bare = next((key for key in keys if film_of(key) is None), None)
        what = "all tested videos are of one film" if bare is None else f"the name of video '{bare}' says no film"
        raise UsageError(f"--bootstrap is groups, but {what}; write --bootstrap videos, or leave it out")


def accuracy(
    evaluation: Evaluation[Classifier], *, logits: Path | None = None, over: Over | None = None
) -> Result | None:
    """Test a fine-tuned network on whole videos."""
    began = time.monotonic()
    refuse_groups(evaluation.data, over)
    numbers = video_accuracy.measure(evaluation, logits)
    if numbers is None:
        return None
    return finished("test", with_interval(numbers, over), evaluation.info("testing"), began)


def finetune(tuning: FineTuning, *, over: Over | None = None) -> Result | None:
    """Fine-tune a network and test it on whole videos."""
    began = time.monotonic()
    refuse_groups(tuning.data, over)
    found = tune(tuning)
    return None if found is None else finished("finetune", with_interval(found[0], over), found[1], began)


def with_interval(numbers: Info, over: Over | None = None) -> Info:
    """Add the interval of top-1 to the numbers of a test."""
    labelled = [video for video in numbers["predictions"] if video["class"] is not None]
    correct = np.array([video["named"] == video["class"] for video in labelled])
    groups = groups_of([video["key"] for video in labelled], over)
    return numbers | {"intervals": {"top1": interval(correct, groups)}, "bootstrap": name_of(groups)}


def finished(kind: str, numbers: Info, info: Info, began: float, **more: Any) -> Result:  # noqa: ANN401  flat JSON
    """Return the complete result; the entries of `more` that are not None are added to the protocol."""
    added = {name: value for name, value in more.items() if value is not None}
    return {
        "schema": SCHEMA,
        "kind": kind,
        **numbers,
        "protocol": {**info["protocol"], **added},
        "weights": info["weights"],
        "data": info["data"],
        "precision": info["precision"],
        "versions": result.versions(),
        "made": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "seconds": round(time.monotonic() - began, 1),
    }


def features_of(evaluation: Evaluation[Weights], file: Path | None, gallery: str = "") -> FeatureTables | None:
    """Return the features of all splits: from `file` where it has them, else computed, and kept in `file` if named.

    Several processes share the work through the file, and only the first one returns features.
    """
    for videos in evaluation.data.videos.values():
        demand_labels(videos, evaluation.data.info)
    rank, world = evaluation.execution.rank_and_world
    if file is None:
        if world > 1:
            raise UsageError(
                f"{world} processes share their work through a file; name one with --features FILE.parquet"
            )
        return extract.compute(extract.work_of(evaluation, gallery))
    extract.write(extract.work_of(evaluation, gallery), file)
    return feature_file.read(file) if rank == 0 else None


def info_of(evaluation: Evaluation[Weights], tables: FeatureTables) -> Info:
    """Return what the features depend on; a file of an older version may have another name for the same videos."""
    return {**tables.info, "data": evaluation.data.info.as_dict()}


def with_content(features: Features, hashes: dict[str, str]) -> Features:
    """Add the hashes of the videos' frames, which identify duplicates."""
    return replace(features, group=[hashes.get(key) or "" for key in features.keys])
