"""Show a report on a terminal: one row for each run, below it what it is compared with, and the notes at the end.

No line is wider than the terminal. What does not fit is left out, and the last lines say what that is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Group as Stack
from rich.console import RenderableType
from rich.text import Text

from veval.results import rows as rows_of
from veval.results.report import Report
from veval.results.rows import Row, Section
from veval.results.runs import NONE
from veval.results.tables.columns import left, right, shares, wrapped
from veval.results.tables.words import (
    Below,
    around,
    below,
    cell,
    folds,
    gain_interval,
    metric_name,
    numbered,
    title,
)
from vprep.text import one_line

NARROWEST = 60  # columns
NUMBER = 4  # columns before the first cell of a row
GAP = 2
LABEL = 42  # columns before the first metric that are enough for what most values are
LEAST = 7  # columns of a cell that is cut
HEAD = ("method", "backbone", "pre-trained")
COLOURS = {"better": "green", "worse": "red"}


@dataclass(slots=True)
class LeftOut:
    """What does not fit into the width."""

    metrics: dict[str, None] = field(default_factory=dict)
    details: dict[str, None] = field(default_factory=dict)
    cut: dict[str, None] = field(default_factory=dict)

    def __str__(self) -> str:
        cut = f"the ends of {', '.join(self.cut)}" if self.cut else ""
        return "; ".join(filter(None, [", ".join(self.metrics), ", ".join(self.details), cut]))


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a table: those that describe a run, and one for each metric."""

    width: int
    cells: list[int]  # of the description
    metrics: list[str]
    column: int  # of a metric, with the gap before it
    intervals: bool  # whether the column holds an interval

    @property
    def label(self) -> int:
        """The columns before the first metric: for the description, or where there is room for the label of values."""
        described = NUMBER + sum(self.cells) + GAP * (len(self.cells) - 1)
        return min(self.width - self.column * len(self.metrics), max(described, LABEL))


def terminal(found: Report, width: int) -> RenderableType:
    """Return a report for a terminal of `width` columns."""
    width = max(width, NARROWEST)
    notes, missing = rows_of.numbered(rows_of.rows(found)), LeftOut()
    lines = [line for section in rows_of.sections(found) for line in _table(section, list(notes), width, missing)]
    if notes:
        lines.append(Text("Notes", "bold"))
    for number, (note, of_rows) in enumerate(notes.items(), 1):
        lines += map(Text, wrapped(f"{number}. {one_line(note)} ({numbered('row', of_rows)})", width, 0, 4))
    if said := str(missing):
        words = f"Left out in {width} columns: {said}. A wider terminal, --csv and --json have them."
        lines += [Text(), *map(Text, wrapped(words, width))]
    return Stack(*lines)


def _table(section: Section, notes: Sequence[str], width: int, missing: LeftOut) -> Iterator[Text]:
    layout = _layout(section, width)
    left_out = [metric for metric in section.metrics if metric not in layout.metrics]
    missing.metrics |= dict.fromkeys(map(metric_name, left_out))
    for line in wrapped(title(section), width):
        yield Text(line, "bold")
    head = _described(("", *HEAD), layout)
    yield Text(head + _values({name: metric_name(name) for name in layout.metrics}, layout))
    yield Text("-" * (layout.label + layout.column * len(layout.metrics)))
    for row in section.rows:
        yield from _row(row, layout, section.fold, notes, missing)
        yield Text()


