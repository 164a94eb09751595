"""Describe the runs of a report. A run is a group of results that differ in seeds and folds only: a row of a table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from veval.results.aggregate import Group, is_scratch
from veval.results.published import BACKBONES, METHODS
from veval.results.result import Result

NONE = "-"
FILE = "file"  # entry of a result that a report has read: its path
# Entries of a protocol that are printed.
SHORT = ("fusion", "pool", "level", "few", "k", "selection")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a number comes from: one result. None: not known."""

    file: str | None
    weights: str | None
    weights_hash: str | None
    hash_of: str | None
    recipe: str | None
    step: str | None
    epochs: float | None
    seed: str | None
    tuning_seed: str | None
    shards: str | None
    data_hash: str | None
    split: str | None
    subset: str | None
    fold: int | None
    protocol: dict[str, Any]  # all settings
    precision: str | None
    made: str | None
    versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The description of a row."""

    number: int  # from 1
    task: str
    data: str
    fold: str
    method: str
    backbone: str
    pretrain: str  # name of the data of pre-training; - for none
    recipe: str
    weights: str  # hashes
    protocol: str  # in short
    over: str  # the seeds and folds that values are a mean over; empty for a single result
    is_scratch: bool
    sources: list[Source]


def run_of(group: Group, number: int) -> Run:
    """Return the description of a group of results."""
    entry = group.first
    method, backbone = str(entry["weights"].get("method")), str(entry["weights"].get("backbone"))
    return Run(
        number=number,
        task=entry["kind"],
        data=str(entry["data"].get("name") or NONE),
        fold=",".join(map(str, group.folds)) or NONE,
        method=METHODS.get(method, method if entry["weights"].get("method") else NONE),
        backbone=BACKBONES.get(backbone, backbone),
        pretrain=_pretrain(entry),
        recipe=str(entry["weights"].get("recipe") or NONE),
        weights=", ".join(dict.fromkeys(str(each["weights"].get("hash") or NONE)[:8] for each in group.results)),
        protocol=_short(entry["protocol"]),
        over=group.over,
        is_scratch=is_scratch(entry),
        sources=[_source(each) for each in group.results],
    )


def _pretrain(entry: Result) -> str:
    data = entry["weights"].get("data")
    name = data.get("name") if isinstance(data, dict) else data
    return NONE if is_scratch(entry) or not isinstance(name, str) else name or NONE


def _short(protocol: Mapping[str, Any]) -> str:
    entries = {**protocol, "pool": protocol.get("pool") or protocol.get("pools")}
    entries = {name: value for name, value in entries.items() if value is not None}
    sizes = "x".join(str(entries[name]) for name in ("clips", "frames", "size") if name in entries)
    known = {name: entries[name] for name in SHORT if name in entries}
    words = [f"{name} {value}" if isinstance(value, int) else str(value) for name, value in known.items()]
    return " ".join(filter(None, [str(entries.get("name") or ""), sizes, *words])) or NONE


def _source(entry: Result) -> Source:
    weights, data = entry["weights"], entry["data"]
    return Source(
        file=_word(entry, FILE),
        weights=_word(weights, "path"),
        weights_hash=_word(weights, "hash"),
        hash_of=_word(weights, "hash_of"),
        recipe=_word(weights, "recipe"),
        step=_word(weights, "step"),
        epochs=weights.get("epochs"),
        seed=_word(weights, "seed"),
        tuning_seed=_word(entry.get("fine_tuned") or {}, "seed"),
        shards=_word(data, "shards"),
        data_hash=_word(data, "hash"),
        split=_word(data, "split"),
        subset=_word(data, "subset"),
        fold=data.get("fold"),
        protocol=entry["protocol"],
        precision=_word(entry, "precision"),
        made=_word(entry, "made"),
        versions=dict(_versions(entry)),
    )


def _versions(entry: Result) -> Iterator[tuple[str, str]]:
    found = entry.get("versions")
    for name, version in found.items() if isinstance(found, dict) else ():
        if isinstance(version, str):
            yield name, version


def _word(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    return None if value is None or isinstance(value, dict | list) else str(value)
