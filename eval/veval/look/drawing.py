"""Draw a figure: a title, rows of tiles below their headings, the legend of the colours, and the notes.

T frames of a clip, t time of a map, H W height and width
"""

import math
from itertools import pairwise

import cv2
import numpy as np

from veval.look.colour import LEVELS, ramp
from veval.look.figure import Figure, Floats, Pixels, Row, Tile
from veval.look.layout import GAP, MARGIN, Layout
from veval.look.lettering import FAINT, INK, LINE, Colour, fitting, width_of, write
from veval.look.shading import at_frames, blended, box_of, enlarged, scaled

Point = tuple[int, int]

PAPER, EMPTY = 255, (225, 225, 225)
BORDER, DASH = 4, 20
RIGHT, WRONG = (120, 130, 0), (40, 60, 215)  # teal and red, which differ in lightness, too
BAR = (160, 12)  # width and height of the legend


def still(figure: Figure) -> Pixels:
    """Return the figure as one picture."""
    layout = Layout.of(figure, moving=False)
    rows = [[_still(tile, layout) for tile in row.tiles] for row in layout.figure.rows]
    return _picture(layout, rows)


def moving(figure: Figure) -> list[Pixels]:
    """Return the figure as pictures that play one after another, in which clips and maps move."""
    layout, frames = Layout.of(figure, moving=True), length_of(figure)
    films = [[_film(tile, layout, frames) for tile in row.tiles] for row in layout.figure.rows]
    return [_picture(layout, [[film[at] for film in row] for row in films]) for at in range(frames)]


def length_of(figure: Figure) -> int:
    """Return the number of frames of the longest clip."""
    return max((len(tile.clip) for tile in figure.tiles() if tile.clip is not None), default=1)


def _still(tile: Tile, layout: Layout) -> Pixels:
    """Return the picture of a tile where nothing moves."""
    if tile.clip is None:
        return _empty(layout)
    frame = tile.clip[tile.still]
    share_HW = None if tile.fixed is None else scaled(tile.still_map, tile.fixed)
    return _drawn_tile(tile, frame, share_HW, layout)


