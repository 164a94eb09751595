"""Tables of results beside the published numbers, for a terminal and as Markdown, from the same lines."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from veval.results import result
from veval.results.aggregate import Folds, Gain, Group, gains, groups, pool_by_pool
from veval.results.match_published import ABOUT, Answer, compare
from veval.results.published import BACKBONES, METHODS, Published
from veval.results.result import Result
from vprep.errors import UsageError
from vtrain.data.shard_spec import upscaling_note

NONE = "-"
ON_TEST = "best-on-test"
# Entries of a protocol that are printed.
SHORT = ("fusion", "pool", "level", "few", "k", "selection")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured, as the first cells of a line."""

    task: str
    metric: str
    data: str
    fold: str
    method: str
    backbone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(Measured):
    """One number, and the published ones beside it."""

    recipe: str
    weights: str
    protocol: str
    value: float
    interval: tuple[float, float] | None
    deviation: float | None
    over: str  # what the value is a mean over; empty for a single result
    published: list[dict[str, Any]]  # value and table of numbers that were measured in the same way
    nearest: dict[str, Any] | None
    difference: float | None  # to the first published value
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Against(Measured):
    """The gain from pre-training, in points."""

    protocol: str
    value: float
    over: str  # what the value is a mean over
    scratch: float
    scratch_over: str
    points: float
    interval: tuple[float, float] | None
    shown: str  # by the interval: better, worse, or neither
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    lines: list[Line]
    against: list[Against]


def report(files: Sequence[Path], folds: Folds = "separate") -> Report:
    """Read results and put them beside the published numbers and beside the network from scratch."""
    if not files:
        raise UsageError("no results are named; name some that veval wrote")
    return of_results([result.read(path) for path in files], folds)


def of_results(results: Sequence[Result], folds: Folds = "separate") -> Report:
    if folds not in get_args(Folds):
        raise UsageError(f"folds is '{folds}'; there are {', '.join(get_args(Folds))}")
    found = groups([one for several in results for one in pool_by_pool(several)], folds)
    lines = [_line(group, metric) for group in found for metric in _shown(group.first)]
    return Report(lines=lines, against=[_against(gain) for gain in gains(found) if gain.metric == "top1"])


def as_dict(found: Report) -> dict[str, Any]:
    """Return the report as JSON."""
    return asdict(found)


def terminal(found: Report) -> RenderableType:
    """Return the tables with their notes, for rich."""
    parts: list[RenderableType] = []
    for rows, notes in _tables(found):
        head, *others = rows
        table = Table(*(Column(name, overflow="fold") for name in head))
        for row in others:
            table.add_row(*(Text(_printable(cell)) for cell in row))
        parts += [table, *(Text(_printable(note)) for note in notes)]
    return Stack(*parts)


