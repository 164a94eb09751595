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
from veval.results.published import Published
from veval.results.result import Result
from veval.results.runs import FILE, NONE, Run, run_of
from vprep.errors import UsageError
from vtrain.data.shard_spec import upscaling_note

ON_TEST = "best-on-test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The description of a measurement."""

    run: int  # its number in the report
    task: str
    metric: str
    data: str
    fold: str
    method: str
    backbone: str
    pretrain: str
    protocol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(Measured):
    """A measured number, and the published numbers for it."""

    recipe: str
    weights: str
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

    value: float
    over: str  # the seeds and folds that the value is a mean over
    scratch: float
    scratch_run: int
    scratch_over: str
    points: float
    interval: tuple[float, float] | None
    bootstrap: str | None  # what the interval draws: videos or groups
    shown: str  # by the interval: better, worse, or neither
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All numbers, the gains over networks from scratch, and the runs that both are about."""

    lines: list[Line]
    against: list[Against]
    runs: list[Run]


def report(files: Sequence[Path], folds: Folds = "separate", over: Over | None = None) -> Report:
    """Return the results of files, compared with the published numbers and with the network from scratch.

    `over` is what intervals draw: groups, which are films, or videos; None: as in each result, and groups for gains.
    """
    if not files:
        raise UsageError("no results are named; name some that veval wrote")
    return of_results([result.read(path) | {FILE: str(path)} for path in files], folds, over)


def of_results(results: Sequence[Result], folds: Folds = "separate", over: Over | None = None) -> Report:
    """Return the report of results that were read, as `report` does."""
    if folds not in get_args(Folds):
        raise UsageError(f"folds is '{folds}'; there are {', '.join(get_args(Folds))}")
    found = groups([entry for several in results for entry in pool_by_pool(several)], folds)
    runs = [run_of(group, number) for number, group in enumerate(found, 1)]
    described = list(zip(found, runs, strict=True))
    return Report(
        lines=[_line(group, run, metric, over) for group, run in described for metric in _shown(group.first)],
        against=[_against(gain, described) for gain in gains(found, over)],
        runs=runs,
    )


def as_dict(found: Report) -> dict[str, Any]:
    """Return the report as JSON."""
    return asdict(found)


def _shown(entry: Result) -> list[str]:
    """Return the metrics to print: every k of retrieval, as in the papers, but only top-1 of classifiers."""
    return result.metrics(entry) if entry["kind"] == "retrieval" else ["top1"]


def _line(group: Group, run: Run, metric: str, over: Over | None) -> Line:
    folds = ",".join(map(str, group.folds))
    answer = compare(group.results, metric, folds or None)
    around, drawn = _interval(group.first, metric, over) if len(group.results) == 1 else (None, None)
    value = group.value(metric)
    return Line(
        **_names(run, metric),
        recipe=run.recipe,
        weights=run.weights,
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


def _against(gain: Gain, described: list[tuple[Group, Run]]) -> Against:
    run, scratch = (next(run for group, run in described if group is wanted) for wanted in (gain.group, gain.scratch))
    notes = _drawn(gain.over if gain.interval else None)
    if gain.why:
        notes.append(f"no interval: {gain.why}")
    if gain.others:
        notes.append(f"further networks from scratch that fit, with other numbers: {gain.others}")
    return Against(
        **_names(run, gain.metric),
        value=gain.group.value(gain.metric),
        over=gain.group.over,
        scratch=gain.scratch.value(gain.metric),
        scratch_run=scratch.number,
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


def _names(run: Run, metric: str) -> dict[str, Any]:
    """Return the description of a measurement."""
    shared = ("task", "data", "fold", "method", "backbone", "pretrain", "protocol")
    return {"run": run.number, "metric": metric} | {name: getattr(run, name) for name in shared}


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
