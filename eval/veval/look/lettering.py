"""Text in pictures. OpenCV writes ASCII alone, so other letters lose their accents or become question marks."""

import cv2

from veval.look.figure import Pixels
from vprep.page.raster import ascii_text
from vprep.text import one_line

Colour = tuple[int, int, int]  # blue, green, red

FONT = cv2.FONT_HERSHEY_SIMPLEX
SIZES = {"title": 0.6, "text": 0.45}
LINE = {"title": 26, "text": 19}  # pixels from line to line
INK, FAINT = (30, 30, 30), (90, 90, 90)


def width_of(text: str, size: str = "text") -> int:
    """Return the width of an ASCII text in pixels."""
    (width, _), _ = cv2.getTextSize(text, FONT, SIZES[size], 1)
    return int(width)


def write(canvas: Pixels, text: str, left: int, top: int, *, size: str = "text", colour: Colour = INK) -> None:
    """Write a line of ASCII below `top`."""
    baseline = top + LINE[size] - LINE[size] // 3
    cv2.putText(canvas, text, (left, baseline), FONT, SIZES[size], colour, 1, cv2.LINE_AA)


def fitting(text: str, width: int, size: str = "text") -> str:
    """Return the text in ASCII, with its end left out where it is wider than `width`."""
    text = ascii_text(one_line(text))
    if width_of(text, size) <= width:
        return text
    while text and width_of(f"{text}...", size) > width:
        text = text[:-1]
    return f"{text}..."


def lines_of(text: str, width: int, size: str = "text") -> list[str]:
    """Return the text in ASCII, in lines that are no wider than `width`."""
    lines: list[str] = []
    for word in ascii_text(one_line(text)).split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(fitting(word, width, size))
    return lines
