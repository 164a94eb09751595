"""Show one stored video: a contact sheet of its frames, or the video as a file."""

import itertools
import math
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cv2.typing import MatLike

from vprep.atomic import atomic_write
from vprep.errors import UsageError, WorkError, close_to, reason, writing
from vprep.format import jpeg_size
from vprep.index_rows import batches, with_key
from vprep.page.raster import ascii_text
from vprep.sample_rows import is_ascending
from vprep.text import brief
from vprep.video.encode import encode

COLUMNS, ROWS = 5, 4
MOST_TILES = 24
GAP, LINE = 6, 22  # pixels between tiles, and for one line of the caption
LEAST_WIDTH = 150  # of a tile, so that its time is legible and the caption fits
BACKGROUND, INK, FAINT = (32, 32, 32), (235, 235, 235), (165, 165, 165)
FONT = cv2.FONT_HERSHEY_SIMPLEX
PICTURES = (".png", ".jpg", ".jpeg")
VIDEO_OPTIONS = {
    # H.264 with 4:2:0 needs even sides.
    ".mp4": [
        *("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p"),
        *("-c:v", "libx264", "-crf", "18", "-f", "mp4"),
    ],
    # The palette comes from the video's own colours.
    ".gif": ["-filter_complex", "split[a][b];[a]palettegen[p];[b][p]paletteuse", "-f", "gif"],
    ".webp": ["-c:v", "libwebp_anim", "-quality", "75", "-loop", "0", "-f", "webp"],
}


def show(folder: Path, key: str, out: Path) -> dict[str, Any]:
    """Write the video `key` of the set in `folder` to `out`, in the form that the ending of `out` names."""
    ending = ending_of(out)
    row = with_key(folder, key)
    if row is None:
        raise no_video(folder, key)
    jpegs = jpegs_of(folder, row)
    if not jpegs:
        raise UsageError(f"video '{key}' in {folder} has no frames; there is nothing to show")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        shown = _video(row, jpegs, out) if ending in VIDEO_OPTIONS else _sheet(row, jpegs, out)
    info = {name: row[name] for name in ("key", "shard", "source", "class_name", "label", "frames", "fps", "damaged")}
    return info | {"shown": shown, "out": str(out), "bytes": out.stat().st_size}


def ending_of(out: Path) -> str:
    """Return the ending of the file to write; refuse one that names no form."""
    ending = out.suffix.lower()
    if ending not in (*PICTURES, *VIDEO_OPTIONS):
        raise UsageError(f"--out is '{out.name}'; it must end in one of {', '.join((*PICTURES, *VIDEO_OPTIONS))}")
    return ending


def no_video(folder: Path, key: str) -> UsageError:
    """Return the error for a key that the set does not have."""
    known = [name for batch in batches(folder, ["key"]) for name in batch["key"].to_pylist()]
    return UsageError(f"no video '{brief(key)}' in {folder}{close_to(key, known)}")


def jpegs_of(folder: Path, row: dict[str, Any]) -> list[bytes]:
    """Return the frames of a video, each from its first byte to its end marker."""
    path = folder / row["shard"]
    try:
        with path.open("rb") as tar:
            data = os.pread(tar.fileno(), row["size"], row["offset"])
    except OSError as error:
        raise WorkError(
            f"{path} cannot be read ({reason(error)}); vprep verify {folder} lists what is damaged"
        ) from None
    if len(data) != row["size"]:
        raise WorkError(f"{path}, video '{row['key']}': cut off; vprep verify {folder} lists what is damaged")
    offsets = row["frame_offsets"] or []
    if not is_ascending(offsets, len(data)):
        raise WorkError(f"{path}, video '{row['key']}': its frame offsets are wrong; vprep verify {folder} says more")
    frames = [data[begin:end] for begin, end in itertools.pairwise(offsets)]
    # In tars that vprep did not make, the header of the next member follows a frame.
    return [frame[: frame.rfind(b"\xff\xd9") + 2] or frame for frame in frames]