def _layout(section: Section, width: int) -> Layout:
    """Return the columns that fit: metrics narrow enough for a value or, in a wide terminal, for an interval."""
    wanted = [max(cell_len(word) for word in column) for column in zip(HEAD, *map(_cells, section.rows), strict=True)]
    least = [min(each, LEAST) for each in wanted]
    around_of = [around(line.interval) for row in section.rows for line in row.lines]
    interval = max((len(text) for text in around_of), default=0) + GAP
    room = width - NUMBER - GAP * (len(wanted) - 1)
    value = GAP + max(len(metric_name(name)) for name in section.metrics)
    count = len(section.metrics)
    intervals = interval > GAP and room - sum(wanted) >= interval * count
    column = max(value, interval) if intervals else max(value, GAP + len("+10.00"))
    shown = section.metrics[: max(1, min(count, (room - sum(least)) // column))]
    return Layout(width, shares(wanted, least, room - column * len(shown)), shown, column, intervals)


def _cells(row: Row) -> list[str]:
    return [cell(word) for word in (row.run.method, row.run.backbone, row.run.pretrain)]


def _described(cells: Sequence[str], layout: Layout) -> str:
    number, *others = cells
    texts = [left(text, width) for text, width in zip(others, layout.cells, strict=True)]
    return left(right(number, NUMBER - 2) + "  " + "  ".join(texts), layout.label)


def _values(texts: dict[str, str], layout: Layout) -> str:
    return "".join(right(texts.get(metric, ""), layout.column) for metric in layout.metrics).rstrip()


def _row(row: Row, layout: Layout, shown_fold: str | None, notes: Sequence[str], missing: LeftOut) -> Iterator[Text]:
    values = {line.metric: f"{line.value:.2f}" for line in row.lines}
    cells = _cells(row)
    for name, text, width in zip(HEAD, cells, layout.cells, strict=True):
        if cell_len(text) > width:
            missing.cut[f"{name} in row {row.run.number}"] = None
    yield Text(_described((str(row.run.number), *cells), layout) + _values(values, layout), "bold")
    details = _details(row, shown_fold, layout.width, notes, missing)
    yield from map(Text, wrapped(details, layout.width, NUMBER, NUMBER + 2))
    for line in below(row):
        if line.values:
            yield from _below(line, row, layout, missing)


def _details(row: Row, shown_fold: str | None, width: int, notes: Sequence[str], missing: LeftOut) -> str:
    """Return how a run was measured; with its recipe and weights where these fit into the line."""
    own = [number for number, note in enumerate(notes, 1) if note in row.notes]
    end = [numbered("note", own)] if own else []
    words = [cell(row.run.protocol), *([] if shown_fold else filter(None, [folds(row.run.fold)]))]
    for name, several in (("recipe", "recipes"), ("weights", "hashes of weights")):
        value = cell(getattr(row.run, name))
        more = [*words, f"{name} {value}"]
        if value == NONE:
            continue
        if cell_len("; ".join(more + end)) + NUMBER <= width:
            words = more
        else:
            missing.details[several] = None
    return "; ".join(words + end)


def _below(line: Below, row: Row, layout: Layout, missing: LeftOut) -> Iterator[Text]:
    values = {metric: _aligned(value) for metric, value in line.values.items() if metric in layout.metrics}
    if line.kind == "gain":
        yield from _gained(line, row, layout)
    elif line.kind == "interval" and not layout.intervals:
        first, *others = line.values
        yield from _labelled(f"{line.label} of {metric_name(first)}: {line.values[first]}", {}, layout)
        if others:
            missing.details["intervals of further metrics"] = None
    else:
        yield from _labelled(line.label, values, layout)


def _gained(line: Below, row: Row, layout: Layout) -> Iterator[Text]:
    """Yield the gain, with its interval beside it or below it."""
    style = COLOURS.get(row.gain.shown if row.gain else "", "")
    *lines, last = _labelled(line.label, line.values, layout, style)
    yield from lines
    around = gain_interval(row)
    if around and last.cell_len + GAP + cell_len(around) <= layout.width:
        yield last + Text(f"  {around}", style)
    else:
        yield last
        if around:
            yield from _labelled(f"95 % interval of the gain: {around}", {}, layout, style)


def _aligned(value: str) -> str:
    """Return a number whose point stands below those of two decimals."""
    whole, point, digits = value.partition(".")
    return f"{whole}{point}{digits}" + " " * (3 - len(point + digits)) if value[-1:].isdigit() else value


def _labelled(label: str, values: dict[str, str], layout: Layout, style: str = "") -> Iterator[Text]:
    """Yield a line below a row: what the values are, and the values; a long label has lines of its own."""
    *lines, last = wrapped(cell(label), layout.width, NUMBER, NUMBER + 2)
    if values and cell_len(last) > layout.label:
        lines, last = [*lines, last], ""
    yield from (Text(line, style) for line in lines)
    yield Text(left(last, layout.label) + _values(values, layout) if values else last, style)
