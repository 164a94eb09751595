"""The words of the tables in all forms: titles, and what stands below a row."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from veval.results.rows import Row, Section
from veval.results.runs import NONE
from vprep.text import one_line

TASKS = {
    "retrieval": "Retrieval on {data}: % of queries with their class among the k nearest",
    "finetune": "Fine-tuning on {data}: % of videos whose class is right",
    "test": "Fine-tuned networks on {data}: % of videos whose class is right",
    "linear": "Linear layer on frozen features, {data}: % of videos whose class is right",
    "knn": "Votes of the nearest videos, {data}: % of videos whose class is right",
}
LONGEST = 200  # characters of a cell

Kind = Literal["deviation", "interval", "published", "difference", "nearest", "scratch", "gain"]


@dataclass(frozen=True, slots=True)
class Below:
    """A line below a row: numbers by metric, and what they are."""

    kind: Kind
    label: str
    values: dict[str, str]


def below(row: Row) -> Iterator[Below]:
    """Yield what a row is compared with, and how sure its values are."""
    deviations = {line.metric: f"{line.deviation:.2f}" for line in row.lines if line.deviation is not None}
    intervals = {line.metric: around(line.interval) for line in row.lines if line.interval}
    differences = {line.metric: f"{line.difference:+.2f}" for line in row.lines if line.difference is not None}
    yield Below("deviation", f"{row.run.over}: standard deviation", deviations)
    yield Below("interval", "95 % interval", intervals)
    for printed in row.published:
        values = {metric: as_printed(value) for metric, value in printed.values.items()}
        yield Below("published", f"published: {printed}", values)
    yield Below("difference", "difference to the first" if len(row.published) > 1 else "difference", differences)
    if row.nearest is not None:
        values = {metric: f"({as_printed(value)})" for metric, value in row.nearest.values.items()}
        yield Below("nearest", f"nearest published: {row.nearest}", values)
    if row.gain is not None:
        of = ", ".join(filter(None, [f"row {row.gain.scratch_run}", row.gain.scratch_over]))
        yield Below("scratch", f"from scratch: {of}", {row.gain.metric: f"{row.gain.scratch:.2f}"})
        yield Below("gain", "gain from pre-training", {row.gain.metric: f"{row.gain.points:+.2f}"})


def gain_interval(row: Row) -> str:
    """Return the interval of the gain and what it shows; nothing where there is none."""
    return f"{around(row.gain.interval, '+.2f')} {row.gain.shown}" if row.gain and row.gain.interval else ""


def title(section: Section) -> str:
    """Return what a table measures, and on which videos."""
    return TASKS[section.task].format(data=cell(", ".join(filter(None, [section.data, folds(section.fold)]))))


def folds(fold: str | None) -> str:
    """Return the words for one fold or several; nothing for none."""
    return "" if fold in (None, NONE) else f"fold{'s' if ',' in str(fold) else ''} {fold}"


def metric_name(metric: str) -> str:
    """Return a metric as papers write it, as in top-5."""
    return f"top-{metric.removeprefix('top')}"


def cell(word: str) -> str:
    """Return a word as a single printable line of bearable length."""
    shown = one_line(word)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 3]}..."


def as_printed(value: float) -> str:
    """Return a published number with the digits that the paper printed, which are one or two."""
    return f"{value:.1f}" if round(value, 1) == value else f"{value:.2f}"


def around(interval: tuple[float, float] | None, form: str = ".2f") -> str:
    """Return an interval in brackets; nothing where there is none."""
    return "" if interval is None else f"[{interval[0]:{form}}, {interval[1]:{form}}]"


def numbered(word: str, found: list[int]) -> str:
    """Return a word with its numbers, as in rows 1, 2."""
    return f"{word}{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"
