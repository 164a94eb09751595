"""Line charts, and what all charts share.

`svg.element` puts a chart into a page; `svg.document` and `raster.png` make files of it.

    figure = line_chart([Series(name="a", x=[1, 2], y=[0.5, None])], title="Loss", x_label="step", y_label="loss")
    page.append(svg.element(figure))

Colour is never the only carrier: lines differ in their dashes, too, and are named at their ends.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from vprep.page.axis import Axis, axis, number
from vprep.page.figure import COLOURS, LINE, Dot, Figure, Label, Line, Mark, Point, label, text_width

DASHES = ((), (7, 4), (2, 3), (10, 3, 2, 3), (14, 4), (4, 2), (2, 6), (10, 3, 2, 3, 2, 3))
WIDTH, HEIGHT = 640.0, 340.0
GAP = 8.0
NAMES_WIDTH = 150.0  # most pixels of the names at the ends of lines
MOST_NAMED = 6  # lines that are named at their ends
MOST_DOTS = 40  # points of a line that are marked


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line. A value that is None or not finite is a gap; `smooth` is the weight of the values before, as 0.9."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    smooth: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A value that is marked by a straight line, such as the accuracy of chance."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Plot:
    """The area in which values are drawn."""

    left: float
    top: float
    right: float
    bottom: float
    x: Axis
    y: Axis

    def point(self, x: float, y: float) -> Point:
        """Return where a pair of values is drawn."""
        across = self.left + self.x.share(x) * (self.right - self.left)
        return round(across, 1), round(self.bottom - self.y.share(y) * (self.bottom - self.top), 1)


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    about: str = "",
    levels: Sequence[Level] = (),
    log_x: bool = False,
    log_y: bool = False,
    width: float = WIDTH,
    height: float = HEIGHT,
) -> Figure:
    """Return a chart of lines: each smoothed where it says so, over the values themselves.

    A line without values is not named, but has its colour: so each run has the same one in several charts.
    """
    x = axis((value for line in series for value in line.x), log=log_x, exact=not log_x, ticks=6)
    y = axis([*(value for line in series for value in line.y), *(level.value for level in levels)], log=log_y)
    drawn = [(place, line) for place, line in enumerate(series) if _last(line) is not None]
    shown = {place: line.name for place, line in drawn} if len(series) > 1 else {}
    legend, top = _legend(shown, width)
    names = [*(shown.values() if len(shown) <= MOST_NAMED else ()), *(level.name for level in levels)]
    room = min(NAMES_WIDTH, max(map(text_width, names), default=0.0) + GAP)
    left = max(map(text_width, map(number, y.ticks))) + 2 * GAP
    plot = Plot(left, top + (LINE if y_label else GAP), width - max(room, 3 * GAP), height - 2 * LINE - GAP, x, y)
    marks = [*draw_title(title, width), *legend, *draw_axes(plot, x_label, y_label)]
    ends: list[tuple[float, str, int | None]] = []
    for level in levels:
        marks += _level(plot, level)
        ends.append((plot.point(x.low, level.value)[1], level.name, None))
    for place, line in drawn:
        marks += _line(plot, line, place)
        if line.name in names and (last := _last(line)) is not None and plot.x.holds(last[0]) and plot.y.holds(last[1]):
            ends.append((plot.point(*last)[1], line.name, place % len(COLOURS)))
    marks += _names(plot, ends, room)
    return Figure(title, about or _spoken(series, x_label, y_label or title), width, height, marks)


def smoothed(values: Sequence[float | None], weight: float) -> list[float | None]:
    """Return the running mean, in which each value counts `weight` times as much as the one after; gaps stay gaps."""
    total = norm = 0.0
    means: list[float | None] = []
    for value in values:
        if value is None or not math.isfinite(value):
            means.append(None)
            continue
        total, norm = weight * total + (1 - weight) * value, weight * norm + (1 - weight)
        means.append(total / norm)
    return means


def draw_title(title: str, width: float) -> list[Mark]:
    """Return the title of a figure, in bold."""
    return [label((0, LINE - 4), title, width, bold=True)]


def _legend(names: Mapping[int, str], width: float) -> tuple[list[Mark], float]:
    """Return the names of the lines with their dashes, in as many rows as they need, and where the rows end."""
    marks: list[Mark] = []
    x, y, sample = 0.0, 2 * LINE, 28.0
    for place, name in names.items():
        room = min(text_width(name), width - sample - GAP)
        if x and x + sample + room + GAP > width:
            x, y = 0.0, y + LINE
        style = {"colour": place % len(COLOURS), "dash": DASHES[place % len(DASHES)]}
        marks.append(Line(points=[(x, y - 4), (x + sample - 4, y - 4)], width=2, **style))  # type: ignore[arg-type]
        marks.append(label((x + sample, y), name, room + 1))
        x += sample + room + 2 * GAP
    return marks, y + GAP + 4 if names else LINE + GAP


def draw_axes(plot: Plot, x_label: str, y_label: str) -> Iterator[Mark]:
    """Yield both axes with their values and labels."""
    for value in plot.y.ticks:
        left, y = plot.point(plot.x.low, value)
        yield Line(points=[(left, y), (plot.right, y)], opacity=0.18)
        yield Label(at=(left - GAP, y + 4), text=number(value), anchor="end")
    taken = -math.inf
    for value in plot.x.ticks:
        x, y = plot.point(value, plot.y.low)
        yield Line(points=[(x, y), (x, y + 4)], opacity=0.6)
        text = number(value)
        half = text_width(text) / 2
        if x - half > taken + GAP:
            yield Label(at=(x, y + LINE), text=text, anchor="middle")
            taken = x + half
    yield Line(points=[(plot.left, plot.bottom), (plot.right, plot.bottom)], opacity=0.6)
    yield label(
        ((plot.left + plot.right) / 2, plot.bottom + 2 * LINE), x_label, plot.right - plot.left, anchor="middle"
    )
    if y_label:
        yield label((0, plot.top - GAP - 5), y_label, plot.right)


def _line(plot: Plot, line: Series, place: int) -> Iterator[Mark]:
    colour, dash = place % len(COLOURS), DASHES[place % len(DASHES)]
    if line.smooth:
        yield from _strokes(plot, line.x, line.y, Line(points=(), colour=colour, opacity=0.35))
        yield from _strokes(
            plot, line.x, smoothed(line.y, line.smooth), Line(points=(), colour=colour, width=2, dash=dash)
        )
    else:
        yield from _strokes(plot, line.x, line.y, Line(points=(), colour=colour, width=2, dash=dash))
        yield from _dots(plot, line, colour)


def _strokes(plot: Plot, x: Sequence[float], y: Sequence[float | None], style: Line) -> Iterator[Mark]:
    """Yield a line for each stretch without a gap."""
    places = zip(x, y, strict=True)
    for known, stretch in groupby(places, lambda pair: plot.x.holds(pair[0]) and plot.y.holds(pair[1])):
        if known:
            points = [plot.point(across, up) for across, up in stretch if up is not None]
            if len(points) == 1:
                yield Dot(at=points[0], colour=style.colour)
            else:
                yield Line(
                    points=thinned(points),
                    colour=style.colour,
                    width=style.width,
                    opacity=style.opacity,
                    dash=style.dash,
                )


def thinned(points: list[Point]) -> list[Point]:
    """Return the points that can be seen: of those in one column of pixels the first, lowest, highest and last."""
    kept: list[Point] = []
    for _, column in groupby(points, lambda point: int(point[0])):
        found = list(column)
        if len(found) > 4:
            ends = {found.index(chosen) for chosen in (min(found, key=_height), max(found, key=_height))}
            found = [found[place] for place in sorted({0, *ends, len(found) - 1})]
        kept += found
    return kept


def _height(point: Point) -> float:
    return point[1]


def _dots(plot: Plot, line: Series, colour: int) -> Iterator[Mark]:
    if len(line.x) <= MOST_DOTS:
        for x, y in zip(line.x, line.y, strict=True):
            if y is not None and plot.x.holds(x) and plot.y.holds(y):
                yield Dot(at=plot.point(x, y), colour=colour)


def _level(plot: Plot, level: Level) -> list[Mark]:
    ends = [plot.point(value, level.value) for value in (plot.x.low, plot.x.high)]
    return [Line(points=ends, dash=(1, 3), width=1.5, opacity=0.8)]


def _last(line: Series) -> Point | None:
    """Return the last value that a line has, and where; None where it has none."""
    drawn = smoothed(line.y, line.smooth) if line.smooth else line.y
    pairs = zip(reversed(line.x), reversed(drawn), strict=True)
    return next(((x, y) for x, y in pairs if y is not None and math.isfinite(x) and math.isfinite(y)), None)


def _names(plot: Plot, ends: list[tuple[float, str, int | None]], room: float) -> Iterator[Mark]:
    """Yield the names at the ends of lines, each beside its line as far as they do not overlap."""
    spaced: list[float] = []
    for height, _, _ in sorted(ends, key=lambda end: end[0]):
        spaced.append(max(height + 4, spaced[-1] + LINE - 2 if spaced else -math.inf))
    over = max(0.0, (spaced[-1] if spaced else 0.0) - plot.bottom - 4)
    for y, (_, name, colour) in zip(spaced, sorted(ends, key=lambda end: end[0]), strict=True):
        yield label((plot.right + GAP, y - over), name, room - GAP, colour=colour)


def _spoken(series: Sequence[Series], x_label: str, y_label: str) -> str:
    """Return the chart in words: the ends of each line."""
    parts = []
    for line in series:
        known = [(x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None and math.isfinite(y)]
        if known:
            (begin, first), (end, last) = known[0], known[-1]
            parts.append(f"{line.name}: {number(first)} at {number(begin)}, {number(last)} at {number(end)}")
    return f"{y_label} over {x_label}. " + ("; ".join(parts) or "no values") + "."