def _film(tile: Tile, layout: Layout, frames: int) -> list[Pixels]:
    """Return the pictures of a tile, one for each frame."""
    if tile.clip is None:
        return [_empty(layout)] * frames
    clip = [tile.clip[number * len(tile.clip) // frames] for number in range(frames)]
    shares: list[Floats | None] = [None] * frames
    if tile.map is not None and tile.fixed is not None:
        shares = list(scaled(at_frames(tile.map, frames), tile.fixed))
    return [_drawn_tile(tile, frame, share, layout) for frame, share in zip(clip, shares, strict=True)]


def _drawn_tile(tile: Tile, frame: Pixels, share_HW: Floats | None, layout: Layout) -> Pixels:
    picture = _fitted(frame, layout)
    if share_HW is None:
        return _bordered(tile, picture)
    alpha = 1.0 if tile.is_alone else layout.figure.alpha
    return _outlined(tile, blended(picture, enlarged(share_HW, layout.side), alpha), frame.shape[1])


def _fitted(frame: Pixels, layout: Layout) -> Pixels:
    """Return a frame in a tile, in its own proportions."""
    height, width = frame.shape[:2]
    scale = min(layout.side / width, layout.tall / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.full((layout.tall, layout.side, 3), PAPER, np.uint8)
    left, top = (layout.side - size[0]) // 2, (layout.tall - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(frame, size, interpolation=way)
    return canvas


def _empty(layout: Layout) -> Pixels:
    return np.full((layout.tall, layout.side, 3), EMPTY, np.uint8)


def _outlined(tile: Tile, picture: Pixels, seen: int) -> Pixels:
    """Return the picture with a box around the high part of the still map, in white with dark edges."""
    box = box_of(tile, seen)
    if box is not None:
        scale = len(picture) / seen
        left, top, width, height = (round(value * scale) for value in box)
        corners = (left, top), (min(left + width, len(picture)) - 1, min(top + height, len(picture)) - 1)
        cv2.rectangle(picture, *corners, (0, 0, 0), 4)
        cv2.rectangle(picture, *corners, (255, 255, 255), 2)
    return picture


def _bordered(tile: Tile, picture: Pixels) -> Pixels:
    """Return the picture with a solid border and a tick where the tile is right, or a dashed border and a cross."""
    if not tile.mark:
        return picture
    colour, (end, last) = RIGHT if tile.mark == "right" else WRONG, (len(picture) - 1, picture.shape[1] - 1)
    corners = [(0, 0), (last, 0), (last, end), (0, end), (0, 0)]
    for first, second in pairwise(corners):
        _side(picture, first, second, colour, is_dashed=tile.mark == "wrong")
    _sign(tile, picture, colour)
    return picture


def _side(picture: Pixels, first: Point, last: Point, colour: Colour, *, is_dashed: bool) -> None:
    """Draw a side of a border, as a line or as dashes."""
    count = max(1, math.dist(first, last) // DASH) if is_dashed else 1
    for number in range(int(count)):
        ends = (number / count, (number + (0.5 if is_dashed else 1)) / count)
        begin, stop = (tuple(round(a + share * (b - a)) for a, b in zip(first, last, strict=True)) for share in ends)
        cv2.line(picture, begin, stop, colour, 2 * BORDER)


def _sign(tile: Tile, picture: Pixels, colour: Colour) -> None:
    """Draw a tick or a cross on a disc in the upper left corner."""
    centre, radius = (BORDER + 14, BORDER + 14), 12
    cv2.circle(picture, centre, radius, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)
    cv2.circle(picture, centre, radius, colour, 2, cv2.LINE_AA)
    x, y = centre
    tick = [[(x - 6, y), (x - 2, y + 5), (x + 6, y - 5)]]
    cross = [[(x - 5, y - 5), (x + 5, y + 5)], [(x - 5, y + 5), (x + 5, y - 5)]]
    for line in tick if tile.mark == "right" else cross:
        cv2.polylines(picture, [np.array(line, np.int32)], False, colour, 2, cv2.LINE_AA)


def _picture(layout: Layout, rows: list[list[Pixels]]) -> Pixels:
    """Return the complete picture for the pictures of its tiles."""
    figure = layout.figure
    canvas = np.full((layout.height, layout.width, 3), PAPER, np.uint8)
    _lines(canvas, layout.title, MARGIN, MARGIN, "title")
    for number, heading in enumerate(layout.headings):
        below = layout.top - LINE["text"] * len(heading)
        _lines(canvas, heading, MARGIN + number * (layout.side + GAP), below)
    top = layout.top
    for row, pictures in zip(figure.rows, rows, strict=True):
        _row(canvas, layout, row, pictures, top)
        top += layout.height_of(row)
    bottom = layout.bottom
    if layout.legend:
        _legend(canvas, *layout.legend, bottom)
        bottom += LINE["text"] + GAP
    _lines(canvas, layout.notes, MARGIN, bottom, colour=FAINT)
    return canvas


def _row(canvas: Pixels, layout: Layout, row: Row, pictures: list[Pixels], top: int) -> None:
    side, tall = layout.side, layout.tall
    write(canvas, fitting(row.label, layout.inside), MARGIN, top)
    top += LINE["text"]
    for number, (tile, picture) in enumerate(zip(row.tiles, pictures, strict=True)):
        left = MARGIN + number * (side + GAP)
        canvas[top : top + tall, left : left + side] = picture
        _lines(canvas, layout.caption(tile), left, top + tall, colour=FAINT)


def _legend(canvas: Pixels, low: str, high: str, top: int) -> None:
    """Draw the colours from the lowest to the highest value, and what these are."""
    width, height = BAR
    left = MARGIN + width_of(low) + GAP
    write(canvas, low, MARGIN, top)
    canvas[top + 3 : top + 3 + height, left : left + width] = ramp()[np.arange(width) * LEVELS // width]
    write(canvas, high, left + width + GAP, top)


def _lines(
    canvas: Pixels, lines: list[str], left: int, top: int, size: str = "text", colour: Colour = INK
) -> None:  # fmt: skip
    for number, line in enumerate(lines):
        write(canvas, line, left, top + number * LINE[size], size=size, colour=colour)
