"""By class: how often each is right, by how much two networks differ, and what is taken for what."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from veval.page import matrix
from veval.page.named import Named
from veval.page.tables import TASKS
from veval.results.aggregate import is_scratch
from veval.results.by_class import Confusion, Difference, confusion, difference, per_class
from vprep.errors import UsageError
from vprep.page import parts
from vprep.page.document import Section
from vprep.page.html import Child, Element, el
from vprep.text import one_line

AT_ONCE = 24  # rows of a table that are not folded
MOST_RESULTS = 6  # columns of a table
MOST_CLASSES = 1000  # rows of a table, and of a matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Results of one task on the same videos, that from scratch last."""

    task: str
    data: str
    results: list[Named]


def section(results: Sequence[Named]) -> Section | None:
    """Return all that is known by class as a part of the page; None where no result lists its videos."""
    body = [block for kind in _kinds(results) for block in _blocks(kind)]
    if not body:
        return None
    return Section(
        identifier="classes",
        title="By class",
        lead="Percent of each class that is right by top-1, and which classes are taken for others. "
        "Retrieval predicts the class of the nearest neighbour.",
        body=body,
    )


def _kinds(results: Sequence[Named]) -> list[Kind]:
    together: dict[tuple[str, str], list[Named]] = {}
    for entry in results:
        if per_class(entry.result):
            together.setdefault((entry.kind, entry.data), []).append(entry)
    ordered = {key: sorted(found, key=lambda entry: is_scratch(entry.result)) for key, found in together.items()}
    return [Kind(task=task, data=data, results=found) for (task, data), found in ordered.items()]


def _blocks(kind: Kind) -> Iterator[Child]:
    yield el("h3", one_line(f"{TASKS.get(kind.task, kind.task)}, {kind.data}"))
    if len(kind.results) > MOST_RESULTS:
        yield el("p", f"{MOST_RESULTS} of {len(kind.results)} results are shown.", class_="note")
    shown = [*kind.results[: MOST_RESULTS - 1], kind.results[-1]] if len(kind.results) > MOST_RESULTS else kind.results
    yield _accuracy(shown)
    if len(per_class(shown[0].result)) > MOST_CLASSES:
        yield el("p", f"There are too many classes for a picture of what is taken for what: over {MOST_CLASSES}.",
                 class_="note")  # fmt: skip
    else:
        yield from _confusions(shown)


def _accuracy(shown: Sequence[Named]) -> Child:
    """Return the table of percentages by class: with two results or more, the largest difference to the last first."""
    percent = [{found.name: found.percent for found in per_class(entry.result)} for entry in shown]
    counts = {found.name: found.videos for found in per_class(shown[0].result)}
    compared = _difference(shown[-1], shown[0]) if len(shown) > 1 else None
    if compared is None:
        order = sorted(counts, key=lambda name: percent[0][name])
        words = "the worst class first"
    else:
        points = {found.name: found.points for found in compared.classes}
        order = sorted(counts, key=lambda name: -points.get(name, 0.0))
        words = f"the largest gain of {shown[0].name} over {shown[-1].name} first"
    columns = [parts.Column("Class", is_head=True), parts.Column("Videos", is_number=True)]
    columns += [parts.Column(one_line(entry.name), is_number=True) for entry in shown]
    columns += [parts.Column("Points", is_number=True), parts.Column("")] if compared else []
    rows = [[one_line(name), str(counts[name]), *_cells(name, percent), *_points(name, compared)] for name in order]
    caption = one_line(f"Percent right by class, {words}")
    if len(rows) > MOST_CLASSES:
        caption, rows = f"{caption}; {MOST_CLASSES} of {len(rows)} classes", rows[:MOST_CLASSES]
    first = parts.table(columns, rows[:AT_ONCE], caption=caption)
    if len(rows) <= AT_ONCE:
        return [first, _changed(compared, shown)]
    rest = parts.table(columns, rows[AT_ONCE:], caption=f"{caption}, continued")
    return [first, parts.folded(f"{len(rows) - AT_ONCE} further classes", rest), _changed(compared, shown)]


def _difference(first: Named, second: Named) -> Difference | None:
    try:
        return difference(first.result, second.result)
    except UsageError:  # they are about different videos
        return None


def _changed(compared: Difference | None, shown: Sequence[Named]) -> Child:
    if compared is None:
        return None
    gained, lost = len(compared.gained), len(compared.lost)
    better, worse = one_line(shown[0].name), one_line(shown[-1].name)
    return el("p", f"Of {compared.shared} videos, {gained} are right only with {better}, {lost} only with {worse}.",
              class_="note")  # fmt: skip


def _cells(name: str, percent: Sequence[Mapping[str, float]]) -> list[Child]:
    return [f"{values[name]:.1f}" if name in values else "" for values in percent]


def _points(name: str, compared: Difference | None) -> list[Child]:
    if compared is None:
        return []
    points = next((found.points for found in compared.classes if found.name == name), None)
    return ["", ""] if points is None else [f"{points:+.1f}", _bar(points)]


def _bar(points: float) -> Element:
    """Return a difference of -100 to 100 points as a bar to the left or right of a line."""
    half, height = 60, 12
    length = max(0.5, abs(points) / 100 * half)
    bar = el(
        "rect", x=half if points > 0 else half - length, y=2, width=length, height=height - 4,
        class_="gain" if points > 0 else "loss",
    )  # fmt: skip
    axis = el("line", x1=half, x2=half, y1=0, y2=height, class_="zero")
    return el("svg", bar if points else None, axis, viewBox=f"0 0 {2 * half} {height}", width=2 * half, height=height,
              class_="interval", aria_hidden="true")  # fmt: skip


def _confusions(shown: Sequence[Named]) -> Iterator[Child]:
    found = [(entry.name, counts) for entry in shown if (counts := confusion(entry.result)) is not None]
    for name, counts in found:
        yield parts.folded(f"What is taken for what: {one_line(name)}", _confusion(counts, name))
    if len(found) > 1:
        (first, ours), (last, theirs) = found[0], found[-1]
        if ours.classes == theirs.classes:
            title = one_line(f"What is taken for what: {first} beside {last}")
            yield parts.folded(title, _compared(ours, theirs, first, last))


def _confusion(found: Confusion, name: str) -> list[Child]:
    pairs = [[one_line(true), one_line(taken), str(count)] for true, taken, count in found.worst()]
    columns = [parts.Column("True class", is_head=True), parts.Column("Taken for"), parts.Column("Videos", True)]
    return [
        el("p", "Rows are true classes, columns predicted ones. A darker cell holds a larger share of its row; "
           "right predictions lie on the diagonal.", class_="note"),
        el("div", matrix.confusion(found, f"Confusion matrix of {name}"),
           parts.table(columns, pairs, caption=one_line(f"Confused most often by {name}")) if pairs else None,
           class_="beside"),
    ]  # fmt: skip


def _compared(ours: Confusion, theirs: Confusion, first: str, last: str) -> list[Child]:
    return [
        el("p", one_line(f"Videos of a row that {first} takes for a column more often than {last} (blue, +), or less "
                         "often (orange, -)."), class_="note"),
        matrix.difference(ours, theirs, f"Difference of the confusion matrices of {first} and {last}"),
    ]  # fmt: skip
