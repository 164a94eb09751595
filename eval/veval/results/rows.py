"""The rows of a report: all that it says about a run, for the tables of every form and for the page of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

from veval.results.report import Against, Line, Report
from veval.results.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """Published values by metric, all in the same tables."""

    places: tuple[str, ...]
    values: dict[str, float]

    def __str__(self) -> str:
        return ", ".join(self.places)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A run with its numbers: the metrics in the order of their k, the published values, and the gain."""

    run: Run
    lines: list[Line]
    gain: Against | None  # over the network from scratch, by top-1

    @property
    def metrics(self) -> list[str]:
        return [line.metric for line in self.lines]

    @property
    def notes(self) -> list[str]:
        """All notes of the row, each once."""
        found = [note for line in self.lines for note in line.notes] + (self.gain.notes if self.gain else [])
        return list(dict.fromkeys(found))

    @property
    def published(self) -> list[Printed]:
        """The published values that were measured in the same way; tables with the same values come together."""
        by_place: dict[str, dict[str, float]] = {}
        for line in self.lines:
            for found in line.published:
                by_place.setdefault(found["place"], {}).setdefault(line.metric, found["value"])
        together: list[Printed] = []
        for values in by_place.values():
            if all(other.values != values for other in together):
                places = tuple(place for place, others in by_place.items() if others == values)
                together.append(Printed(places=places, values=values))
        return together

    @property
    def nearest(self) -> Printed | None:
        """The nearest published values where none was measured in the same way; the notes say what differs."""
        found = {line.metric: line.nearest for line in self.lines if line.nearest}
        places = tuple(dict.fromkeys(nearest["place"] for nearest in found.values()))
        values = {metric: nearest["value"] for metric, nearest in found.items()}
        return Printed(places=places, values=values) if found else None

    def __getitem__(self, metric: str) -> Line | None:
        return next((line for line in self.lines if line.metric == metric), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Rows of the same task and data set, which make one table."""

    task: str
    data: str
    rows: list[Row]

    @property
    def fold(self) -> str | None:
        """The fold or folds of all rows; None where they differ."""
        folds = {row.run.fold for row in self.rows}
        return folds.pop() if len(folds) == 1 else None

    @property
    def metrics(self) -> list[str]:
        """The metrics of any row, in the order of their k."""
        found = {metric for row in self.rows for metric in row.metrics}
        return sorted(found, key=lambda metric: int(metric.removeprefix("top")))


def rows(found: Report) -> list[Row]:
    """Return the rows of a report, in the order of its runs."""
    gains = {gain.run: gain for gain in found.against}
    lines: dict[int, list[Line]] = {}
    for line in found.lines:
        lines.setdefault(line.run, []).append(line)
    return [Row(run=run, lines=lines.get(run.number, []), gain=gains.get(run.number)) for run in found.runs]


def sections(found: Report) -> list[Section]:
    """Return the tables of a report, in the order of their first rows."""
    together: dict[tuple[str, str], list[Row]] = {}
    for row in rows(found):
        together.setdefault((row.run.task, row.run.data), []).append(row)
    return [Section(task=task, data=data, rows=of) for (task, data), of in together.items()]


def numbered(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Return each note of the rows once, with the numbers of its rows; a note's own number is its place, from 1."""
    found: dict[str, list[int]] = {}
    for row in rows:
        for note in row.notes:
            found.setdefault(note, []).append(row.run.number)
    return found
