"""Pictures inside a page: frames as an animated WebP or a PNG, and both as `data:` addresses.

Frames are arrays of height x width x 3, uint8, in OpenCV's order blue, green, red.
"""

import base64
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
from cv2.typing import MatLike

from vprep.errors import WorkError

Kind = Literal["png", "jpeg", "gif", "webp"]


def animation(frames: Sequence[MatLike], *, seconds: float, quality: int = 50) -> bytes:
    """Return frames of one size as an animated WebP that plays in `seconds` and loops for ever."""
    return animated(frames, ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality], seconds=seconds)


def animated(
    frames: Sequence[MatLike], ending: str, options: Sequence[int], *, seconds: float, shortest: int = 1
) -> bytes:
    """Return frames as an animation that plays in `seconds`, each frame for at least `shortest` milliseconds."""
    played = cv2.Animation()
    played.loop_count = 0
    played.frames = list(frames)
    played.durations = [max(shortest, round(1000 * seconds / len(frames)))] * len(frames)
    with tempfile.TemporaryDirectory() as folder:  # OpenCV 4.11 writes animations to files only
        path = Path(folder) / f"animation{ending}"
        if not cv2.imwriteanimation(str(path), played, options):
            raise WorkError(f"OpenCV could not write an animation as {ending}; choose another ending")
        return path.read_bytes()


def png(picture: MatLike) -> bytes:
    """Return a picture as a PNG."""
    return _encoded(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def webp(picture: MatLike, quality: int = 60) -> bytes:
    """Return a picture as a WebP that does not move."""
    return _encoded(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, quality])


def address(picture: bytes, kind: Kind) -> str:
    """Return a picture as the `src` of an image that needs no other file."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def fitted(frame: MatLike, width: int, height: int) -> MatLike:
    """Return a frame as large as fits into `width` x `height`, in its own proportions."""
    rows, columns = frame.shape[:2]
    scale = min(width / columns, height / rows)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def spaced(count: int, most: int) -> list[int]:
    """Return at most `most` numbers below `count`, evenly spaced, from the first."""
    if count <= most:
        return list(range(count))
    return [number * count // most for number in range(most)]


def _encoded(ending: str, picture: MatLike, options: list[int]) -> bytes:
    done, data = cv2.imencode(ending, picture, options)
    if not done:
        raise WorkError(f"OpenCV could not write a picture as {ending}; `vprep doctor` says more about this machine")
    return data.tobytes()
