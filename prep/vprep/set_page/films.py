"""Films of stored videos: small animated WebP, as many as fit into a number of bytes."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vprep.errors import WorkError
from vprep.index_rows import with_keys
from vprep.page.pictures import animation, fitted, spaced
from vprep.preview import jpegs_of, picture_of
from vprep.progress import Progress
from vprep.text import byte_size

BUDGET = 3_500_000  # bytes of all films, as base64
SIDE = 128  # pixels, most of a film's width or height
FRAMES = 8
SECONDS = 2.0  # that a film takes at least; a shorter video is slowed down, a longer one hastened
MOST_SECONDS = 4.0
QUALITY = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A video on the page: what is said of it, and its animated WebP in base64."""

    row: dict[str, Any]
    data: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Films:
    """The films that fit, in the order of their keys; and the keys of videos that could not be read."""

    films: Sequence[Film]
    unreadable: Sequence[str]
    left_out: int  # for want of room

    @property
    def bytes(self) -> int:
        return sum(len(film.data) for film in self.films)


def films_of(folder: Path, keys: Sequence[str]) -> Films:
    """Return films of these videos, up to the budget; the first keys come first."""
    rows = {row["key"]: row for row in with_keys(folder, keys)}
    films: list[Film] = []
    unreadable: list[str] = []
    taken = 0
    with Progress(len(keys)) as progress:
        for number, key in enumerate(keys):
            progress.move(number + 1)
            progress.show(f"{number + 1}/{len(keys)} pictures", f"{byte_size(taken)} taken")
            try:
                film = _film(folder, rows[key])
            except (WorkError, KeyError):
                unreadable.append(key)
                continue
            if taken + len(film.data) > BUDGET:
                progress.move(len(keys))
                return Films(films=films, unreadable=unreadable, left_out=len(keys) - number)
            taken += len(film.data)
            films.append(film)
    return Films(films=films, unreadable=unreadable, left_out=0)


def _film(folder: Path, row: dict[str, Any]) -> Film:
    jpegs = jpegs_of(folder, row)
    frames = [fitted(picture_of(jpegs[number], row), SIDE, SIDE) for number in spaced(len(jpegs), FRAMES)]
    seconds = min(MOST_SECONDS, max(SECONDS, row["frames"] / row["fps"]))
    kept = {name: value for name, value in row.items() if name not in ("frame_offsets", "frame_checks")}
    height, width = frames[0].shape[:2]
    data = base64.b64encode(animation(frames, seconds=seconds, quality=QUALITY)).decode()
    return Film(row=kept, data=data, width=width, height=height)
