"""Matrices over classes as pictures.

K classes
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from veval.results.by_class import Confusion
from vprep.page.html import Element, el
from vprep.text import one_line

LEVELS = 5  # of a cell's shade
DARK = 0.65  # from which share on a cell's number is light
NUMBERS = 24  # classes up to which cells have numbers and names
PIXELS = 34  # of such a cell; smaller ones share SIDE
SIDE = 620
NAME_PIXELS, LETTERS = 150, 20

Shares = NDArray[np.float64]  # [K, K], from -1 to 1: what is above 0 has one colour, what is below has another


def confusion(found: Confusion, title: str) -> Element:
    """Return a confusion matrix: right predictions have one colour, wrong ones another."""
    shares = _shares(found)
    words = f"{len(found.classes)} classes; {np.trace(found.counts)} of {found.counts.sum()} predictions are right."
    return _picture(found.classes, np.where(np.eye(len(shares)) > 0, shares, -shares), found.counts, title, words)


def difference(ours: Confusion, theirs: Confusion, title: str) -> Element:
    """Return by how much one matrix is above the other; both have the same classes."""
    more = np.trace(ours.counts) - np.trace(theirs.counts)
    words = f"{len(ours.classes)} classes; {more:+d} right predictions."
    return _picture(ours.classes, _shares(ours) - _shares(theirs), ours.counts - theirs.counts, title, words, sign="+")


def _shares(found: Confusion) -> Shares:
    return np.asarray(found.counts / np.maximum(found.counts.sum(axis=1, keepdims=True), 1))


def _picture(
    classes: Sequence[str], shares: Shares, counts: NDArray[np.int64], title: str, words: str, sign: str = ""
) -> Element:
    count = len(classes)
    has_names = count <= NUMBERS
    cell = PIXELS if has_names else max(1, SIDE // count)
    margin = NAME_PIXELS if has_names else 0
    side = margin + count * cell
    picture = el(
        "svg",
        el("title", one_line(title)),
        el("desc", words),
        el("g", _shades(shares, cell), transform=f"translate({margin} {margin})"),
        el("rect", x=margin, y=margin, width=count * cell, height=count * cell, class_="frame"),
        (_names(classes, cell, margin), _numbers(counts, shares, cell, margin, sign)) if has_names else None,
        viewBox=f"0 0 {side} {side}",
        width=side,
        height=side,
        role="img",
        class_="matrix",
    )
    return el("div", picture, class_="scroll", tabindex=0, role="group", aria_label=one_line(title))


def _shades(shares: Shares, cell: int) -> Iterator[Element]:
    """Yield one path for the cells of each shade and colour."""
    level = np.sign(shares) * np.clip(np.ceil(np.abs(shares) * LEVELS - 1e-9), 1, LEVELS)
    for shade in range(1, LEVELS + 1):
        for kind, wanted in (("on", shade), ("off", -shade)):
            places = zip(*(axis.tolist() for axis in np.nonzero(level == wanted)), strict=True)
            path = "".join(f"M{column * cell} {row * cell}h{cell}v{cell}h-{cell}z" for row, column in places)
            if path:
                yield el("path", d=path, class_=f"{kind} shade{shade}")


def _names(classes: Sequence[str], cell: int, margin: int) -> Iterator[Element]:
    for number, name in enumerate(classes):
        text = _short(name)
        at = margin + (number + 0.5) * cell
        yield el("text", text, x=margin - 8, y=at + 4, text_anchor="end")
        yield el("text", text, transform=f"translate({at + 4:g} {margin - 8}) rotate(-90)")


def _short(name: str) -> str:
    text = one_line(name)
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


def _numbers(counts: NDArray[np.int64], shares: Shares, cell: int, margin: int, sign: str) -> Iterator[Element]:
    for row, column in zip(*(axis.tolist() for axis in np.nonzero(counts)), strict=True):
        yield el(
            "text",
            f"{counts[row, column]:{sign}d}",
            x=margin + (column + 0.5) * cell,
            y=margin + (row + 0.5) * cell + 4,
            text_anchor="middle",
            class_="on-dark" if abs(shares[row, column]) > DARK else None,
        )
