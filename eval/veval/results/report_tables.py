"""Show a report as tables, for a terminal and as Markdown, from the same cells."""

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from veval.results.report import Line, Report
from veval.results.runs import NONE
from vprep.text import one_line

LONGEST = 200  # characters of a cell


def terminal(found: Report) -> RenderableType:
    """Return the tables with their notes, for rich."""
    parts: list[RenderableType] = []
    for rows, notes in _tables(found):
        head, *others = rows
        table = Table(*(Column(name, overflow="fold") for name in head))
        for row in others:
            table.add_row(*(Text(one_line(_cut(cell))) for cell in row))
        parts += [table, *(Text(one_line(note)) for note in notes)]
    return Stack(*parts)


def markdown(found: Report) -> str:
    """Return the tables with their notes as Markdown."""
    parts = []
    for rows, notes in _tables(found):
        lines = [f"| {' | '.join(_escaped(_cut(cell)) for cell in row)} |" for row in rows]
        lines.insert(1, f"|{'---|' * len(rows[0])}")
        parts.append("\n".join(lines))
        if notes:
            parts.append("\n".join(f"- {_escaped(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _tables(found: Report) -> list[tuple[list[list[str]], list[str]]]:
    """Return each table as rows of cells, the first of which is the head, with the notes below it."""
    head = ["", "task", "data", "fold", "method", "backbone", "recipe", "weights", "protocol", "metric", "%"]
    rows = [[*head, "published", "difference"]]
    for number, line in enumerate(found.lines, 1):
        ours = [line.recipe, line.weights, line.protocol, line.metric, _value(line)]
        theirs = [_published(line), NONE if line.difference is None else f"{line.difference:+.2f}"]
        rows.append([str(number), line.task, line.data, line.fold, line.method, line.backbone, *ours, *theirs])
    tables = [(rows, _numbered([line.notes for line in found.lines]))]
    if found.against:
        head = ["", "task", "data", "fold", "method", "backbone", "protocol", "metric", "%"]
        rows = [[*head, "from scratch", "points", "pre-training is"]]
        for number, item in enumerate(found.against, 1):
            about = (item.task, item.data, item.fold, item.method, item.backbone, item.protocol, item.metric)
            points = f"{item.points:+.2f}{_around(item.interval, '+.2f')}"
            means = _mean(item.value, item.over), _mean(item.scratch, item.scratch_over)
            rows.append([str(number), *about, *means, points, item.shown])
        tables.append((rows, _numbered([item.notes for item in found.against])))
    return tables


def _value(line: Line) -> str:
    if line.deviation is not None:
        return f"{line.value:.2f} ± {line.deviation:.2f} ({line.over})"
    return f"{line.value:.2f}{_around(line.interval, '.2f')}"


def _mean(value: float, over: str) -> str:
    return f"{value:.2f} ({over})" if over else f"{value:.2f}"


def _around(interval: tuple[float, float] | None, form: str) -> str:
    return "" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]"


def _published(line: Line) -> str:
    """Return each published value once, with the tables that have it."""
    places: dict[float, list[str]] = {}
    for row in line.published:
        places.setdefault(row["value"], []).append(row["place"])
    if places:
        return ", ".join(f"{value:g} ({', '.join(where)})" for value, where in places.items())
    return f"none; nearest {line.nearest['value']:g} ({line.nearest['place']})" if line.nearest else "none"


def _numbered(notes: list[list[str]]) -> list[str]:
    """Return each note once, after the numbers of its lines."""
    lines: dict[str, list[str]] = {}
    for number, of_line in enumerate(notes, 1):
        for note in of_line:
            lines.setdefault(note, []).append(str(number))
    return [f"{', '.join(numbers)}: {note}" for note, numbers in lines.items()]


def _cut(cell: str) -> str:
    return cell if len(cell) <= LONGEST else f"{cell[: LONGEST - 3]}..."


def _escaped(word: str) -> str:
    """Return a word whose Markdown is not acted on: no cells, no HTML, no links, no pictures from the web."""
    plain = one_line(word).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return plain.replace("](", "]\\(")
