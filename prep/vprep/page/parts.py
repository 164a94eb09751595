"""Parts that many pages have: tables, lists of facts, notes, and films."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vprep.page.html import Child, Element, el
from vprep.text import one_line

FILMS = "film-data"  # where the films of a page stand: a list of animated WebP in base64


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    is_number: bool = False
    is_head: bool = False  # its cells name their rows


def table(columns: Sequence[Column], rows: Iterable[Sequence[Child]], *, caption: str) -> Element:
    """Return a table with a caption; a narrow window scrolls it sideways."""
    head = el("tr", (el("th", column.title, scope="col", class_=_class(column)) for column in columns))
    body = (el("tr", (_cell(column, cell) for column, cell in zip(columns, row, strict=True))) for row in rows)
    whole = el("table", el("caption", caption), el("thead", head), el("tbody", body))
    return el("div", whole, class_="scroll", tabindex=0, role="group", aria_label=caption)


def facts(entries: Iterable[tuple[str, Child]]) -> Element:
    """Return names and their values as a list."""
    return el("dl", ((el("dt", name), el("dd", value)) for name, value in entries), class_="facts")


def notes(lines: Iterable[str]) -> Element | None:
    """Return sentences as a list in small letters; None where there are none."""
    items = [el("li", one_line(line)) for line in lines]
    return el("ul", items, class_="notes") if items else None


def folded(summary: Child, *body: Child) -> Element:
    """Return a part of the page that opens at a click or a key."""
    return el("details", el("summary", summary), body)


def film(number: int, *, alt: str, width: int, height: int) -> Element:
    """Return an image that plays the film `number` of the page while it is seen."""
    return el("img", data_film=number, alt=one_line(alt), width=width, height=height, class_="film")


def _class(column: Column) -> str | None:
    return "number" if column.is_number else None


def _cell(column: Column, cell: Child) -> Element:
    if column.is_head:
        return el("th", cell, scope="row")
    return el("td", cell, class_=_class(column))
