"""Show several stored videos: a contact sheet with a row for each, or one video in which all play side by side."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cv2.typing import MatLike

from vprep.errors import UsageError, close_to, reason, writing
from vprep.index_rows import batches, with_keys
from vprep.preview import (
    BACKGROUND,
    GAP,
    PICTURES,
    caption,
    ending_of,
    jpegs_of,
    no_video,
    picture_of,
    write_picture,
    write_video,
)
from vprep.summary import counted

FRAMES = 8  # in a row of the sheet
HEIGHT, WIDTH = 96, 128  # pixels of a frame, and at least of a video beside others
MOST_ROWS, MOST_BESIDE = 50, 16  # videos in a sheet, and in one video
MOST_FRAMES = 3000  # of a video in which several play: two minutes at 25 fps
MOST_KEYS = 1 << 20  # bytes of a file of keys
QUALITY = 92


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Keys of videos, and how many there were to choose from."""

    keys: Sequence[str]
    of: int


def choose(folder: Path, keys: Sequence[str], class_name: str | None, file: Path | None, out: Path) -> Chosen | None:
    """Return the videos that the options of a command name; None where they name none, or one by its key."""
    ending_of(out)
    ways = [name for name, given in (("KEY", keys), ("--class", class_name is not None), ("--keys", file)) if given]
    if len(ways) > 1:
        raise UsageError(f"{' and '.join(ways)} both name videos; use one of them")
    if class_name is not None:
        return of_class(folder, class_name, out)
    if file is not None:
        return named(keys_in(file), out)
    return named(keys, out) if len(keys) > 1 else None


def show_many(folder: Path, chosen: Chosen, out: Path) -> dict[str, Any]:
    """Write the videos of the set in `folder` to `out`, in the form that the ending of `out` names."""
    rows = rows_of(folder, chosen.keys)
    seconds: float | None = None
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        if ending_of(out) in PICTURES:
            write_picture(np.vstack([_row(folder, row) for row in rows]), out)
        else:
            fps = max(row["fps"] for row in rows)
            seconds = min(max(row["frames"] / row["fps"] for row in rows), MOST_FRAMES / fps)
            write_video(b"".join(_frames(folder, rows, fps, seconds)), fps, out)
    whole = seconds is None or all(row["frames"] / row["fps"] <= seconds for row in rows)
    names = ("key", "shard", "source", "class_name", "label", "frames", "fps", "damaged")
    videos = [{name: row[name] for name in names} for row in rows]
    cut = None if whole else seconds
    return {"videos": videos, "of": chosen.of, "seconds": cut, "out": str(out), "bytes": out.stat().st_size}


def of_class(folder: Path, name: str, out: Path) -> Chosen:
    """Return the first videos of a class, as many as `out` can show."""
    found: list[str] = []
    classes: set[str] = set()
    count = 0
    for rows in batches(folder, ["key", "class_name"]):
        for key, class_name in zip(rows["key"].to_pylist(), rows["class_name"].to_pylist(), strict=True):
            if class_name is not None:
                classes.add(class_name)
            if class_name == name:
                count += 1
                if len(found) < most(out):
                    found.append(key)
    if not found:
        raise UsageError(f"no video of class '{name}' in {folder}{close_to(name, sorted(classes))}")
    return Chosen(keys=found, of=count)


def named(keys: Sequence[str], out: Path) -> Chosen:
    """Return the keys that a user has named, each once; refuse more than `out` can show."""
    known = list(dict.fromkeys(keys))
    if len(known) > most(out):
        what = "a contact sheet" if ending_of(out) in PICTURES else "a video"
        raise UsageError(f"{len(known)} videos are named; {what} shows at most {most(out)}: name fewer")
    return Chosen(keys=known, of=len(known))


