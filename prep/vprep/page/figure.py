"""A figure is a list of marks with places in pixels; `svg` and `raster` draw it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Point = tuple[float, float]
TEXT = 13.0  # pixels, the height of letters
LETTER = 0.6  # mean width of a letter, in heights
# Each has a contrast of at least 3 to 1 with white and with a nearly black page. A page may bring colours of its own.
COLOURS = ("#3577c9", "#c8620a", "#2b8a57", "#b0579a", "#8f7312", "#767b85", "#137f91", "#7a6ee0")
MARGIN = 12.0  # pixels around a figure that is a file of its own
LINE = 18.0  # pixels from one line of text to the next


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Points that are joined; `colour` is a place in COLOURS; None means that of the text around the figure."""

    points: Sequence[Point]
    colour: int | None = None
    width: float = 1.0
    opacity: float = 1.0
    dash: tuple[int, ...] = ()  # pixels drawn and left out, in turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A round point."""

    at: Point
    colour: int | None = None
    radius: float = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A filled rectangle; `about` is shown when one points at it."""

    at: Point
    width: float
    height: float
    colour: int | None = None
    opacity: float = 1.0
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A line of text that begins, ends or has its middle at a point; the point lies on the base line."""

    at: Point
    text: str
    anchor: Literal["start", "middle", "end"] = "start"
    colour: int | None = None
    bold: bool = False
    about: str = ""  # the text in full, where it was shortened


Mark = Line | Dot | Box | Label


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of marks. `title` and `about` say in words what it shows, for those who cannot see it."""

    title: str
    about: str
    width: float
    height: float
    marks: Sequence[Mark]


def text_width(text: str) -> float:
    """Return about how wide a text is."""
    return len(text) * TEXT * LETTER


def fitted(text: str, width: float) -> str:
    """Return a text that fits into `width`: without its middle where it is too long."""
    most = max(3, int(width / (TEXT * LETTER)))
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[len(text) - (most - most // 2 - 1) :]}"


def label(at: Point, text: str, width: float, **more: object) -> Label:
    """Return a label that is shortened to `width` and shows its full text when one points at it."""
    shown = fitted(text, width)
    return Label(at=at, text=shown, about="" if shown == text else text, **more)  # type: ignore[arg-type]


def stacked(figures: Sequence[Figure], title: str) -> Figure:
    """Return figures as one, each below the one before."""
    marks: list[Mark] = []
    top = 0.0
    for figure in figures:
        marks += [_moved(mark, top) for mark in figure.marks]
        top += figure.height + LINE
    about = " ".join(f"{figure.title}: {figure.about}" for figure in figures)
    return Figure(title, about, max((figure.width for figure in figures), default=0.0), max(0.0, top - LINE), marks)


def _moved(mark: Mark, down: float) -> Mark:
    if isinstance(mark, Line):
        return replace(mark, points=[(x, y + down) for x, y in mark.points])
    return replace(mark, at=(mark.at[0], mark.at[1] + down))