def markdown(found: Report) -> str:
    """Return the same as Markdown."""
    parts = []
    for rows, notes in _tables(found):
        lines = [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]
        lines.insert(1, f"|{'---|' * len(rows[0])}")
        parts.append("\n".join(lines))
        if notes:
            parts.append("\n".join(f"- {_escaped(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _shown(one: Result) -> list[str]:
    """Return the metrics to print: every k of retrieval, as in the papers, but only top-1 of classifiers."""
    return result.metrics(one) if one["kind"] == "retrieval" else ["top1"]


def _line(group: Group, metric: str) -> Line:
    one = group.first
    folds = ",".join(map(str, group.folds))
    answer = compare(one, metric, folds or None)
    single = len(group.results) == 1
    interval = one.get("intervals", {}).get(metric) if single else None
    value = group.value(metric)
    return Line(
        **_names(group, metric),
        recipe=str(one["weights"].get("recipe") or NONE),
        weights=", ".join(str(each["weights"].get("hash") or NONE)[:8] for each in group.results),
        value=value,
        interval=(interval[0], interval[1]) if interval else None,
        deviation=group.deviation(metric),
        over=group.over,
        published=[{"value": row.value, "place": row.place} for row in answer.rows],
        nearest={"value": answer.nearest.value, "place": answer.nearest.place} if answer.nearest else None,
        difference=value - answer.rows[0].value if answer.rows else None,
        notes=_notes(group, answer),
    )


def _against(gain: Gain) -> Against:
    notes = []
    if gain.why:
        notes.append(f"no interval: {gain.why}")
    if gain.others:
        notes.append(f"{gain.others} more from scratch would fit, with other numbers")
    return Against(
        **_names(gain.group, gain.metric),
        value=gain.group.value(gain.metric),
        over=gain.group.over,
        scratch=gain.scratch.value(gain.metric),
        scratch_over=gain.scratch.over,
        points=gain.points,
        interval=gain.interval,
        shown=shown_by(gain.interval),
        notes=notes,
    )


def shown_by(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return NONE
    return "better" if interval[0] > 0 else "worse" if interval[1] < 0 else "neither"


def _names(group: Group, metric: str) -> dict[str, str]:
    """Return what is measured, and how, as cells of a table."""
    one = group.first
    method, backbone = str(one["weights"].get("method")), str(one["weights"].get("backbone"))
    return {
        "task": one["kind"],
        "metric": metric,
        "data": str(one["data"].get("name") or NONE),
        "fold": ",".join(map(str, group.folds)) or NONE,
        "method": METHODS.get(method, method if one["weights"].get("method") else NONE),
        "backbone": BACKBONES.get(backbone, backbone),
        "protocol": _short(one["protocol"]),
    }


def _short(protocol: dict[str, Any]) -> str:
    entries = protocol | {"pool": protocol.get("pool") or protocol.get("pools")}
    entries = {name: value for name, value in entries.items() if value is not None}
    sizes = "x".join(str(entries[name]) for name in ("clips", "frames", "size") if name in entries)
    known = {name: entries[name] for name in SHORT if name in entries}
    words = [f"{name} {value}" if isinstance(value, int) else str(value) for name, value in known.items()]
    return " ".join(filter(None, [str(entries.get("name") or ""), sizes, *words])) or NONE


def _notes(group: Group, answer: Answer) -> list[str]:
    rows: list[Published] = [answer.nearest] if answer.nearest else answer.rows
    notes = []
    if answer.differs:
        notes.append("; ".join(answer.differs))
    if answer.unknown:
        notes.append(f"not said of these weights: {', '.join(answer.unknown)}")
    if any(one["protocol"].get("selection") == ON_TEST for one in group.results):
        notes.append("the epoch was chosen on the test videos")
    dropped = sum(len(one.get("dropped") or []) for one in group.results)
    if dropped:
        notes.append(f"{dropped} videos could not be read and are left out")
    notes += [upscaling_note(one["data"].get("side"), one["protocol"].get("size") or 0) for one in group.results]
    notes += [f"{row.place}: {row.note}" for row in rows if row.note]
    notes += [ABOUT[place] for place in dict.fromkeys((row.paper, row.task) for row in rows) if place in ABOUT]
    return list(dict.fromkeys(filter(None, notes)))


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
        for number, one in enumerate(found.against, 1):
            about = [str(number), one.task, one.data, one.fold, one.method, one.backbone, one.protocol, one.metric]
            points = f"{one.points:+.2f}{_around(one.interval, '+.2f')}"
            means = _mean(one.value, one.over), _mean(one.scratch, one.scratch_over)
            rows.append([*about, *means, points, one.shown])
        tables.append((rows, _numbered([one.notes for one in found.against])))
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
    for number, some in enumerate(notes, 1):
        for note in some:
            lines.setdefault(note, []).append(str(number))
    return [f"{', '.join(numbers)}: {note}" for note, numbers in lines.items()]


def _printable(word: str) -> str:
    """Replace control characters: words from a file may hold some that move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in word)


def _escaped(word: str) -> str:
    return _printable(word).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
