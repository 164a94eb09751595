"""Where the parts of a figure stand, and the ranges that its maps are scaled to."""

from dataclasses import dataclass, replace

from veval.look.figure import Figure, Floats, Row, Tile
from veval.look.lettering import LINE, lines_of
from veval.look.shading import Range, range_of

GAP, MARGIN = 6, 12
LEAST_TILE, MOST_TILE = 160, 480  # pixels; in fewer no caption fits
LEAST_WIDTH = 560  # of a figure, so that its notes are legible


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a figure stand. Each map of the figure has its range."""

    figure: Figure
    side: int  # width of a tile
    tall: int  # height of a tile
    legend: tuple[str, str] | None  # what the lowest and the highest colour are

    @classmethod
    def of(cls, figure: Figure, *, moving: bool) -> "Layout":
        shared = shared_range(figure, moving=moving)
        legend = figure.legend if shared is None else (short(shared[0]), f"{short(shared[1])}, as in all maps here")
        sizes = [tile.clip.shape[1:3] for tile in figure.tiles() if tile.clip is not None] or [(1, 1)]
        widest = max(width for _, width in sizes)
        side = figure.tile or min(MOST_TILE, widest * -(-LEAST_TILE // widest))
        tall = min(side, max(1, round(side * max(height / width for height, width in sizes))))
        rows = [replace(row, tiles=[_settled(tile, shared, moving) for tile in row.tiles]) for row in figure.rows]
        return cls(replace(figure, rows=rows), side, tall, legend)

    @property
    def width(self) -> int:
        tiles = max(len(row.tiles) for row in self.figure.rows)
        return max(LEAST_WIDTH, tiles * (self.side + GAP) - GAP) + 2 * MARGIN

    @property
    def inside(self) -> int:
        """The width of a line of text."""
        return self.width - 2 * MARGIN

    @property
    def title(self) -> list[str]:
        return lines_of(self.figure.title, self.inside, "title") if self.figure.title else []

    @property
    def notes(self) -> list[str]:
        return [line for note in self.figure.notes for line in lines_of(note, self.inside)]

    @property
    def headings(self) -> list[list[str]]:
        return [lines_of(column, self.side) for column in self.figure.columns]

    @property
    def top(self) -> int:
        """Where the first row begins."""
        deepest = max((len(heading) for heading in self.headings), default=0)
        return MARGIN + LINE["title"] * len(self.title) + GAP + LINE["text"] * deepest

    def height_of(self, row: Row) -> int:
        """Return the height of a row: its label, its tiles and their captions."""
        captions = max(len(self.caption(tile)) for tile in row.tiles)
        return LINE["text"] * (1 + captions) + self.tall + 2 * GAP

    @property
    def bottom(self) -> int:
        """Where the legend and the notes begin."""
        return self.top + sum(map(self.height_of, self.figure.rows)) + GAP

    @property
    def height(self) -> int:
        legend = LINE["text"] + GAP if self.legend else 0
        return self.bottom + legend + LINE["text"] * len(self.notes) + MARGIN

    def caption(self, tile: Tile) -> list[str]:
        """Return the lines below a tile."""
        return [line for part in tile.caption.split("\n") for line in lines_of(part, self.side)]


def shared_range(figure: Figure, *, moving: bool) -> Range | None:
    """Return the range that all maps are scaled to; None where each has its own."""
    maps = [tile for tile in figure.tiles() if tile.map is not None and tile.fixed is None]
    return range_of(_drawn(tile, moving) for tile in maps) if figure.scale == "shared" and maps else None


def _drawn(tile: Tile, moving: bool) -> Floats:
    """Return the map that is drawn."""
    return tile.map if moving and tile.map is not None else tile.still_map


def _settled(tile: Tile, shared: Range | None, moving: bool) -> Tile:
    """Return the tile with the range of its map, which its caption names where it is its own."""
    if tile.map is None or tile.fixed is not None:
        return tile
    low, high = shared or range_of([_drawn(tile, moving)])
    own = f"{short(low)} to {short(high)}" if high > low else f"{short(low)} everywhere"
    caption = tile.caption if shared else "\n".join(filter(None, (tile.caption, own)))
    return replace(tile, fixed=(low, high), caption=caption)


def short(value: float) -> str:
    """Return a number with three digits, or a large one in whole."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
