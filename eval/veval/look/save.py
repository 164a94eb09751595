"""Write a figure to a file, in the form that the ending of its name says; or put it into a page."""

import base64
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2

from veval.look.drawing import moving, still
from veval.look.figure import Figure, Pixels, one_by_one
from veval.look.layout import Layout
from veval.look.target import MOVING, PAGE
from vprep.atomic import atomic_write
from vprep.errors import UsageError, WorkError
from vprep.page import document, pictures
from vprep.page.html import Child, el
from vprep.page.parts import FILMS, film, folded, notes

QUALITY, STILL_QUALITY = 60, 90  # of WebP
GIF_QUALITY = 8  # with less, OpenCV smears colours below edges
Make = Callable[[bool], Figure]  # the figure; True: for pictures that move


def save(make: Make, out: Path) -> tuple[list[Path], Figure]:
    """Write the figure to `out`; to a folder, as a PNG of each video. Return the files and the figure."""
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
    if ending == ".webp":
        return pictures.animation(moving(figure), seconds=figure.seconds, quality=QUALITY)
    if ending == ".gif":
        return _gif(moving(figure), figure.seconds)
    if ending == ".png":
        return pictures.png(still(figure))
    done, data = cv2.imencode(ending, still(figure))
    if not done:
        raise WorkError(f"OpenCV could not write a picture as {ending}; choose another ending")
    return data.tobytes()


def demand_gif() -> int:
    """Return OpenCV's option for the quality of a GIF; refuse a version that writes none."""
    option: int | None = getattr(cv2, "IMWRITE_GIF_QUALITY", None)
    if option is None or not cv2.haveImageWriter("film.gif"):
        raise UsageError(f"OpenCV {cv2.__version__} writes no GIF; choose .webp, or install version 4.12 or later")
    return option


def _gif(frames: Sequence[Pixels], seconds: float) -> bytes:
    """Return frames as an animated GIF."""
    played = cv2.Animation()
    played.loop_count = 0
    played.frames = list(frames)
    played.durations = [max(20, round(1000 * seconds / len(frames)))] * len(frames)
    with tempfile.TemporaryDirectory() as folder:  # as for WebP
        path = Path(folder) / "film.gif"
        if not cv2.imwriteanimation(str(path), played, [demand_gif(), GIF_QUALITY]):
            raise WorkError("OpenCV could not write a GIF; choose another ending")
        return path.read_bytes()


def page(figure: Figure, moves: Figure) -> document.Page:
    """Return a page of a figure."""
    section, films = sections([(figure, moves)])
    return document.Page(title=figure.title, sections=section, data={FILMS: lambda: films}, has_films=True)


def sections(figures: Sequence[tuple[Figure, Figure]], first: int = 0) -> tuple[list[document.Section], list[str]]:
    """Return a section of a page for each figure, still and moving, and the films that follow the page's `first`."""
    films = [base64.b64encode(encoded(moves, ".webp")).decode() for _, moves in figures]
    found = [
        document.Section(
            identifier=f"look-{first + number}", title=figure.title, body=_body(figure, moves, first + number)
        )
        for number, (figure, moves) in enumerate(figures)
    ]
    return found, films


def _body(figure: Figure, moves: Figure, number: int) -> Child:
    picture, alt = still(figure), alternative(figure)
    height, width = picture.shape[:2]
    image = el(
        "img", src=pictures.address(pictures.webp(picture, STILL_QUALITY), "webp"), alt=alt, width=width, height=height,
        class_="figure",
    )  # fmt: skip
    tall, wide = moving_size(moves)
    playing = film(number, alt=f"The same, moving. {alt}", width=wide, height=tall)
    return [el("div", image, class_="scroll"), folded("Let it play", playing), notes(figure.notes)]


def moving_size(figure: Figure) -> tuple[int, int]:
    """Return height and width of a figure whose clips move."""
    layout = Layout.of(figure, moving=True)
    return layout.height, layout.width


def alternative(figure: Figure) -> str:
    """Return what a figure shows, for those who do not see it."""
    columns = ", ".join(figure.columns)
    rows = "; ".join(row.label for row in figure.rows)
    return f"{figure.title}. Columns: {columns}. Rows: {rows}."


def described(kind: str, figure: Figure, files: Sequence[Path], more: dict[str, Any]) -> dict[str, Any]:
    """Return what --json prints."""
    return {"kind": kind, "out": [str(path) for path in files], **more, "videos": list(figure.about)}