def keys_in(path: Path) -> list[str]:
    """Return the keys of a file, one a line."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_KEYS + 1)
        lines = data.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = reason(error) if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"--keys {path} cannot be read ({why}); name a text file with one key a line") from None
    if len(data) > MOST_KEYS:
        raise UsageError(f"--keys {path} has more than {MOST_KEYS} bytes; name a text file with one key a line")
    keys = [line for line in map(str.strip, lines) if line]
    if not keys:
        raise UsageError(f"--keys {path} holds no key; write one a line")
    return keys


def most(out: Path) -> int:
    """Return how many videos a file of this form can show."""
    return MOST_ROWS if ending_of(out) in PICTURES else MOST_BESIDE


def rows_of(folder: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of videos in the order of `keys`; refuse a key that the set lacks, and a video without frames."""
    found = {row["key"]: row for row in with_keys(folder, keys)}
    for key in keys:
        if key not in found:
            raise no_video(folder, key)
        if not found[key]["frames"]:
            raise UsageError(f"video '{key}' in {folder} has no frames; leave it out")
    return [found[key] for key in keys]


def as_text(info: dict[str, Any]) -> str:
    """Return what was written as a sentence."""
    shown = counted(len(info["videos"]), "video")
    of = f" of {info['of']:,}" if info["of"] > len(info["videos"]) else ""
    return f"{info['out']}: {shown}{of}" + (f", their first {info['seconds']:g} s" if info["seconds"] else "")


def _row(folder: Path, row: dict[str, Any]) -> MatLike:
    """Return a caption and evenly spaced frames of a video."""
    jpegs = jpegs_of(folder, row)
    numbers = sorted({round(index * (len(jpegs) - 1) / (FRAMES - 1)) for index in range(FRAMES)})
    strip = np.full((HEIGHT + GAP, FRAMES * (WIDTH + GAP) + GAP, 3), BACKGROUND, np.uint8)
    for index, number in enumerate(numbers):
        left = GAP + index * (WIDTH + GAP)
        _put(strip, picture_of(jpegs[number], row), (0, left), (HEIGHT, WIDTH))
    about = f"{row['key']}   class {row['class_name'] or '-'}, {row['frames'] / row['fps']:.2f} s"
    return np.vstack([caption([about], strip.shape[1]), strip])


def _frames(folder: Path, rows: Sequence[dict[str, Any]], fps: float, seconds: float) -> Iterator[bytes]:
    """Yield the pictures of a video in which all play side by side at their own speed; one that has ended stands."""
    columns = math.ceil(math.sqrt(len(rows)))
    films = [jpegs_of(folder, row)[: math.ceil(seconds * row["fps"]) + 1] for row in rows]
    size = max(HEIGHT, *(row["height"] for row in rows)), max(WIDTH, *(row["width"] for row in rows))
    names = [caption([row["key"]], size[1]) for row in rows]
    height, width = size[0] + names[0].shape[0], size[1] + GAP
    canvas = np.full((math.ceil(len(rows) / columns) * height, columns * width + GAP, 3), BACKGROUND, np.uint8)
    shown = [-1] * len(rows)
    for number in range(max(1, round(seconds * fps))):
        for index, (row, film) in enumerate(zip(rows, films, strict=True)):
            frame = min(len(film) - 1, int(number / fps * row["fps"] + 1e-6))
            if frame != shown[index]:
                top, left = index // columns * height, GAP + index % columns * width
                canvas[top : top + names[index].shape[0], left : left + size[1]] = names[index]
                _put(canvas, picture_of(film[frame], row), (top + names[index].shape[0], left), size)
                shown[index] = frame
        yield cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def _put(canvas: MatLike, picture: MatLike, at: tuple[int, int], size: tuple[int, int]) -> None:
    """Draw a picture into the middle of a place, as large as fits in its own proportions."""
    rows, columns = picture.shape[:2]
    scale = min(size[0] / rows, size[1] / columns)
    height, width = max(1, int(rows * scale)), max(1, int(columns * scale))
    top, left = at[0] + (size[0] - height) // 2, at[1] + (size[1] - width) // 2
    canvas[top : top + height, left : left + width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
