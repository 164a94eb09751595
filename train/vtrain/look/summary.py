"""The last and the best value of each metric of several runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from vprep.page.axis import number
from vprep.text import one_line
from vtrain.look.curves import Curve, RunCurves
from vtrain.look.terminal import LETTERS

# Numbers about the training itself, of which none is the best.
PLAIN = ("lr", "clips_per_s", "wait", "memory_mb", "skipped", "neighbours")
HEAD = ("metric", "run", "last", "at step", "best", "at step", "chance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A metric of a run: its last value, its best one where it has one, and the accuracy of a guess if it is known."""

    last: float
    step: int
    best: float | None
    best_step: int | None
    chance: float | None


def higher_is_better(metric: str) -> bool:
    """Return whether a metric is an accuracy; of all others the lowest value is the best."""
    return metric.endswith(("accuracy", "top1"))


def value_of(run: RunCurves, metric: str) -> Value | None:
    """Return the last and the best value of a metric; None where the run has none."""
    curve = run.curves.get(metric, Curve())
    known = [(value, int(step)) for value, step in zip(curve.values, curve.steps, strict=True) if isfinite(value)]
    if not known:
        return None
    (last, step), best = known[-1], None
    if metric not in PLAIN:
        choose = max if higher_is_better(metric) else min
        best = choose(known, key=lambda pair: pair[0])
    return Value(last=last, step=step, chance=run.chance(metric), best=best and best[0], best_step=best and best[1])


def metrics_in(runs: Iterable[RunCurves]) -> list[str]:
    """Return the metrics of all runs, in the order in which the files have them."""
    return list(dict.fromkeys(name for run in runs for name in run.curves))


def as_info(runs: Sequence[RunCurves], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return the values of all runs for JSON."""
    return [{"run": run.name, "file": str(run.path), "metrics": _values(run, metrics)} for run in runs]


def rows(runs: Sequence[RunCurves], metrics: Sequence[str]) -> list[tuple[str, ...]]:
    """Return a row of texts for each metric and run that has values, as `HEAD` names them."""
    found: list[tuple[str, ...]] = []
    for metric in metrics:
        for letter, run in zip(LETTERS, runs, strict=False):
            value = value_of(run, metric)
            if value is not None:
                best = ("", "") if value.best is None else (number(value.best), f"{value.best_step:,}")
                chance = "" if value.chance is None else number(value.chance)
                found.append((one_line(metric), letter, number(value.last), f"{value.step:,}", *best, chance))
    return found


def as_lines(runs: Sequence[RunCurves], metrics: Sequence[str]) -> list[str]:
    """Return the rows as lines of text in columns; the name of a metric stands once, as do runs where there is one."""
    table = [HEAD, *rows(runs, metrics)]
    kept = [column for column in range(len(HEAD)) if any(row[column] for row in table[1:])]
    kept = [column for column in kept if column != 1 or len(runs) > 1]
    widths = {column: max(len(row[column]) for row in table) for column in kept}
    lines, before = [], ""
    for row in table:
        name = "" if row[0] == before else row[0]
        cells = [name.ljust(widths[0]), *(row[column].rjust(widths[column]) for column in kept[1:])]
        lines.append("  ".join(cells).rstrip())
        before = row[0]
    return lines


def _values(run: RunCurves, metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    values = {metric: value_of(run, metric) for metric in metrics}
    return {
        metric: {name: getattr(value, name) for name in ("last", "step", "best", "best_step", "chance")}
        for metric, value in values.items()
        if value is not None
    }