def _video(row: dict[str, Any], jpegs: list[bytes], out: Path) -> int:
    write_video(b"".join(jpegs), row["fps"], out)
    return len(jpegs)


def write_video(mjpeg: bytes, fps: float, out: Path) -> None:
    """Write pictures as a video in the form that the ending of `out` names."""
    input_options = ["-f", "mjpeg", "-framerate", f"{fps:g}"]
    encode(mjpeg, out, input_options=input_options, output_options=VIDEO_OPTIONS[out.suffix.lower()])


def _sheet(row: dict[str, Any], jpegs: list[bytes], out: Path) -> int:
    numbers = _spaced(len(jpegs))
    tiles = [_tile(jpegs[number], number / row["fps"], row) for number in numbers]
    write_picture(_with_caption(_grid(tiles), _captions(row)), out)
    return len(tiles)


def write_picture(picture: MatLike, out: Path) -> None:
    """Write a picture in the form that the ending of `out` names."""
    done, data = cv2.imencode(out.suffix.lower(), picture)
    if not done:
        raise WorkError(f"{out} could not be encoded; choose another ending for --out")
    with atomic_write(out) as file:
        file.write(data.tobytes())


def _spaced(frames: int) -> list[int]:
    """Return the frames of the sheet: all of a short video, else evenly spaced from the first to the last."""
    if frames <= MOST_TILES:
        return list(range(frames))
    count = COLUMNS * ROWS
    return [round(number * (frames - 1) / (count - 1)) for number in range(count)]


def picture_of(jpeg: bytes, row: dict[str, Any]) -> MatLike:
    """Return a frame of a video; a grey picture where it is damaged."""
    # The size is compared first: a few bytes can claim 65,535 x 65,535 pixels.
    fits = jpeg_size(jpeg) == (row["height"], row["width"])
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if fits else None
    if picture is None:
        picture = np.full((row["height"] or 128, row["width"] or 171, 3), 90, np.uint8)
        write(picture, "no picture", (8, 20), INK, 0.45)
    return picture


def _tile(jpeg: bytes, seconds: float, row: dict[str, Any]) -> MatLike:
    picture = picture_of(jpeg, row)
    if picture.shape[1] < LEAST_WIDTH:
        scale = LEAST_WIDTH / picture.shape[1]
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    text = f"{seconds:.2f} s"
    (width, height), _ = cv2.getTextSize(text, FONT, 0.38, 1)
    bottom = picture.shape[0]
    cv2.rectangle(picture, (0, bottom - height - 8), (width + 9, bottom), (0, 0, 0), cv2.FILLED)
    write(picture, text, (4, bottom - 5), INK, 0.38)
    return picture


def _grid(tiles: list[MatLike]) -> MatLike:
    """Return one picture of all tiles, row by row, each resized to the size of the first."""
    height, width = tiles[0].shape[:2]
    columns = min(COLUMNS, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    canvas = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), BACKGROUND, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = (GAP + number // columns * (height + GAP), GAP + number % columns * (width + GAP))
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
    return np.vstack([caption(lines, grid.shape[1]), grid])


def caption(lines: list[str], width: int) -> MatLike:
    """Return lines of text as a picture of this width; a longer line is written in smaller letters."""
    band = np.full((LINE * len(lines) + GAP, width, 3), BACKGROUND, np.uint8)
    for number, line in enumerate(lines):
        text, available = ascii_text(line), width - 2 * GAP
        (width, _), _ = cv2.getTextSize(text, FONT, 0.5, 1)
        write(
            band, text, (GAP, LINE * (number + 1) - 5), INK if number == 0 else FAINT, min(0.5, 0.5 * available / width)
        )
    return band


def write(picture: MatLike, text: str, at: tuple[int, int], colour: tuple[int, int, int], scale: float) -> None:
    cv2.putText(picture, text, at, FONT, scale, colour, 1, cv2.LINE_AA)
