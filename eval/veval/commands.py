"""What each command does: from weights and shards to a result. Any program may call these.

A result is one JSON object: the numbers at its top, and all that they depend on.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from veval.features import feature_file
from veval.features.extract import How, extract
from veval.features.feature_file import Kept
from veval.features.table import Features
from veval.inputs import Facts, Weights, demand_labels
from veval.protocol import Protocol
from veval.results import result
from veval.results.bootstrap import interval
from veval.tasks import knn, linear
from veval.tasks.classifier import Classifier
from veval.tasks.retrieval import KS, LeaveOut, refuse_engine, retrieve
from veval.tasks.video_accuracy import test
from vprep.errors import UsageError
from vtrain.data.dataset import Videos
from vtrain.data.shard_set import ShardSet

Chosen = dict[str, Videos]
Numbers = dict[str, Any]


def retrieval(
    weights: Weights, videos: Chosen, data: Facts, protocol: Protocol, *, how: How, kept: Path | None = None,
    leave_out: LeaveOut = "nothing", engine: str = "exact", ks: Sequence[int] = KS,
) -> Facts | None:  # fmt: skip
    """The second split is searched for the videos of the first. With several processes only the first one's is not
    None."""
    began = time.monotonic()
    refuse_engine(engine)
    query, gallery = videos

    def searched(found: Kept, hashes: dict[str, str], pool: str) -> Numbers:
        sides = [with_content(found.of(split, pool), hashes) for split in (query, gallery)]
        got = retrieve(*sides, ks=ks, level=protocol.level, leave_out=leave_out, engine=engine, device=str(how.device))
        return {
            **got.entries(),
            "intervals": {f"top{k}": interval(got.hits(k)) for k in ks},
            "same_content": [{"query": one, "gallery": other} for one, other in got.duplicates],
            "videos": got.videos(),
        }

    with extracted(weights, videos, data, protocol, how, kept, gallery) as found:
        if found is None:
            return None
        hashes = contents(data)
        by_pool = {pool: searched(found, hashes, pool) for pool in found.arrays}
    first, *others = by_pool.items()
    numbers = first[1] | {"pools": {pool: _short(told) for pool, told in others}, "dropped": found.facts["dropped"]}
    by = {"pool": first[0], "leave_out": leave_out, "engine": engine}
    return finished("retrieval", numbers, found.facts, began, by)


def _short(told: Numbers) -> Numbers:
    return {name: value for name, value in told.items() if name.startswith("top") or name == "intervals"}


def by_linear(
    weights: Weights, videos: Chosen, data: Facts, protocol: Protocol, *, how: How, kept: Path | None = None,
    few: int | None = None, seed: int = 0,
) -> Facts | None:  # fmt: skip
    """A linear layer on frozen features; `videos` are test and train."""
    began = time.monotonic()
    refuse_few(videos, few, seed)
    with extracted(weights, videos, data, protocol, how, kept, "") as found:
        if found is None:
            return None
        asked, known = _sides(found, videos, few, seed)
        told = linear.classify(known, asked, seed=seed, device=str(how.device))
    by = {"pool": next(iter(found.arrays)), "few": few, "few_seed": seed if few else None}
    return finished("linear", _classified(told, found), found.facts, began, by)


def by_neighbours(
    weights: Weights, videos: Chosen, data: Facts, protocol: Protocol, *, how: How, kept: Path | None = None,
    few: int | None = None, seed: int = 0, k: int = 20, temperature: float = 0.07, votes: str = "similarity",
) -> Facts | None:  # fmt: skip
    """The nearest labelled videos vote; `videos` are test and train."""
    began = time.monotonic()
    knn.refuse_votes(votes)
    refuse_few(videos, few, seed)
    with extracted(weights, videos, data, protocol, how, kept, "") as found:
        if found is None:
            return None
        asked, known = _sides(found, videos, few, seed)
        told = knn.classify(known, asked, k=k, temperature=temperature, votes=votes, device=str(how.device))
    by = {"pool": next(iter(found.arrays)), "k": k, "temperature": temperature, "votes": votes}
    by |= {"few": few, "few_seed": seed if few else None}
    return finished("knn", _classified(told, found), found.facts, began, by)


def _sides(found: Kept, videos: Chosen, few: int | None, seed: int) -> tuple[Features, Features]:
    asked, known = (found.of(split) for split in videos)
    return asked, known if few is None else linear.few(known, few, seed)


def refuse_few(videos: Chosen, few: int | None, seed: int) -> None:
    """What has too few videos is known before features are made."""
    _, known = videos.values()
    if few is not None:
        label, nothing = known.label.astype(np.int64), np.zeros((len(known), 1), np.float32)
        linear.few(Features(keys=known.keys.to_pylist(), label=label, features=nothing), few, seed)


def _classified(told: knn.Classified, found: Kept) -> Numbers:
    return {
        **told.entries(),
        "intervals": {"top1": interval(told.hits())},
        "dropped": found.facts["dropped"],
        "videos": told.videos(),
    }


def testing(
    network: Classifier, videos: Videos, data: Facts, protocol: Protocol, *, how: How, logits: Path | None
) -> Facts | None:
    """A fine-tuned network on whole videos."""
    began = time.monotonic()
    found = test(network, videos, protocol, data=data, how=how, logits=logits)
    return None if found is None else finished("test", tested(found), found, began, {})


def tested(found: Facts) -> Numbers:
    """The numbers of a test, with intervals."""
    right = np.array([one["named"] == one["class"] for one in found["predictions"] if one["class"] is not None])
    numbers = {name: value for name, value in found.items() if name not in ("protocol", "weights", "data")}
    return numbers | {"intervals": {"top1": interval(right)}}


def finished(kind: str, numbers: Numbers, facts: Facts, began: float, more: dict[str, Any]) -> Facts:
    """The whole result."""
    given = {name: value for name, value in more.items() if value is not None}
    return {
        "schema": 1,
        "kind": kind,
        **numbers,
        "protocol": {**facts["protocol"], **given},
        "weights": facts["weights"],
        "data": facts["data"],
        "precision": facts["precision"],
        "versions": result.versions(),
        "made": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "seconds": round(time.monotonic() - began, 1),
    }


@contextmanager
def extracted(
    weights: Weights, videos: Chosen, data: Facts, protocol: Protocol, how: How, kept: Path | None, gallery: str
) -> Iterator[Kept | None]:
    """The features of all splits, from the file `kept` if it has them; else that is where they go, or nowhere."""
    for split in videos.values():
        demand_labels(split, data)
    rank, world = how.place
    if kept is None and world > 1:
        raise UsageError(f"{world} processes share their work over a file; name one: --features FILE.parquet")
    with tempfile.TemporaryDirectory(prefix="veval-") as folder:
        out = kept or Path(folder) / "features.npz"
        extract(weights, videos, protocol, out, data=data, how=how, gallery=gallery)
        yield feature_file.read(out) if rank == 0 else None


def contents(data: Facts) -> dict[str, str]:
    """The hashes of the videos' frames, by key."""
    return ShardSet.open(data["shards"]).content_hashes()


def with_content(features: Features, hashes: dict[str, str]) -> Features:
    """With what tells which videos are duplicates."""
    return replace(features, group=[hashes.get(key) or "" for key in features.keys])
