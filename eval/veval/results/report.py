"""Results as a table, beside what was published; for a terminal and as markdown, from the same lines."""

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
from vtrain.data.shard_spec import enlarged

NONE = "-"
ON_TEST = "best-on-test"
# Facts that say most of a protocol in few words.
SHORT = ("fusion", "pool", "level", "few", "k", "selection")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A number of ours, and what stands beside it."""

    task: str
    metric: str
    data: str
    fold: str
    method: str
    backbone: str
    recipe: str
    weights: str
    protocol: str
    value: float
    interval: tuple[float, float] | None
    deviation: float | None
    over: str  # what the value is the mean of; empty for one result
    published: list[dict[str, Any]]  # value and place of those that were measured like ours
    nearest: dict[str, Any] | None
    difference: float | None  # to the first published value
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """What pre-training is worth, in points."""

    task: str
    metric: str
    data: str
    fold: str
    method: str
    backbone: str
    protocol: str
    value: float
    over: str  # what it is the mean of
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
        raise UsageError("no results are named; write the files that veval wrote with --out")
    return of_results([result.read(path) for path in files], folds)


def of_results(results: Sequence[Result], folds: Folds = "separate") -> Report:
    if folds not in get_args(Folds):
        raise UsageError(f"folds is '{folds}'; there are {', '.join(get_args(Folds))}")
    found = groups([one for several in results for one in pool_by_pool(several)], folds)
    lines = [_line(group, metric) for group in found for metric in _shown(group.first)]
    return Report(lines=lines, against=[_against(gain) for gain in gains(found) if gain.metric == "top1"])


def facts(found: Report) -> dict[str, Any]:
    """For JSON."""
    return asdict(found)


def terminal(found: Report) -> RenderableType:
    """The tables with their notes."""
    parts: list[RenderableType] = []
    for rows, notes in _tables(found):
        head, *others = rows
        table = Table(*(Column(name, overflow="fold") for name in head))
        for row in others:
            table.add_row(*(Text(_printable(cell)) for cell in row))
        parts += [table, *(Text(_printable(note)) for note in notes)]
    return Stack(*parts)


def markdown(found: Report) -> str:
    """The same for a page."""
    parts = []
    for rows, notes in _tables(found):
        lines = [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]
        lines.insert(1, f"|{'---|' * len(rows[0])}")
        parts.append("\n".join(lines))
        if notes:
            parts.append("\n".join(f"- {_escaped(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _shown(one: Result) -> list[str]:
    """Retrieval has a number for each k, and so have the tables of it; of classifiers the first is what is told."""
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
        notes.append(f"{gain.others} more from scratch could have been taken, with other numbers")
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
    """What is measured and how."""
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
    told = protocol | {"pool": protocol.get("pool") or protocol.get("pools")}
    sizes = "x".join(str(told[name]) for name in ("clips", "frames", "size") if told.get(name) is not None)
    known = {name: told[name] for name in SHORT if told.get(name) is not None}
    words = [f"{name} {value}" if isinstance(value, int) else str(value) for name, value in known.items()]
    return " ".join(filter(None, [str(told.get("name") or ""), sizes, *words])) or NONE


def _notes(group: Group, answer: Answer) -> list[str]:
    rows: list[Published] = [answer.nearest] if answer.nearest else answer.rows
    notes = []
    if answer.differs:
        notes.append("; ".join(answer.differs))
    if answer.not_said:
        notes.append(f"not said of these weights: {', '.join(answer.not_said)}")
    if any(one["protocol"].get("selection") == ON_TEST for one in group.results):
        notes.append("the epoch was chosen on the test videos")
    dropped = sum(len(one.get("dropped") or []) for one in group.results)
    if dropped:
        notes.append(f"{dropped} videos could not be read and are left out")
    notes += [enlarged(one["data"].get("side"), one["protocol"].get("size") or 0) for one in group.results]
    notes += [f"{row.place}: {row.note}" for row in rows if row.note]
    notes += [ABOUT[place] for place in dict.fromkeys((row.paper, row.task) for row in rows) if place in ABOUT]
    return list(dict.fromkeys(filter(None, notes)))


def _tables(found: Report) -> list[tuple[list[list[str]], list[str]]]:
    """Rows of words, the first of which is the head, and the notes below."""
    head = ["", "task", "data", "fold", "method", "backbone", "recipe", "weights", "protocol", "metric", "%"]
    rows = [[*head, "published", "difference"]]
    for number, line in enumerate(found.lines, 1):
        own = [line.recipe, line.weights, line.protocol, line.metric, _value(line)]
        said = [_published(line), NONE if line.difference is None else f"{line.difference:+.2f}"]
        rows.append([str(number), line.task, line.data, line.fold, line.method, line.backbone, *own, *said])
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
    """Each value once, with where it is printed."""
    places: dict[float, list[str]] = {}
    for row in line.published:
        places.setdefault(row["value"], []).append(row["place"])
    if places:
        return ", ".join(f"{value:g} ({', '.join(where)})" for value, where in places.items())
    return f"none; nearest {line.nearest['value']:g} ({line.nearest['place']})" if line.nearest else "none"


def _numbered(notes: list[list[str]]) -> list[str]:
    """Each note once, with the numbers of the lines that it is about."""
    lines: dict[str, list[str]] = {}
    for number, some in enumerate(notes, 1):
        for note in some:
            lines.setdefault(note, []).append(str(number))
    return [f"{', '.join(numbers)}: {note}" for note, numbers in lines.items()]


def _printable(word: str) -> str:
    """What a file says may hold what moves a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in word)


def _escaped(word: str) -> str:
    return _printable(word).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
