"""Draws one stored video: a sheet of its frames, or the video itself."""

import itertools
import math
import os
import unicodedata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cv2.typing import MatLike

from vprep.atomic import atomic_write
from vprep.errors import UsageError, WorkError
from vprep.index_rows import batches, hint, with_key
from vprep.video.encode import encode

COLUMNS, ROWS = 5, 4
MOST_TILES = 24
GAP, LINE = 6, 22  # pixels between tiles, and for one line of the caption
LEAST_WIDTH = 150  # of a tile, so that its time can be read and the caption fits
GROUND, INK, FAINT = (32, 32, 32), (235, 235, 235), (165, 165, 165)
FONT = cv2.FONT_HERSHEY_SIMPLEX
PICTURES = (".png", ".jpg", ".jpeg")
FILMS = {
    # Both sides even, for H.264 with 4:2:0.
    ".mp4": [
        *("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p"),
        *("-c:v", "libx264", "-crf", "18", "-f", "mp4"),
    ],
    # The palette is made of the video's own colours.
    ".gif": ["-filter_complex", "split[a][b];[a]palettegen[p];[b][p]paletteuse", "-f", "gif"],
}


def show(folder: Path, key: str, out: Path) -> dict[str, Any]:
    """Draw the video `key` of the set in `folder` to `out`, whose ending says how."""
    ending = out.suffix.lower()
    if ending not in (*PICTURES, *FILMS):
        raise UsageError(f"cannot draw '{out.name}'; --out ends in one of {', '.join((*PICTURES, *FILMS))}")
    row = with_key(folder, key)
    if row is None:
        known = [name for batch in batches(folder, ["key"]) for name in batch["key"].to_pylist()]
        raise UsageError(f"no video '{key}' in {folder}{hint(key, known)}")
    jpegs = _jpegs(folder, row)
    if not jpegs:
        raise UsageError(f"video '{key}' in {folder} has no frames; there is nothing to draw")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shown = _film(row, jpegs, out) if ending in FILMS else _sheet(row, jpegs, out)
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot write {out}: {said}; choose another --out") from None
    facts = {name: row[name] for name in ("key", "shard", "source", "class_name", "label", "frames", "fps", "damaged")}
    return facts | {"shown": shown, "out": str(out), "bytes": out.stat().st_size}


def _jpegs(folder: Path, row: dict[str, Any]) -> list[bytes]:
    """The frames of a video, each from its first byte to its end marker."""
    path = folder / row["shard"]
    try:
        with path.open("rb") as tar:
            data = os.pread(tar.fileno(), row["size"], row["offset"])
    except OSError as error:
        raise WorkError(f"{path} cannot be read ({(error.strerror or str(error)).lower()})") from None
    if len(data) != row["size"]:
        raise WorkError(f"{path}, video '{row['key']}': cut off; vprep verify {folder} tells what is damaged")
    offsets = row["frame_offsets"]
    frames = [data[begin:end] for begin, end in itertools.pairwise(offsets)]
    # In the tars of others, the header of the next member stands behind a frame.
    return [frame[: frame.rfind(b"\xff\xd9") + 2] or frame for frame in frames]


def _film(row: dict[str, Any], jpegs: list[bytes], out: Path) -> int:
    source = ["-f", "mjpeg", "-framerate", f"{row['fps']:g}"]
    encode(b"".join(jpegs), out, source=source, film=FILMS[out.suffix.lower()])
    return len(jpegs)


def _sheet(row: dict[str, Any], jpegs: list[bytes], out: Path) -> int:
    numbers = _spaced(len(jpegs))
    tiles = [_tile(jpegs[number], number / row["fps"], row) for number in numbers]
    done, picture = cv2.imencode(out.suffix.lower(), _with_caption(_grid(tiles), _captions(row)))
    if not done:
        raise WorkError(f"{out} could not be encoded")
    with atomic_write(out) as file:
        file.write(picture.tobytes())
    return len(tiles)


def _spaced(frames: int) -> list[int]:
    """The frames that are shown: all of a short video, else evenly spaced with the first and the last."""
    if frames <= MOST_TILES:
        return list(range(frames))
    count = COLUMNS * ROWS
    return [round(place * (frames - 1) / (count - 1)) for place in range(count)]


def _tile(jpeg: bytes, seconds: float, row: dict[str, Any]) -> MatLike:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    if picture is None:
        picture = np.full((row["height"] or 128, row["width"] or 171, 3), 90, np.uint8)
        _write(picture, "no picture", (8, 20), INK, 0.45)
    if picture.shape[1] < LEAST_WIDTH:
        scale = LEAST_WIDTH / picture.shape[1]
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    text = f"{seconds:.2f} s"
    (width, height), _ = cv2.getTextSize(text, FONT, 0.38, 1)
    bottom = picture.shape[0]
    cv2.rectangle(picture, (0, bottom - height - 8), (width + 9, bottom), (0, 0, 0), cv2.FILLED)
    _write(picture, text, (4, bottom - 5), INK, 0.38)
    return picture


def _grid(tiles: list[MatLike]) -> MatLike:
    """The tiles, row by row; all have the size of the first."""
    height, width = tiles[0].shape[:2]
    columns = min(COLUMNS, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    canvas = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), GROUND, np.uint8)
    for place, tile in enumerate(tiles):
        top, left = (GAP + place // columns * (height + GAP), GAP + place % columns * (width + GAP))
        canvas[top : top + height, left : left + width] = cv2.resize(tile, (width, height))
    return canvas


def _captions(row: dict[str, Any]) -> list[str]:
    splits = [f"{number}: {row[f'split{number}']}" for number in (1, 2, 3) if row[f"split{number}"]]
    size = f"{row['frames']} frames, {row['height']} high and {row['width']} wide, at {row['fps']:g} fps"
    return [
        row["key"],
        f"class {row['class_name'] or '-'}, label {'-' if row['label'] is None else row['label']}, "
        f"split {', '.join(splits) or '-'}",
        f"{size}, {row['size'] / 1000:.0f} kB, {row['damaged'] or 0} damaged",
    ]


def _with_caption(grid: MatLike, lines: list[str]) -> MatLike:
    band = np.full((LINE * len(lines) + GAP, grid.shape[1], 3), GROUND, np.uint8)
    for number, line in enumerate(lines):
        text, room = _plain(line), grid.shape[1] - 2 * GAP
        (width, _), _ = cv2.getTextSize(text, FONT, 0.5, 1)
        _write(band, text, (GAP, LINE * (number + 1) - 5), INK if number == 0 else FAINT, min(0.5, 0.5 * room / width))
    return np.vstack([band, grid])


def _plain(text: str) -> str:
    """ASCII, as OpenCV's letters are: accents are dropped, what remains foreign becomes a question mark."""
    parts = unicodedata.normalize("NFKD", text)
    return "".join(part for part in parts if not unicodedata.combining(part)).encode("ascii", "replace").decode()


def _write(picture: MatLike, text: str, place: tuple[int, int], colour: tuple[int, int, int], scale: float) -> None:
    cv2.putText(picture, text, place, FONT, scale, colour, 1, cv2.LINE_AA)
