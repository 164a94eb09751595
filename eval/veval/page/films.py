"""The films of the page: two seconds from the middle of each video, small, each stored once.

All films together stay within a number of bytes: the best settings are taken whose films fit, measured on some videos.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vprep.errors import WorkError
from vprep.page import pictures
from vtrain.data.dataset import Videos
from vtrain.data.frames import read_frames
from vtrain.data.shard_reader import BadSampleError, ShardReader

WIDTH, HEIGHT = 128, 96  # of the box that a film fits into on the page
SECONDS = 2.0
MOST = 500  # films of a page
BYTES = 3_500_000  # of all films together, in base64
SAMPLE = 16  # films that are made to choose the settings


@dataclass(frozen=True, slots=True)
class Setting:
    """How films are made."""

    scale: float
    frames: int
    quality: int


SETTINGS = (Setting(1, 12, 60), Setting(1, 10, 45), Setting(0.875, 8, 35), Setting(0.75, 6, 25), Setting(0.5, 4, 20))


@dataclass(slots=True)
class Films:
    """The films of a page, and why there are no more."""

    number: dict[str, int] = field(default_factory=dict)  # of a video's film, by key
    base64: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def without(reason: str) -> Films:
    """Return no films, with the reason."""
    return Films(notes=[f"Pictures are left out: {reason}."])


def make(videos: Videos, keys: Sequence[str], progress: Callable[[int, int], None], most_bytes: int = BYTES) -> Films:
    """Return the films of the videos `keys`, of as many as fit; the first come first."""
    wanted = list(dict.fromkeys(keys))[:MOST]
    rows = _rows(videos, wanted)
    reader, found = ShardReader(videos), Films()
    known = [key for key in wanted if key in rows]
    unread: list[str] = []
    setting = _setting(videos, reader, [rows[key] for key in known], most_bytes)
    size = 0
    for done, key in enumerate(known, 1):
        film = _film_or_none(videos, reader, rows[key], setting, unread)
        if film is not None and size + len(film) <= most_bytes:
            size += len(film)
            found.number[key] = len(found.base64)
            found.base64.append(film)
        progress(done, len(known))
    found.notes += _notes(len(wanted) - len(known), unread, len(known) - len(unread) - len(found.base64))
    return found


def _notes(absent: int, unread: Sequence[str], too_many: int) -> list[str]:
    lines = [f"{absent} videos are not in the shards and have no picture."] if absent else []
    lines += [f"{len(unread)} videos could not be read and have no picture: {unread[0]}."] if unread else []
    lines += [f"{too_many} videos have no picture, because the page would be too large."] if too_many > 0 else []
    return lines


def _rows(videos: Videos, keys: Sequence[str]) -> dict[str, int]:
    """Return the rows of the videos `keys`, of those that are there."""
    wanted, found = set(keys), {}
    for row in range(len(videos)):
        key = videos.keys[row].as_py()
        if key in wanted:
            found[key] = row
    return found


def _setting(videos: Videos, reader: ShardReader, rows: Sequence[int], most_bytes: int) -> Setting:
    """Return the first setting with which films of all `rows` fit, by the mean of some of them."""
    tried = [rows[number] for number in pictures.spaced(len(rows), SAMPLE)]
    for setting in SETTINGS:
        films = [_film_or_none(videos, reader, row, setting, []) for row in tried]
        sizes = [len(film) for film in films if film is not None]
        if sum(sizes) / max(1, len(sizes)) * len(rows) <= most_bytes:
            return setting
    return SETTINGS[-1]


def _film_or_none(videos: Videos, reader: ShardReader, row: int, setting: Setting, unread: list[str]) -> str | None:
    """Return the film of a video in base64; None, and a reason in `unread`, where it cannot be read."""
    numbers, seconds = _moment(int(videos.frames[row]), float(videos.fps[row]), setting.frames)
    try:
        frames = read_frames(videos, reader, row, numbers)
    except (BadSampleError, WorkError) as error:
        unread.append(f"{videos.keys[row].as_py()}: {error}")
        return None
    width, height = round(setting.scale * WIDTH), round(setting.scale * HEIGHT)
    small = [pictures.fitted(frame, width, height) for frame in frames]
    return base64.b64encode(pictures.animation(small, seconds=seconds, quality=setting.quality)).decode()


def _moment(frames: int, fps: float, most: int) -> tuple[list[int], float]:
    """Return frames from the middle of a video, at most `most`, and the seconds that they last at its own speed."""
    rate = fps if fps > 0 else 25.0
    length = max(1, min(frames, round(SECONDS * rate)))
    first = (frames - length) // 2
    return [first + number for number in pictures.spaced(length, most)], length / rate
