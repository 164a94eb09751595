"""Bar charts and histograms as figures."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vprep.page.axis import axis, number, round_step
from vprep.page.chart import GAP, WIDTH, Level, Plot, draw_axes, draw_title
from vprep.page.figure import LINE, Box, Figure, Label, Line, Mark, fitted, label, text_width

ROW = 22.0  # pixels from one bar to the next
NAMES = 0.35  # most of the width that names take


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar; `low` and `high` are the ends of its interval."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def text(self) -> str:
        """The value, and its interval if it has one."""
        if self.low is None or self.high is None:
            return number(self.value)
        return f"{number(self.value)} ({number(self.low)} to {number(self.high)})"


def bar_chart(bars: Sequence[Bar], *, title: str, value_label: str, about: str = "", width: float = WIDTH) -> Figure:
    """Return a chart of horizontal bars, one below the other, each with its name, value and interval."""
    left = min(NAMES * width, 1.1 * max((text_width(bar.name) for bar in bars), default=0.0)) + 2 * GAP
    right = width - max((text_width(bar.text) for bar in bars), default=0.0) - 2 * GAP
    ends = [value for bar in bars for value in (bar.value, bar.low, bar.high)]
    x = axis(ends, zero=True)
    top = 2 * LINE
    bottom = top + ROW * len(bars)
    plot = Plot(left, top, max(right, left + 60), bottom, x, axis([0, 1], exact=True))
    marks = [*draw_title(title, width), *_value_axis(plot, value_label)]
    for index, bar in enumerate(bars):
        marks += _bar(plot, bar, top + ROW * index)
    spoken = about or f"{value_label}: " + "; ".join(f"{bar.name} {bar.text}" for bar in bars) + "."
    return Figure(title, spoken, width, bottom + 2 * LINE + GAP, marks)


def histogram(
    edges: Sequence[float], counts: Sequence[int], *, title: str, x_label: str, y_label: str, about: str = "",
    levels: Sequence[Level] = (), width: float = WIDTH, height: float = 240.0,
) -> Figure:  # fmt: skip
    """Return a histogram: `counts[i]` values lie between `edges[i]` and `edges[i + 1]`; `levels` are marked values."""
    x, y = axis(edges, exact=True, ticks=6), axis(counts, zero=True, ticks=4)
    left = max(map(text_width, map(number, y.ticks))) + 2 * GAP
    plot = Plot(left, 2 * LINE + GAP + (LINE if levels else 0.0), width - 3 * GAP, height - 2 * LINE - GAP, x, y)
    marks = [*draw_title(title, width), *draw_axes(plot, x_label, y_label)]
    for index, count in enumerate(counts):
        begin, end = edges[index], edges[index + 1]
        (x0, top), (x1, bottom) = plot.point(begin, count), plot.point(end, 0)
        words = f"{number(begin)} to {number(end)}: {number(count)}"
        marks.append(Box(at=(x0 + 0.5, top), width=max(x1 - x0 - 1, 0.5), height=bottom - top, colour=0, about=words))
    for level in levels:
        marks += _upright(plot, level)
    return Figure(title, about or f"{y_label} by {x_label}, {number(sum(counts))} in all.", width, height, marks)


def binned(values: "np.ndarray[tuple[int], np.dtype[np.float64]]", most: int = 40) -> tuple[list[float], list[int]]:
    """Return the round edges of at most `most` bins, and how many of the values lie in each."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    is_one = high - low <= 1e-9 * abs(high)
    step = round_step((abs(high) / 10 or 1.0) if is_one else (high - low) / (most - 1))
    first = math.floor(low / step)
    edges = [float(f"{place * step:.12g}") for place in range(first, max(math.ceil(high / step), first + 1) + 1)]
    return edges, np.histogram(known, edges)[0].tolist()


def _value_axis(plot: Plot, text: str) -> Iterator[Mark]:
    for value in plot.x.ticks:
        x, _ = plot.point(value, 0)
        yield Line(points=[(x, plot.top), (x, plot.bottom)], opacity=0.6 if value == 0 else 0.18)
        yield Label(at=(x, plot.bottom + LINE - 2), text=number(value), anchor="middle")
    yield label(((plot.left + plot.right) / 2, plot.bottom + 2 * LINE), text, plot.right, anchor="middle")


def _bar(plot: Plot, bar: Bar, top: float) -> Iterator[Mark]:
    (zero, _), (end, _) = plot.point(0, 0), plot.point(bar.value, 0)
    base = top + ROW - 7
    yield Label(at=(plot.left - GAP, base), text=fitted(bar.name, plot.left - GAP), anchor="end", about=bar.name)
    words = f"{bar.name}: {bar.text}"
    yield Box(at=(min(zero, end), top + 3), width=max(abs(end - zero), 0.5), height=ROW - 6, colour=0, about=words)
    far = max(zero, end)
    if bar.low is not None and bar.high is not None:
        (low, _), (high, _), middle = plot.point(bar.low, 0), plot.point(bar.high, 0), top + ROW / 2
        yield Line(points=[(low, middle), (high, middle)], width=1.5)
        for x in (low, high):
            yield Line(points=[(x, middle - 4), (x, middle + 4)], width=1.5)
        far = max(far, high)
    yield Label(at=(far + 6, base), text=bar.text)


def _upright(plot: Plot, level: Level) -> list[Mark]:
    if not plot.x.low <= level.value <= plot.x.high:
        return []
    x, _ = plot.point(level.value, 0)
    anchor = "end" if x > (plot.left + plot.right) / 2 else "start"
    text = f"{level.name} {number(level.value)}"
    return [
        Line(points=[(x, plot.top - LINE), (x, plot.bottom)], dash=(4, 3), width=1.5),
        Label(at=(x, plot.top - LINE - GAP), text=text, anchor=anchor),  # type: ignore[arg-type]
    ]
