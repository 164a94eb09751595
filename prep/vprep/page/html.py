"""Build HTML and SVG from elements. Text is escaped when it is written, so that no name from a file becomes markup.

    el("p", "class ", el("b", name), class_="note", data_key=key)

A child is a text, an element, or an iterable of children; an iterable is read only when the page is written, so a large
page needs little memory. `None` is left out. Names of attributes are keywords: `class_` is class, `aria_label` is
aria-label. `True` writes an attribute without a value; `None` and `False` leave it out.
"""

import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

Attribute: TypeAlias = "str | int | float | bool | None"
Child: TypeAlias = "Element | Verbatim | str | Iterable[Child] | None"
Write: TypeAlias = Callable[[str], object]

_VOID = frozenset(("area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"))
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
# Markup, and what neither HTML nor XML may hold: control characters, halves of characters, non-characters.
_SPECIAL = re.compile("[&<>\"'\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9:-]*")
_ADDRESSES = ("href", "src", "srcset", "action", "formaction", "poster", "data", "xlink:href")
_SAFE_ADDRESS = re.compile(r"#|https://|data:image/(?:png|jpeg|gif|webp);base64,")
_ENDS_SCRIPT = re.compile("</(?:script|style)|<!--", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Element:
    """An element of HTML or SVG; `el` makes it."""

    name: str
    attributes: tuple[tuple[str, str], ...]
    children: tuple[Child, ...]


@dataclass(frozen=True, slots=True)
class Verbatim:
    """The text of our own script or style, or JSON without `<`: written as it is."""

    text: str

    def __post_init__(self) -> None:
        if _ENDS_SCRIPT.search(self.text):
            raise ValueError("a script or style must not hold the end of its own element")


def el(name: str, /, *children: Child, **attributes: Attribute) -> Element:
    """Return the element `name` with its children and attributes."""
    _refuse_unless_name(name)
    if name in ("script", "style") and not all(isinstance(child, Verbatim) for child in children):
        raise ValueError(f"a {name} holds only our own text")
    if name in _VOID and children:
        raise ValueError(f"a {name} holds nothing")
    given = ((_attribute_name(key), value) for key, value in attributes.items())
    kept = tuple((key, _value(key, value)) for key, value in given if value is not None and value is not False)
    return Element(name, kept, children)


def json_data(identifier: str, value: object) -> Element:
    """Return an element from which a script reads `value`: JSON.parse(document.getElementById(identifier).text)."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # As escapes inside JSON's strings these stay what they are; nowhere else does JSON have them.
    text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return el("script", Verbatim(text), type="application/json", id=identifier)


def write(node: Child, out: Write) -> None:
    """Write a node and everything in it, piece by piece, with `out`."""
    if node is None:
        return
    if isinstance(node, str):
        out(escaped(node))
    elif isinstance(node, Verbatim):
        out(node.text)
    elif isinstance(node, Element):
        _write_element(node, out)
    else:
        for child in node:
            write(child, out)


def text_of(node: Child) -> str:
    """Return a node and everything in it as HTML; an SVG element is also well-formed XML."""
    out = io.StringIO()
    write(node, out.write)
    return out.getvalue()


def escaped(text: str) -> str:
    """Return a text as it stands in HTML and XML; what these cannot hold becomes a replacement character."""
    return _SPECIAL.sub(lambda found: _ESCAPES.get(found[0], "\ufffd"), text)


def _write_element(node: Element, out: Write) -> None:
    out(f"<{node.name}")
    for key, value in node.attributes:
        out(f' {key}="{escaped(value)}"')
    out(">")
    if node.name in _VOID:
        return
    for child in node.children:
        write(child, out)
    out(f"</{node.name}>")


def _attribute_name(keyword: str) -> str:
    name = keyword.removesuffix("_").replace("_", "-")
    _refuse_unless_name(name)
    if name.lower().startswith("on") or name.lower() == "style":
        raise ValueError(f"an element takes no '{name}': the page's policy forbids scripts and styles in attributes")
    return name


def _refuse_unless_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"'{name}' is no name of an element or an attribute")


def _value(name: str, value: str | int | float | bool) -> str:
    text = "" if value is True else value if isinstance(value, str) else f"{value:.10g}"
    if name in _ADDRESSES and not _SAFE_ADDRESS.match(text):
        raise ValueError(f"the {name} of an element is '{text[:40]}'; it must be in the page, a picture, or https")
    return text
