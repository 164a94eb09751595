"""Line charts in a terminal, which fit its width."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.text import Text

from vprep.page.axis import Axis, axis, number
from vprep.page.chart import Level, Series, smoothed, thinned
from vprep.text import one_line
from vtrain.look.canvas import Canvas, Cell, Place

LETTERS = "abcdefghijklmnopqrstuvwxyz"
STYLES = ("cyan", "yellow", "green", "magenta", "red", "blue", "bright_black")
LEAST_WIDTH = 40
FRAMES = {True: ("┤", "│", "└", "─", "┬"), False: ("+", "|", "+", "-", "+")}  # by whether all signs can be printed


def can_print(encoding: str | None) -> bool:
    """Return whether an encoding has Braille and the lines of frames."""
    try:
        "⣿┤└─┬…".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def chart(
    series: Sequence[Series],
    title: str,
    x_label: str,
    *,
    levels: Sequence[Level] = (),
    width: int,
    height: int,
    fine: bool,
) -> Text:
    """Return a chart of lines of `width` characters; `fine` draws it with Braille, else it is plain ASCII."""
    x = axis((value for line in series for value in line.x), exact=True)
    y = axis([*(value for line in series for value in line.y), *(level.value for level in levels)], ticks=3)
    marks = {value: number(value) for value in y.ticks}
    left, right = max(map(len, marks.values())) + 1, len(series) + 1 if len(series) > 1 else 1
    canvas = Canvas(max(10, width - left - 1 - right), height, fine)
    plot = _Plot(canvas, x, y)
    for level in levels:
        canvas.level(plot.down(level.value))
    ends: dict[int, list[int]] = {}
    for index, line in enumerate(series):
        points = plot.draw(line, index)
        if points and len(series) > 1:
            ends.setdefault(canvas.row_of(points[-1][1]), []).append(index)
    text = Text(_headed(one_line(title), levels, width), style="bold")
    labels = {canvas.row_of(plot.down(value)): words for value, words in marks.items()}
    for row in range(height):
        text.append_text(_row(canvas.row(row), labels.get(row, ""), left, ends.get(row, []), fine))
    return text.append_text(_below(plot, left, x_label, fine))


def legend(names: Sequence[str], width: int) -> Text:
    """Return the letters of runs and their names, a line each."""
    text = Text()
    for index, name in enumerate(names):
        text.append(f"{LETTERS[index]} ", style=STYLES[index % len(STYLES)])
        text.append(f"{one_line(name)[: width - 2]}\n")
    return text


class _Plot:
    """Places values on a canvas."""

    def __init__(self, canvas: Canvas, x: Axis, y: Axis) -> None:
        self.canvas, self.x, self.y = canvas, x, y

    def across(self, value: float) -> int:
        return round(self.x.share(value) * (self.canvas.size[0] - 1))

    def down(self, value: float) -> int:
        return round((1 - self.y.share(value)) * (self.canvas.size[1] - 1))

    def draw(self, line: Series, place: int) -> list[Place]:
        """Draw a line and return its dots."""
        drawn: list[Place] = []
        values = smoothed(line.y, line.smooth) if line.smooth else line.y
        pairs = zip(line.x, values, strict=True)
        for known, stretch in groupby(pairs, lambda pair: self.x.holds(pair[0]) and self.y.holds(pair[1])):
            if known:
                dots = [(float(self.across(x)), float(self.down(y))) for x, y in stretch if y is not None]
                points = [(int(x), int(y)) for x, y in thinned(dots)]
                self.canvas.line(points, place, LETTERS[place])
                drawn += points
        return drawn


def _headed(title: str, levels: Sequence[Level], width: int) -> str:
    """Return a title and what the dotted lines are, in one line or two of at most `width` characters."""
    if not levels:
        return f"{title[:width]}\n"
    dotted = f"(dotted: {', '.join(f'{one_line(level.name)} {number(level.value)}' for level in levels)})"
    both = f"{title}  {dotted}"
    return f"{both}\n" if len(both) <= width else f"{title[:width]}\n{dotted[:width]}\n"


def _row(cells: Sequence[Cell], label: str, left: int, ends: Sequence[int], fine: bool) -> Text:
    tick, side = FRAMES[fine][:2]
    text = Text(f"{label:>{left}}{tick if label else side}")
    for owner, group in groupby(cells, lambda cell: cell.owner):
        text.append("".join(cell.sign for cell in group), style="dim" if owner is None else STYLES[owner % len(STYLES)])
    for place in ends:
        text.append(LETTERS[place], style=STYLES[place % len(STYLES)])
    text.rstrip()
    return text.append("\n")


def _below(plot: _Plot, left: int, x_label: str, fine: bool) -> Text:
    """Return the axis below a chart with the values on it."""
    _, _, corner, line, tick = FRAMES[fine]
    columns, per = plot.canvas.columns, plot.canvas.size[0] // plot.canvas.columns
    frame, words = [line] * columns, [" "] * (columns + 1)
    taken = -1
    for value, column in _ticks(plot, per):
        text = number(value)
        begin = min(max(0, column - len(text) // 2), columns - len(text))
        if begin > taken:
            frame[column] = tick
            words[begin : begin + len(text)] = text
            taken = begin + len(text) + 1
    text = f"{'':>{left}}{corner}{''.join(frame)}\n{'':>{left + 1}}{''.join(words).rstrip()}"
    return Text(
        f"{text}  {x_label}\n" if taken + len(x_label) < columns else f"{text}\n{x_label:>{left + 1 + columns}}\n"
    )


def _ticks(plot: _Plot, per: int) -> Iterator[tuple[float, int]]:
    return ((value, plot.across(value) // per) for value in plot.x.ticks)
