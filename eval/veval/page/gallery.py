"""The retrieval gallery: a card for each query, with its nearest neighbours beside it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from veval.page.choice import SHOWN
from veval.page.films import HEIGHT, WIDTH, Films
from veval.page.named import Named
from veval.results.neighbours import Neighbour, Query
from vprep.page import parts
from vprep.page.document import Section
from vprep.page.html import Child, Element, el
from vprep.text import one_line

ORDERS = {"worst": "Worst first", "best": "Best first", "class": "By class"}
FILTERS = {
    "all": "All queries",
    "wrong": "Nearest neighbour wrong",
    "right": "Nearest neighbour right",
    "related": "A copy or the same film is near",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """What the gallery shows: the same queries in each result."""

    results: Sequence[tuple[Named, Mapping[str, Query]]]  # with its queries by key
    chosen: Sequence[str]  # keys of the queries that are shown
    films: Films
    notes: Sequence[str]  # about results that are left out


def section(gallery: Gallery) -> Section | None:
    """Return the gallery as a part of the page; None where there is no retrieval."""
    if not gallery.results:
        return _absent(gallery.notes) if gallery.notes else None
    total = len(gallery.results[0][1])
    count = len(gallery.chosen)
    sampled = (
        f"{count} of {total} queries are shown: from all classes in turn, in each from the worst to the best."
        if count < total
        else f"All {total} queries are shown."
    )
    return Section(
        identifier="gallery",
        title="Retrieval gallery",
        lead=f"Each query with its {SHOWN} nearest videos, by cosine. One is right when it has the query's class.",
        body=[
            el("p", sampled, " The numbers in the tables count every query.", class_="note"),
            (el("p", one_line(line), class_="note") for line in (*gallery.films.notes, *gallery.notes)),
            _controls(gallery),
            el("div", _cards(gallery), id="cards"),
            el("p", el("button", "Show more", type="button", id="more", hidden=True), class_="controls"),
        ],
    )


def _absent(notes: Sequence[str]) -> Section:
    body = [el("p", one_line(line)) for line in notes]
    return Section(identifier="gallery", title="Retrieval gallery", body=body)


def _controls(gallery: Gallery) -> Element:
    """Return the choices; without scripts they would do nothing, so they begin hidden."""
    names = [one.name for one, _ in gallery.results]
    classes = sorted({gallery.results[0][1][key].label for key in gallery.chosen})
    several = {str(number): name for number, name in enumerate(names)}
    return el(
        "div",
        _choice("which", "Network", several) if len(names) > 1 else None,
        _choice("class", "Class", {"": "All classes"} | {name: one_line(name) for name in classes}),
        _choice("show", "Show", FILTERS),
        _choice("order", "Order", ORDERS),
        el("p", id="gallery-count", role="status", class_="note"),
        class_="controls",
        id="gallery-controls",
        hidden=True,
    )


def _choice(identifier: str, label: str, options: Mapping[str, str]) -> Element:
    entries = (el("option", name, value=value) for value, name in options.items())
    return el("label", label, el("select", entries, id=f"gallery-{identifier}"))


def _cards(gallery: Gallery) -> Iterator[Element]:
    for number, (_, queries) in enumerate(gallery.results):
        for key in gallery.chosen:
            if key in queries:
                yield _card(number, queries[key], gallery.films)


def _card(number: int, query: Query, films: Films) -> Element:
    shown = query.neighbours[:SHOWN]
    related = any(neighbour.same_content or neighbour.same_film for neighbour in shown)
    return el(
        "article",
        el("h3", one_line(query.label), " ", el("span", _verdict(query), class_=f"verdict {_word(query.is_correct)}")),
        el(
            "ol",
            el("li", _picture(query.key, films, "query"), el("p", el("b", "Query"), class_="mark"), class_="query"),
            (_neighbour(neighbour, films) for neighbour in shown),
            class_="strip",
        ),
        el("p", one_line(query.key), class_="key"),
        class_="card",
        data_plays=True,
        data_result=number,
        data_class=query.label,
        data_rank=query.first,
        data_right=query.is_correct,
        data_related=related,
    )


def _verdict(query: Query) -> str:
    if query.is_correct:
        return "✓ nearest is right"
    if query.first:
        return f"✗ first right at rank {query.first}"
    return "✗ no right one was found"


def _word(is_correct: bool) -> str:
    return "right" if is_correct else "wrong"


def _neighbour(neighbour: Neighbour, films: Films) -> Element:
    word = _word(neighbour.is_correct)
    sign = "✓" if neighbour.is_correct else "✗"
    marks = [
        el("span", text, class_="tag")
        for text, is_so in (
            ("same frames", neighbour.same_content),
            ("same film", neighbour.same_film and not neighbour.same_content),
        )
        if is_so
    ]
    return el(
        "li",
        _picture(neighbour.key, films, f"neighbour, {word}"),
        el("p", el("span", f"{sign} ", class_="sign"), one_line(neighbour.label), class_="mark"),
        el("p", f"{neighbour.similarity:.3f} ", marks, class_="small"),
        class_=word,
        title=one_line(neighbour.key),
    )


def _picture(key: str, films: Films, role: str) -> Child:
    if key in films.number:
        return parts.film(films.number[key], alt=f"{role}: {one_line(key)}", width=WIDTH, height=HEIGHT)
    return el("div", "no picture", class_="no-film")
