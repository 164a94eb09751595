"""Write a report as CSV: one line for each run and metric, with everything that a number depends on.

The names of the columns stay; new ones are added at the end. A list, as of the files of several seeds, has its entries
joined by semicolons. Text that a spreadsheet would compute begins with an apostrophe.
"""

import csv
import io
import json
from collections.abc import Iterator

from veval.results.report import Line, Report
from veval.results.rows import Row, rows
from veval.results.runs import NONE, Source
from vprep.text import one_line

DECIMALS = 6
FORMULA = ("=", "+", "-", "@")
OF_SOURCE = (
    *("file", "weights", "weights_hash", "hash_of", "step", "epochs", "seed", "tuning_seed", "shards", "data_hash"),
    *("split", "subset", "precision", "made"),
)


def csv_lines(found: Report) -> str:
    """Return a table with a head."""
    lines = [dict(_cells(row, line)) for row in rows(found) for line in row.lines]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(list(lines[0]) if lines else [])
    writer.writerows(map(_safe, line.values()) for line in lines)
    return text.getvalue().removesuffix("\n")


def _cells(row: Row, line: Line) -> Iterator[tuple[str, str | float | None]]:
    run = row.run
    yield "run", run.number
    for name in ("task", "data", "fold", "method", "backbone", "pretrain", "recipe", "protocol"):
        yield name, getattr(run, name)
    yield "metric", line.metric
    yield "value", line.value
    yield "over", run.over
    yield "deviation", line.deviation
    yield from _interval("", line.interval)
    yield "bootstrap", line.bootstrap
    yield "published", line.published[0]["value"] if line.published else None
    yield "published_in", _joined(f"{other['value']:g} ({other['place']})" for other in line.published)
    yield "difference", line.difference
    yield "nearest", line.nearest["value"] if line.nearest else None
    yield "nearest_in", line.nearest["place"] if line.nearest else None
    yield from _gain(row, line)
    for name in OF_SOURCE:
        yield name, _joined(_word(source, name) for source in run.sources)
    yield "settings", _joined(json.dumps(source.protocol, ensure_ascii=False) for source in run.sources)
    yield "versions", _joined(json.dumps(source.versions, ensure_ascii=False) for source in run.sources)
    yield "notes", _joined(line.notes)


def _gain(row: Row, line: Line) -> Iterator[tuple[str, str | float | None]]:
    gain = row.gain if row.gain and row.gain.metric == line.metric else None
    yield "scratch", gain.scratch if gain else None
    yield "scratch_run", gain.scratch_run if gain else None
    yield "gain", gain.points if gain else None
    yield from _interval("gain_", gain.interval if gain else None)
    yield "gain_shown", gain.shown if gain else None


def _interval(name: str, interval: tuple[float, float] | None) -> Iterator[tuple[str, float | None]]:
    yield f"{name}low", interval[0] if interval else None
    yield f"{name}high", interval[1] if interval else None


def _word(source: Source, name: str) -> str:
    value = getattr(source, name)
    return "" if value is None else str(value)


def _joined(words: Iterator[str] | list[str]) -> str:
    """Return words with semicolons; a single one where all are the same."""
    found = list(words)
    return found[0] if len(set(found)) == 1 else "; ".join(found)


def _safe(value: str | float | None) -> str | float:
    """Return a cell that a spreadsheet shows and does not compute; unknown ones are empty."""
    if not isinstance(value, str):
        return "" if value is None else round(value, DECIMALS)
    text = "" if value == NONE else one_line(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text
