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
from veval.features.table import Features
from veval.inputs import demand_labels
from veval.results import result
from veval.results.bootstrap import interval
from veval.results.result import Result
from veval.tasks import knn as neighbours
from veval.tasks import linear as linear_layer
from veval.tasks import video_accuracy
from veval.tasks.finetune import FineTuning
from veval.tasks.finetune import finetune as tune
from veval.tasks.retrieval import KS, LeaveOut, retrieve
from veval.tasks.voting import Voting
from vprep.errors import UsageError


def retrieval(
    evaluation: Evaluation[Weights], *, features: Path | None = None, leave_out: LeaveOut = "nothing"
) -> Result | None:
    """Search the second split for the videos of the first split; return None in all processes but the first."""
    began = time.monotonic()
    split, gallery = evaluation.data.videos
    tables = features_of(evaluation, features, gallery)
    if tables is None:
        return None
    hashes, device = evaluation.data.shards.content_hashes(), str(evaluation.execution.device)

    def numbers_of(pool: str) -> Info:
        sides = [with_content(tables.of(name, pool), hashes) for name in (split, gallery)]
        found = retrieve(*sides, level=evaluation.protocol.level, leave_out=leave_out, device=device)
        return {
            **found.entries(),
            "intervals": {f"top{k}": interval(found.hits(k)) for k in KS},
            "same_content": [{"query": query, "gallery": other} for query, other in found.duplicates],
            "videos": found.videos(),
        }

    (pool, numbers), *others = [(pool, numbers_of(pool)) for pool in tables.arrays]
    numbers |= {"pools": {name: _short(found) for name, found in others}, "dropped": tables.info["dropped"]}
    return finished("retrieval", numbers, tables.info, began, pool=pool, leave_out=leave_out, engine="exact")


def _short(numbers: Info) -> Info:
    return {name: value for name, value in numbers.items() if name.startswith("top") or name == "intervals"}


def linear(
    evaluation: Evaluation[Weights], *, features: Path | None = None, few: int | None = None, seed: int = 0
) -> Result | None:
    """Train a linear layer on frozen features of the second split, and test it on the first split."""
    began = time.monotonic()
    refuse_few(evaluation.data, few, seed)
    tables = features_of(evaluation, features)
    if tables is None:
        return None
    test, train = _sides(tables, evaluation.data, few, seed)
    found = linear_layer.classify(train, test, seed=seed, device=str(evaluation.execution.device))
    return finished("linear", _numbers(found, tables), tables.info, began, **_choices(tables, few, seed))


def knn(
    evaluation: Evaluation[Weights], *, features: Path | None = None, few: int | None = None, seed: int = 0,
    voting: Voting | None = None,
) -> Result | None:  # fmt: skip
    """Let the nearest labelled videos of the second split vote on the class of each video of the first split."""
    began = time.monotonic()
    voting = voting or Voting()
    refuse_few(evaluation.data, few, seed)
    tables = features_of(evaluation, features)
    if tables is None:
        return None
    test, train = _sides(tables, evaluation.data, few, seed)
    found = neighbours.classify(train, test, voting, device=str(evaluation.execution.device))
    chosen = {"k": voting.k, "temperature": voting.temperature, "votes": voting.votes, **_choices(tables, few, seed)}
    return finished("knn", _numbers(found, tables), tables.info, began, **chosen)


def _sides(tables: FeatureTables, data: Data, few: int | None, seed: int) -> tuple[Features, Features]:
    test, train = (tables.of(split) for split in data.videos)
    return test, train if few is None else linear_layer.few(train, few, seed)


def _choices(tables: FeatureTables, few: int | None, seed: int) -> dict[str, Any]:
    return {"pool": next(iter(tables.arrays)), "few": few, "few_seed": seed if few else None}


def _numbers(found: neighbours.Classified, tables: FeatureTables) -> Info:
    return {
        **found.entries(),
        "intervals": {"top1": interval(found.hits())},
        "dropped": tables.info["dropped"],
        "videos": found.videos(),
    }


def refuse_few(data: Data, few: int | None, seed: int) -> None:
    """Refuse a number of videos per class that not all classes have, before features are computed."""
    _, train = data.videos.values()
    if few is not None:
        label, nothing = train.label.astype(np.int64), np.zeros((len(train), 1), np.float32)
        linear_layer.few(Features(keys=train.keys.to_pylist(), label=label, features=nothing), few, seed)


def accuracy(evaluation: Evaluation[Classifier], *, logits: Path | None = None) -> Result | None:
    """Test a fine-tuned network on whole videos."""
    began = time.monotonic()
    numbers = video_accuracy.measure(evaluation, logits)
    return None if numbers is None else finished("test", with_interval(numbers), evaluation.info("testing"), began)


def finetune(tuning: FineTuning) -> Result | None:
    """Fine-tune a network and test it on whole videos."""
    began = time.monotonic()
    found = tune(tuning)
    return None if found is None else finished("finetune", with_interval(found[0]), found[1], began)


def with_interval(numbers: Info) -> Info:
    """Add the interval of top-1 to the numbers of a test."""
    labelled = [video for video in numbers["predictions"] if video["class"] is not None]
    correct = np.array([video["named"] == video["class"] for video in labelled])
    return numbers | {"intervals": {"top1": interval(correct)}}


def finished(kind: str, numbers: Info, info: Info, began: float, **more: Any) -> Result:  # noqa: ANN401  flat JSON
    """Return the complete result; the entries of `more` that are not None are added to the protocol."""
    added = {name: value for name, value in more.items() if value is not None}
    return {
        "schema": result.SCHEMA,
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


def with_content(features: Features, hashes: dict[str, str]) -> Features:
    """Add the hashes of the videos' frames, which identify duplicates."""
    return replace(features, group=[hashes.get(key) or "" for key in features.keys])
