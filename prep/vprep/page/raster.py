"""Figures as PNG, drawn by OpenCV: its letters are plain and all ASCII."""

import itertools
import math
import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np
from cv2.typing import MatLike

from vprep.page.figure import COLOURS, MARGIN, TEXT, Box, Dot, Figure, Label, Line, Mark, Point

SCALE = 2  # pixels of the picture for one of the figure
PAPER, INK = (255, 255, 255), (36, 31, 27)  # blue, green, red
FONT = cv2.FONT_HERSHEY_SIMPLEX
Colour = tuple[int, int, int]


def png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file, dark on white."""
    done, data = cv2.imencode(".png", picture(figure))
    assert done  # noqa: S101  a picture of any size can be encoded
    return data.tobytes()


def picture(figure: Figure) -> MatLike:
    """Return a figure as an array of pixels."""
    size = (math.ceil((figure.height + 2 * MARGIN) * SCALE), math.ceil((figure.width + 2 * MARGIN) * SCALE), 3)
    canvas: MatLike = np.full(size, PAPER, np.uint8)
    for mark in figure.marks:
        _draw(canvas, mark)
    return canvas


def ascii_text(text: str) -> str:
    """Return the text in ASCII, all that OpenCV can write: without accents, other letters as question marks."""
    parts = unicodedata.normalize("NFKD", text)
    return "".join(part for part in parts if not unicodedata.combining(part)).encode("ascii", "replace").decode()


def _draw(canvas: MatLike, mark: Mark) -> None:
    colour = _colour(mark.colour)
    match mark:
        case Line():
            shade = _mixed(colour, mark.opacity)
            for piece in dashed(mark.points, mark.dash):
                points = np.array([_pixel(point) for point in piece], np.int32)
                cv2.polylines(canvas, [points], False, shade, max(1, round(mark.width * SCALE)), cv2.LINE_AA)
        case Dot():
            cv2.circle(canvas, _pixel(mark.at), round(mark.radius * SCALE), colour, cv2.FILLED, cv2.LINE_AA)
        case Box():
            (left, top), (x, y) = _pixel(mark.at), mark.at
            corner = _pixel((x + mark.width, y + mark.height))
            cv2.rectangle(canvas, (left, top), (corner[0] - 1, corner[1] - 1), _mixed(colour, mark.opacity), cv2.FILLED)
        case Label():
            _write(canvas, mark, colour)


def _write(canvas: MatLike, mark: Label, colour: Colour) -> None:
    text, thickness = ascii_text(mark.text), 2 if mark.bold else 1
    scale = TEXT * SCALE / 30  # the font is 30 pixels high, with what reaches below the line
    (width, _), _ = cv2.getTextSize(text, FONT, scale, thickness)
    x, y = _pixel(mark.at)
    left = x - {"start": 0, "middle": width // 2, "end": width}[mark.anchor]
    cv2.putText(canvas, text, (left, y), FONT, scale, colour, thickness, cv2.LINE_AA)


def dashed(points: Sequence[Point], dash: tuple[int, ...]) -> list[list[Point]]:
    """Return the pieces of a line that are drawn: all of it, or what its dashes cover."""
    if not dash or len(points) < 2:
        return [list(points)]
    pieces: list[list[Point]] = [[points[0]]]
    lengths = itertools.cycle(dash)
    left, drawn = float(next(lengths)), True
    for begin, end in itertools.pairwise(points):
        length, walked = math.dist(begin, end), 0.0
        while length - walked > left:
            walked += left
            at = _between(begin, end, walked / length)
            if drawn:
                pieces[-1].append(at)
            else:
                pieces.append([at])
            left, drawn = float(next(lengths)), not drawn
        left -= length - walked
        if drawn:
            pieces[-1].append(end)
    return [piece for piece in pieces if len(piece) > 1]


def _between(begin: Point, end: Point, share: float) -> Point:
    return begin[0] + share * (end[0] - begin[0]), begin[1] + share * (end[1] - begin[1])


def _pixel(point: Point) -> tuple[int, int]:
    return round((point[0] + MARGIN) * SCALE), round((point[1] + MARGIN) * SCALE)


def _colour(place: int | None) -> Colour:
    """Return a colour of a figure as OpenCV orders it."""
    if place is None:
        return INK
    red, green, blue = bytes.fromhex(COLOURS[place].removeprefix("#"))
    return blue, green, red


def _mixed(colour: Colour, opacity: float) -> Colour:
    blue, green, red = (round(opacity * ink + (1 - opacity) * paper) for ink, paper in zip(colour, PAPER, strict=True))
    return blue, green, red
