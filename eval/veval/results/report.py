"""Compare results with the published numbers and with the network from scratch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from veval.results import result
from veval.results.aggregate import Folds, Gain, Group, gains, groups, pool_by_pool
from veval.results.bootstrap import groups_of, interval, name_of
from veval.results.check import Over
from veval.results.match_published import ABOUT, Answer, compare
from veval.results.published import BACKBONES, METHODS, Published
from veval.results.result import Result
from vprep.errors import UsageError
from vtrain.data.shard_spec import upscaling_note

NONE = "-"
ON_TEST = "best-on-test"
# Entries of a protocol that are printed.
SHORT = ("fusion", "pool", "level", "few", "k", "selection")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The description of a measurement: the first cells of a line."""

    task: str
    metric: str
    data: str
    fold: str
    method: str
    backbone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(Measured):
    """A measured number, and the published numbers for it."""

    recipe: str
    weights: str
    protocol: str
    value: float
    interval: tuple[float, float] | None
    deviation: float | None
    bootstrap: str | None  # what the interval draws: videos or groups
    over: str  # the seeds and folds that the value is a mean over; empty for a single result
    published: list[dict[str, Any]]  # value and table of numbers that were measured in the same way
    nearest: dict[str, Any] | None
    difference: float | None  # to the first published value
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Against(Measured):
    """The gain from pre-training, in points."""

    protocol: str
    value: float
    over: str  # the seeds and folds that the value is a mean over
    scratch: float
    scratch_over: str
    points: float
    interval: tuple[float, float] | None
    bootstrap: str | None  # what the interval draws: videos or groups
    shown: str  # by the interval: better, worse, or neither
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    lines: list[Line]
    against: list[Against]


def report(files: Sequence[Path], folds: Folds = "separate", over: Over | None = None) -> Report:
    """Read results, and compare them with the published numbers and with the network from scratch.

    `over` is what intervals draw: groups, which are films, or videos; None: as in each result, and groups for gains.
    """
    if not files:
        raise UsageError("no results are named; name some that veval wrote")
    return of_results([result.read(path) for path in files], folds, over)


def of_results(results: Sequence[Result], folds: Folds = "separate", over: Over | None = None) -> Report:
    """Compare results as `report` does."""
    if folds not in get_args(Folds):
        raise UsageError(f"folds is '{folds}'; there are {', '.join(get_args(Folds))}")
    found = groups([entry for several in results for entry in pool_by_pool(several)], folds)
    lines = [_line(group, metric, over) for group in found for metric in _shown(group.first)]
    return Report(lines=lines, against=[_against(gain) for gain in gains(found, over) if gain.metric == "top1"])


def as_dict(found: Report) -> dict[str, Any]:
    """Return the report as JSON."""
    return asdict(found)


def _shown(entry: Result) -> list[str]:
    """Return the metrics to print: every k of retrieval, as in the papers, but only top-1 of classifiers."""
    return result.metrics(entry) if entry["kind"] == "retrieval" else ["top1"]


def _line(group: Group, metric: str, over: Over | None) -> Line:
    entry = group.first
    folds = ",".join(map(str, group.folds))
    answer = compare(group.results, metric, folds or None)
    around, drawn = _interval(entry, metric, over) if len(group.results) == 1 else (None, None)
    value = group.value(metric)
    return Line(
        **_names(group, metric),
        recipe=str(entry["weights"].get("recipe") or NONE),
        weights=", ".join(str(each["weights"].get("hash") or NONE)[:8] for each in group.results),
        value=value,
        interval=around,
        bootstrap=drawn,
        deviation=group.deviation(metric),
        over=group.over,
        published=[{"value": row.value, "place": row.place} for row in answer.rows],
        nearest={"value": answer.nearest.value, "place": answer.nearest.place} if answer.nearest else None,
        difference=value - answer.rows[0].value if answer.rows else None,
        notes=[*_notes(group, answer), *_drawn(drawn)],
    )


def _interval(entry: Result, metric: str, over: Over | None) -> tuple[tuple[float, float] | None, str | None]:
    """Return the interval of a result and what it draws: as it was written, or `over` where hits are listed."""
    hits = None if over is None else result.hits(entry, metric)
    if hits is not None:
        films = groups_of(list(hits), over)
        return interval(np.array(list(hits.values())), films), name_of(films)
    found = entry.get("intervals", {}).get(metric)
    return (None, None) if found is None else ((found[0], found[1]), entry.get("bootstrap", "videos"))


def _drawn(over: str | None) -> list[str]:
    return ["the interval is over groups: clips of one film are drawn together"] if over == "groups" else []


def _against(gain: Gain) -> Against:
    notes = _drawn(gain.over if gain.interval else None)
    if gain.why:
        notes.append(f"no interval: {gain.why}")
    if gain.others:
        notes.append(f"further networks from scratch that fit, with other numbers: {gain.others}")
    return Against(
        **_names(gain.group, gain.metric),
        value=gain.group.value(gain.metric),
        over=gain.group.over,
        scratch=gain.scratch.value(gain.metric),
        scratch_over=gain.scratch.over,
        points=gain.points,
        interval=gain.interval,
        bootstrap=gain.over if gain.interval else None,
        shown=shown_by(gain.interval),
        notes=notes,
    )


def shown_by(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return NONE
    return "better" if interval[0] > 0 else "worse" if interval[1] < 0 else "neither"


def _names(group: Group, metric: str) -> dict[str, str]:
    """Return the description of a measurement as cells of a table."""
    entry = group.first
    method, backbone = str(entry["weights"].get("method")), str(entry["weights"].get("backbone"))
    return {
        "task": entry["kind"],
        "metric": metric,
        "data": str(entry["data"].get("name") or NONE),
        "fold": ",".join(map(str, group.folds)) or NONE,
        "method": METHODS.get(method, method if entry["weights"].get("method") else NONE),
        "backbone": BACKBONES.get(backbone, backbone),
        "protocol": _short(entry["protocol"]),
    }


def _short(protocol: dict[str, Any]) -> str:
    entries = protocol | {"pool": protocol.get("pool") or protocol.get("pools")}
    entries = {name: value for name, value in entries.items() if value is not None}
    sizes = "x".join(str(entries[name]) for name in ("clips", "frames", "size") if name in entries)
    known = {name: entries[name] for name in SHORT if name in entries}
    words = [f"{name} {value}" if isinstance(value, int) else str(value) for name, value in known.items()]
    return " ".join(filter(None, [str(entries.get("name") or ""), sizes, *words])) or NONE


def _notes(group: Group, answer: Answer) -> list[str]:
    rows: list[Published] = [answer.nearest] if answer.nearest else answer.rows
    notes = []
    if answer.differs:
        notes.append("; ".join(answer.differs))
    if answer.unknown:
        notes.append(f"not known for these weights: {', '.join(answer.unknown)}")
    if any(entry["protocol"].get("selection") == ON_TEST for entry in group.results):
        notes.append("the epoch was chosen on the test videos")
    dropped = sum(len(entry.get("dropped") or []) for entry in group.results)
    if dropped:
        notes.append(f"{dropped} videos could not be read and are left out")
    notes += [upscaling_note(entry["data"].get("side"), entry["protocol"].get("size") or 0) for entry in group.results]
    notes += [f"{row.place}: {row.note}" for row in rows if row.note]
    notes += [ABOUT[place] for place in dict.fromkeys((row.paper, row.task) for row in rows) if place in ABOUT]
    return list(dict.fromkeys(filter(None, notes)))
