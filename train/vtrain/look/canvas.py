"""Lines drawn with characters: eight dots in each by Braille, or one sign in each in plain ASCII."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

# The bit of each dot in a Braille character, by its row and column.
BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
BRAILLE = 0x2800
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Cell:
    """A character, and the line that it belongs to; None for none."""

    sign: str = " "
    owner: int | None = None


@dataclass(slots=True)
class Canvas:
    """An area of `columns` x `rows` characters, with lines of dots in it; a later line covers an earlier one."""

    columns: int
    rows: int
    braille: bool
    _bits: dict[Place, int] = field(default_factory=dict)
    _cells: dict[Place, Cell] = field(default_factory=dict)

    @property
    def size(self) -> Place:
        """How many dots there are across and down."""
        return (2 * self.columns, 4 * self.rows) if self.braille else (self.columns, self.rows)

    def line(self, points: Sequence[Place], owner: int, sign: str) -> None:
        """Join dots, of which (0, 0) is at the upper left; `sign` draws them in plain ASCII."""
        if len(points) == 1:
            self._dot(points[0], owner, sign)
        for begin, end in pairwise(points):
            for place in between(begin, end):
                self._dot(place, owner, sign)

    def level(self, height: int) -> None:
        """Draw a straight line of spaced dots where nothing else is."""
        for across in range(0, self.size[0], 4 if self.braille else 2):
            cell = self._cell((across, height))
            if cell not in self._cells:
                self._bits[cell] = self._bits.get(cell, 0) | self._bit((across, height))
                sign = chr(BRAILLE + self._bits[cell]) if self.braille else "."
                self._cells[cell] = Cell(sign)

    def row(self, number: int) -> list[Cell]:
        """Return the characters of a row."""
        return [self._cells.get((column, number), Cell()) for column in range(self.columns)]

    def row_of(self, height: int) -> int:
        """Return the row of characters that holds a dot."""
        return self._cell((0, height))[1]

    def _dot(self, place: Place, owner: int, sign: str) -> None:
        cell = self._cell(place)
        self._bits[cell] = self._bits.get(cell, 0) | self._bit(place)
        self._cells[cell] = Cell(chr(BRAILLE + self._bits[cell]) if self.braille else sign, owner)

    def _cell(self, place: Place) -> Place:
        return (place[0] // 2, place[1] // 4) if self.braille else place

    def _bit(self, place: Place) -> int:
        return BITS[place[1] % 4][place[0] % 2]


def between(begin: Place, end: Place) -> Iterator[Place]:
    """Yield the dots of a straight line."""
    (x0, y0), (x1, y1) = begin, end
    steps = max(abs(x1 - x0), abs(y1 - y0), 1)
    for step in range(steps + 1):
        yield x0 + round((x1 - x0) * step / steps), y0 + round((y1 - y0) * step / steps)
