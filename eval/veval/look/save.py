"""Write a figure to a file, in the form that the ending of its name says; or put it into a page."""

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2

from veval.look.drawing import length_of, moving, still
from veval.look.figure import Figure, one_by_one
from veval.look.layout import Layout
from veval.look.target import MOVING, PAGE
from vprep.atomic import atomic_write
from vprep.errors import UsageError, WorkError
from vprep.memory import memory_with_swap
from vprep.page import document, pictures
from vprep.page.html import Child, Element, el
from vprep.page.parts import FILMS, film, folded, notes

QUALITY, STILL_QUALITY, JPEG_QUALITY = 80, 90, 85  # of WebP that moves, of WebP that stands, of JPEG
LARGEST_SIDE, LARGEST = 65_500, {".webp": 16_383}  # pixels of a side
GIF_QUALITY = 8  # with less, OpenCV smears colours below edges
Make = Callable[[bool], Figure]  # the figure; True: for pictures that move


def save(make: Make, out: Path) -> tuple[list[Path], Figure]:
    """Return the files and the figure that were written to `out`; to a folder, as a PNG of each video."""
    if out.is_dir():
        figure = make(False)
        return [_one(out, number, part) for number, part in enumerate(one_by_one(figure), 1)], figure
    ending = out.suffix.lower()
    if ending == ".gif":
        demand_gif()
    figure = make(ending in MOVING)
    if ending == PAGE:
        document.save(page(figure, make(True)), out)
    else:
        with atomic_write(out) as file:
            file.write(encoded(figure, ending))
    return [out], figure


def _one(folder: Path, number: int, figure: Figure) -> Path:
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", str(figure.about[0]["key"]))[:100]
    out = folder / f"{number:02}-{name}.png"
    with atomic_write(out) as file:
        file.write(encoded(figure, ".png"))
    return out


def encoded(figure: Figure, ending: str) -> bytes:
    """Return the bytes of a picture."""
    demand_size(figure, ending)
    if ending == ".webp":
        return pictures.animation(moving(figure), seconds=figure.seconds, quality=QUALITY)
    if ending == ".gif":
        options = [demand_gif(), GIF_QUALITY]
        return pictures.animated(moving(figure), ending, options, seconds=figure.seconds, shortest=20)
    if ending == ".png":
        return pictures.png(still(figure))
    done, data = cv2.imencode(ending, still(figure), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise WorkError(f"OpenCV could not write a picture as {ending}; choose another ending")
    return data.tobytes()


def demand_size(figure: Figure, ending: str) -> None:
    """Refuse a figure that a file of this kind, or the memory, cannot hold."""
    moves, most = ending in MOVING, LARGEST.get(ending, LARGEST_SIDE)
    layout = Layout.of(figure, moving=moves)
    room = layout.height * layout.width * 3 * (2 * length_of(figure) if moves else 2)
    if max(layout.height, layout.width) > most or room > memory_with_swap():
        raise UsageError(
            f"the picture would have {layout.height} x {layout.width} pixels, which is too large for {ending}; show "
            "fewer videos, or a smaller --tile"
        )


def demand_gif() -> int:
    """Return OpenCV's option for the quality of a GIF; refuse a version that writes none."""
    option: int | None = getattr(cv2, "IMWRITE_GIF_QUALITY", None)
    if option is None or not cv2.haveImageWriter("x.gif"):
        raise UsageError(f"OpenCV {cv2.__version__} writes no GIF; choose .webp, or install version 4.12 or later")
    return option


def page(figure: Figure, moves: Figure) -> document.Page:
    """Return a page of a figure."""
    found, film_of = section(figure, moves)
    return document.Page(
        title="What a network looks at", sections=[found], data={FILMS: lambda: [film_of]}, has_films=True
    )


def section(figure: Figure, moves: Figure, number: int = 0) -> tuple[document.Section, str]:
    """Return a section of a page with the figure, still and moving, and its film, which is the page's `number`."""
    bare, bare_moves = (replace(each, title="", notes=()) for each in (figure, moves))  # the page has them as text
    demand_size(bare, ".webp")
    picture, alt, of = still(bare), alternative(figure), Layout.of(bare_moves, moving=True)
    height, width = picture.shape[:2]
    source = pictures.address(pictures.webp(picture, STILL_QUALITY), "webp")
    image = el("img", src=source, alt=alt, width=width, height=height)
    playing = film(number, alt=f"The same, moving. {alt}", width=of.width, height=of.height)
    body = [
        _scrolling(image, figure.title),
        folded("Play it", _scrolling(playing, "The same, moving")),
        notes(figure.notes),
    ]
    found = document.Section(identifier=f"look-{number}", title=figure.title, body=body)
    return found, base64.b64encode(encoded(bare_moves, ".webp")).decode()


def _scrolling(image: Child, name: str) -> Element:
    """Return a picture that a narrow window scrolls sideways."""
    return el("div", image, class_="scroll", tabindex=0, role="group", aria_label=name)


def alternative(figure: Figure) -> str:
    """Return what a figure shows, for those who do not see it."""
    columns = ", ".join(figure.columns)
    rows = "; ".join(row.label for row in figure.rows)
    return f"{figure.title}. Columns: {columns}. Rows: {rows}."


def described(kind: str, figure: Figure, files: Sequence[Path], more: dict[str, Any]) -> dict[str, Any]:
    """Return what --json prints."""
    return {"kind": kind, "out": [str(path) for path in files], **more, "videos": list(figure.about)}
