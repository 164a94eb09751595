"""Write a report as Markdown: a table for each task and data set, with the lines that a terminal shows."""

from collections.abc import Iterator

from veval.results import rows as rows_of
from veval.results.report import Report
from veval.results.rows import Row, Section
from veval.results.tables.words import below, cell, gain_interval, metric_name, numbered, title
from vprep.text import one_line

HEAD = ("", "method", "backbone", "pre-trained on", "protocol", "fold", "recipe", "weights")


def markdown(found: Report) -> str:
    """Return the tables, and the notes with the numbers of their rows."""
    parts = ["\n".join(_table(section)) for section in rows_of.sections(found)]
    notes = rows_of.numbered(rows_of.rows(found))
    if notes:
        parts.append("\n".join(f"- {numbered('row', of)}: {escaped(note)}" for note, of in notes.items()))
    return "\n\n".join(parts) + "\n"


def _table(section: Section) -> Iterator[str]:
    yield f"**{escaped(title(section))}**"
    yield ""
    yield _line([*HEAD, *map(metric_name, section.metrics)])
    yield f"|{'---|' * len(HEAD)}{'---:|' * len(section.metrics)}"
    for row in section.rows:
        run = row.run
        about = [run.method, run.backbone, run.pretrain, run.protocol, run.fold, run.recipe, run.weights]
        values = {line.metric: f"{line.value:.2f}" for line in row.lines}
        yield _line([str(run.number), *map(cell, about), *(values.get(metric, "") for metric in section.metrics)])
        yield from _below(row, section.metrics)


def _below(row: Row, metrics: list[str]) -> Iterator[str]:
    for line in below(row):
        if line.values:
            values = line.values
            if line.kind == "gain":
                values = {metric: f"{value} {gain_interval(row)}".strip() for metric, value in values.items()}
            blank = [""] * (len(HEAD) - 2)
            yield _line(["", cell(line.label), *blank, *(values.get(metric, "") for metric in metrics)])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(map(escaped, cells))} |"


def escaped(word: str) -> str:
    """Return a word whose Markdown is not acted on: no cells, no HTML, no links, no pictures from the web."""
    plain = one_line(word).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return plain.replace("](", "]\\(")
