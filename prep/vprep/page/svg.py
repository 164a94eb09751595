"""Figures as SVG: an element of a page, or a file of its own."""

from collections.abc import Callable

from vprep.page.figure import COLOURS, MARGIN, TEXT, Box, Dot, Figure, Label, Line, Mark
from vprep.page.html import Element, Verbatim, el, text_of
from vprep.text import one_line

FAMILY = "system-ui, sans-serif"
ALONE = (  # a page brings its own colours
    "svg{color:#1b1f24;background:#fff}@media(prefers-color-scheme:dark){svg{color:#e7e9ec;background:#14171b}}"
)
Colour = Callable[[int], str]


def element(figure: Figure) -> Element:
    """Return a figure as an element of class `chart`, in the colours of the page and of the text around it."""
    return _svg(figure, lambda place: f"var(--series-{place + 1},{COLOURS[place]})")


def document(figure: Figure) -> bytes:
    """Return a figure as the content of an SVG file, which is light or dark as the reader's screen is."""
    svg = _svg(figure, lambda place: COLOURS[place], el("style", Verbatim(ALONE)), MARGIN)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text_of(svg)}\n'.encode()


def _svg(figure: Figure, colour: Colour, style: Element | None = None, margin: float = 0.0) -> Element:
    width, height = figure.width + 2 * margin, figure.height + 2 * margin
    words = el("title", one_line(figure.title)), el("desc", one_line(figure.about))
    return el(
        "svg", *words, style, (_mark(mark, colour) for mark in figure.marks),
        xmlns="http://www.w3.org/2000/svg", class_="chart", role="img",
        viewBox=f"{-margin:g} {-margin:g} {width:g} {height:g}", width=width, height=height,
        font_family=FAMILY, font_size=TEXT, fill="currentColor",
    )  # fmt: skip


def _mark(mark: Mark, colour: Colour) -> Element:
    match mark:
        case Line():
            return _line(mark, colour)
        case Dot():
            x, y = mark.at
            return el("circle", cx=x, cy=y, r=mark.radius, fill=_paint(mark.colour, colour))
        case Box():
            return _box(mark, colour)
        case Label():
            return _label(mark, colour)


def _line(mark: Line, colour: Colour) -> Element:
    return el(
        "polyline",
        points=" ".join(f"{x:g},{y:g}" for x, y in mark.points),
        fill="none",
        stroke=_paint(mark.colour, colour),
        stroke_width=mark.width,
        stroke_opacity=mark.opacity if mark.opacity < 1 else None,
        stroke_dasharray=" ".join(map(str, mark.dash)) or None,
    )


def _box(mark: Box, colour: Colour) -> Element:
    (x, y), opacity = mark.at, mark.opacity if mark.opacity < 1 else None
    return el(
        "rect", _hint(mark.about), x=round(x, 1), y=round(y, 1), width=round(mark.width, 1),
        height=round(mark.height, 1), fill=_paint(mark.colour, colour), fill_opacity=opacity,
    )  # fmt: skip


def _label(mark: Label, colour: Colour) -> Element:
    return el(
        "text",
        _hint(mark.about),
        one_line(mark.text),
        x=round(mark.at[0], 1),
        y=round(mark.at[1], 1),
        text_anchor=None if mark.anchor == "start" else mark.anchor,
        font_weight="bold" if mark.bold else None,
        fill=_paint(mark.colour, colour),
    )


def _paint(place: int | None, colour: Colour) -> str:
    return "currentColor" if place is None else colour(place)


def _hint(text: str) -> Element | None:
    """Return what is shown when one points at a mark."""
    return el("title", one_line(text)) if text else None
