"""A figure: rows of tiles. A tile shows a clip, with a map over it or without.

T frames of a clip, t time of a map, S side, H W height and width of a map or a picture
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Scale = Literal["clip", "shared"]
Mark = Literal["", "right", "wrong"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tile:
    """A clip, with its map and its caption."""

    clip: Pixels | None  # [T, H, W, 3], blue first; None: there is nothing, and `caption` says why
    still: int = 0  # the frame that stands for the clip where nothing moves
    map: Floats | None = None  # [t, H, W]
    fixed: tuple[float, float] | None = None  # the values that the lowest and the highest colour stand for
    threshold: float | None = None  # share of the map's range from which positions are outlined
    is_alone: bool = False  # the map is drawn without the clip
    caption: str = ""
    mark: Mark = ""

    @property
    def still_map(self) -> Floats:
        """The map that is drawn where nothing moves: its mean over time."""
        assert self.map is not None  # noqa: S101  asked only of tiles with a map
        mean: Floats = self.map.mean(0)
        return mean


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """The tiles of a video."""

    label: str
    tiles: Sequence[Tile]

    @property
    def map_shape(self) -> tuple[int, ...]:
        """The shape [t, H, W] of the first map."""
        return next(tile.map.shape for tile in self.tiles if tile.map is not None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Figure:
    """A picture with its title, the headings of its columns, and notes that explain it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    scale: Scale = "clip"  # shared: one range for all maps whose range is not fixed
    legend: tuple[str, str] | None = None  # what the lowest and the highest colour are; None: there are no colours
    alpha: float = 0.5  # share of the map's colour in what is drawn; the rest is the frame in grey
    tile: int | None = None  # side of a tile in pixels; None: what suits the clips
    seconds: float = 1.0  # that a loop takes
    per_video: int = 1  # rows
    about: Sequence[dict[str, Any]] = ()  # what --json says of each video

    def tiles(self) -> Iterator[Tile]:
        for row in self.rows:
            yield from row.tiles


def one_by_one(figure: Figure) -> Iterator[Figure]:
    """Yield a figure of each video."""
    for number, about in enumerate(figure.about):
        rows = figure.rows[number * figure.per_video : (number + 1) * figure.per_video]
        yield replace(figure, rows=rows, about=[about])
