"""The numbers of the page: results beside the published ones, and what pre-training is worth."""

from collections.abc import Iterator, Mapping, Sequence

from veval.results.report import Against, Line, Report
from veval.results.rows import Printed, Row, numbered, sections
from veval.results.rows import Section as Rows
from veval.results.runs import NONE, Run
from veval.results.tables.words import metric_name
from vprep.page.document import Section
from vprep.page.html import Child, Element, el
from vprep.text import one_line

TASKS = {
    "retrieval": "Retrieval",
    "finetune": "Accuracy after fine-tuning",
    "test": "Accuracy of a fine-tuned network",
    "linear": "Linear classification of frozen features",
    "knn": "Nearest neighbours that vote",
}
SHOWN_BY = {"better": "better", "worse": "worse", "neither": "no difference shown", NONE: "not known"}
PLOT = (150.0, 18.0)  # width and height of the picture of an interval


def section(found: Report) -> Section:
    """Return all tables as a part of the page."""
    tables = sections(found)
    notes = numbered([row for table in tables for row in table.rows])
    number = {note: index for index, note in enumerate(notes, 1)}
    return Section(
        identifier="results",
        title="Results",
        lead="Percent of the tested videos. In brackets: the interval that holds 95 % of a bootstrap's samples.",
        body=[(_table(table, number) for table in tables), _gains(found), _notes(notes)],
    )


def task_and_data(task: str, data: str, fold: str) -> str:
    """Return the title of numbers of the same task and videos."""
    return one_line(f"{TASKS.get(task, task)}, {data}{'' if fold == NONE else f', fold {fold}'}")


def network(run: Run, marks: Sequence[Element] = (), *, with_fold: bool = False) -> Child:
    """Return what a row is about: method and backbone, and below, what tells it from others."""
    method = "from scratch" if run.is_scratch else run.method
    about = [] if run.pretrain == NONE else [f"pre-trained on {run.pretrain}"]
    about += [run.over] if run.over else []
    about += [f"fold {run.fold}"] if with_fold and run.fold != NONE else []
    return [
        el("span", one_line(f"{method}, {run.backbone}"), marks, class_="name"),
        el("span", one_line(", ".join([*about, run.protocol])), class_="small"),
    ]


def _table(table: Rows, number: Mapping[str, int]) -> list[Element]:
    title = task_and_data(table.task, table.data, table.fold or NONE)
    head = el("tr", el("th", "Network", scope="col"), (_head(metric) for metric in table.metrics))
    body = (line for row in table.rows for line in _lines(row, table, number))
    whole = el("table", el("thead", head), el("tbody", body), class_="results", aria_label=title)
    return [el("h3", title), el("div", whole, class_="scroll", tabindex=0, role="group", aria_label=title)]


def _head(metric: str) -> Element:
    return el("th", metric_name(metric), scope="col", class_="number")


def _lines(row: Row, table: Rows, number: Mapping[str, int]) -> Iterator[Element]:
    """Yield the row of a run, and the published values below it."""
    metrics = table.metrics
    marks = [el("sup", str(number[note])) for note in row.notes]
    head = el("th", network(row.run, marks, with_fold=table.fold is None), scope="row")
    yield el("tr", head, (_value(row[metric]) for metric in metrics), class_="run")
    for printed in row.published:
        yield _printed(row, printed, metrics, f"published: {printed}", is_same=True)
    if row.nearest and not row.published:
        yield _printed(row, row.nearest, metrics, f"nearest published: {row.nearest}", is_same=False)


def _value(line: Line | None) -> Element:
    if line is None:
        return el("td", "", class_="number")
    small = ""
    if line.interval is not None:
        small = f"[{line.interval[0]:.1f}, {line.interval[1]:.1f}]"
    elif line.deviation is not None:
        small = f"± {line.deviation:.2f}"
    return el("td", el("b", f"{line.value:.2f}"), el("span", small, class_="small"), class_="number")


def _printed(row: Row, printed: Printed, metrics: list[str], title: str, *, is_same: bool) -> Element:
    """Return the row of published values; only those of the same protocol have a difference."""
    return el(
        "tr",
        el("th", one_line(title), None if is_same else ", of another protocol", scope="row"),
        (_published(printed.values.get(metric), row[metric], is_same=is_same) for metric in metrics),
        class_="published",
    )


def _published(value: float | None, line: Line | None, *, is_same: bool) -> Element:
    if value is None or line is None:
        return el("td", "", class_="number")
    difference = f"{line.value - value:+.2f} here" if is_same else ""
    return el("td", f"{value:g}", el("span", difference, class_="small"), class_="number")


def _gains(found: Report) -> Child:
    if not found.against:
        return None
    title = "What pre-training is worth: top-1 beside the same network from scratch"
    ends = [end for gain in found.against for end in (*(gain.interval or ()), gain.points, 0.0)]
    low, high = min(ends), max(ends)
    runs = {run.number: run for run in found.runs}
    head = ("Network", "Pre-trained", "From scratch", "Points", "95 %", "", "Pre-training is")
    numbers = ("Pre-trained", "From scratch", "Points")
    columns = (el("th", name, scope="col", class_="number" if name in numbers else None) for name in head[:5])
    last = (el("td", ""), el("th", head[6], scope="col"))
    body = (_gain(gain, runs[gain.run], low, high) for gain in found.against)
    whole = el(
        "table",
        el("thead", el("tr", columns, last)),
        el("tbody", body),
        class_="results",
        aria_label=title,
    )
    return [el("h3", title), el("div", whole, class_="scroll", tabindex=0, role="group", aria_label=title)]


def _gain(gain: Against, run: Run, low: float, high: float) -> Element:
    around = f"[{gain.interval[0]:+.2f}, {gain.interval[1]:+.2f}]" if gain.interval else NONE
    task = task_and_data(gain.task, gain.data, gain.fold)
    return el(
        "tr",
        el("th", el("span", one_line(f"{run.method}, {run.backbone}"), class_="name"),
           el("span", task, class_="small"), scope="row"),
        el("td", f"{gain.value:.2f}", class_="number"),
        el("td", f"{gain.scratch:.2f}", class_="number"),
        el("td", el("b", f"{gain.points:+.2f}"), class_="number"),
        el("td", around),
        el("td", _plot(gain, low, high)),
        el("td", SHOWN_BY.get(gain.shown, gain.shown)),
    )  # fmt: skip


def _plot(gain: Against, low: float, high: float) -> Element:
    """Return an interval as a line beside zero."""
    width, height = PLOT

    def at(value: float) -> float:
        return round(5 + (value - low) / max(high - low, 1e-9) * (width - 10), 1)

    middle = height / 2
    zero = el("line", x1=at(0), x2=at(0), y1=0, y2=height, class_="zero")
    ends = gain.interval or (gain.points, gain.points)
    line = el("line", x1=at(ends[0]), x2=at(ends[1]), y1=middle, y2=middle, class_="around")
    point = el("circle", cx=at(gain.points), cy=middle, r=4, class_="point")
    return el("svg", zero, line, point, viewBox=f"0 0 {width:g} {height:g}", width=width, height=height,
              class_="interval", aria_hidden="true")  # fmt: skip


def _notes(notes: Mapping[str, object]) -> Child:
    if not notes:
        return None
    return el("ol", (el("li", one_line(note)) for note in notes), class_="notes numbered")
