"""A complete page: one HTML file with its own style and script, which asks nothing of the network.

A strict policy stands in the page: no address but `data:` is ever loaded, and only our own script runs.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from vprep.atomic import atomic_write
from vprep.errors import writing
from vprep.page.html import Child, Element, Verbatim, el, json_data, write

HERE = "vprep.page"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page: an entry of its contents, a heading, and what stands below it."""

    identifier: str  # a word of our own, as in #gallery
    title: str
    body: Child
    lead: str = ""  # a sentence below the heading


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page holds. `styles` and `scripts` are package data: read them with `package_text`."""

    title: str
    sections: Iterable[Section]  # read once, for the contents; their bodies are read while the page is written
    lead: Child = None
    styles: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    data: dict[str, Callable[[], object]] = field(
        default_factory=dict
    )  # by identifier: JSON for the scripts, made late
    has_films: bool = False  # shows the switch that plays and stops all animations


def package_text(package: str, name: str) -> str:
    """Return the text of a file of a package, as of a script or a style."""
    return files(package).joinpath(name).read_text("utf-8")


def save(page: Page, out: Path) -> int:
    """Write the page to `out`, completely or not at all, and return its bytes."""
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as file:
        write_page(page, lambda text: file.write(text.encode()))
        return file.tell()


def write_page(page: Page, out: Callable[[str], object]) -> None:
    """Write the page piece by piece with `out`."""
    style = "\n".join((package_text(HERE, "page.css"), *page.styles))
    script = "\n".join((package_text(HERE, "page.js"), *page.scripts))
    sections = list(page.sections)
    out("<!DOCTYPE html>\n")
    write(el("html", _head(page.title, style, script), _body(page, sections, script), lang="en"), out)
    out("\n")


def policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy that allows this style and this script, pictures in the page, no more."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _head(title: str, style: str, script: str) -> Element:
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy(style, script)),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", title),
        el("style", Verbatim(style)),
    )


def _body(page: Page, sections: list[Section], script: str) -> Element:
    return el(
        "body",
        el("a", "Skip to the content", href="#content", class_="skip"),
        el("header", el("h1", page.title), class_="page-header"),
        el(
            "nav",
            el("div", el("ul", (_entry(section) for section in sections)), _buttons(page.has_films)),
            aria_label="Contents",
            class_="contents",
        ),
        el(
            "main",
            el("div", page.lead, class_="lead") if page.lead else None,
            (_section(section) for section in sections),
            id="content",
            tabindex="-1",
        ),
        (json_data(identifier, value()) for identifier, value in page.data.items()),
        el("script", Verbatim(script)),
    )


def _buttons(has_films: bool) -> Element:
    """Return the switches of the whole page; without scripts they would do nothing, so they begin hidden."""
    films = el("button", "Pause", type="button", id="films", aria_label="Pause pictures") if has_films else None
    theme = el("button", "Dark", type="button", id="theme", aria_label="Dark colours")
    return el("div", films, theme, class_="switches", hidden=True, id="switches")


def _entry(section: Section) -> Element:
    return el("li", el("a", section.title, href=f"#{section.identifier}"))


def _section(section: Section) -> Element:
    heading = f"{section.identifier}-title"
    return el(
        "section",
        el("h2", section.title, id=heading),
        el("p", section.lead, class_="section-lead") if section.lead else None,
        section.body,
        id=section.identifier,
        aria_labelledby=heading,
    )
