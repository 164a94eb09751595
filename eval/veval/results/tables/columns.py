"""Fit texts into columns of a terminal, in which some letters are two columns wide."""

from collections.abc import Sequence

from rich.cells import cell_len, chop_cells, set_cell_size

CUT = "..."


def left(text: str, width: int) -> str:
    """Return a text of exactly `width` columns, which ends in dots where it is cut."""
    return set_cell_size(text, width) if cell_len(text) <= width else f"{set_cell_size(text, width - len(CUT))}{CUT}"


def right(text: str, width: int) -> str:
    """Return a text at the right end of `width` columns."""
    return " " * (width - cell_len(text)) + text


def wrapped(text: str, width: int, first: int = 0, others: int = 0) -> list[str]:
    """Return lines of at most `width` columns, indented by `first` and `others`; a word too long for one is split."""
    room = width - max(first, others)
    words = [piece for word in text.split() for piece in (chop_cells(word, room) if cell_len(word) > room else [word])]
    lines, line = [], " " * first
    for word in words:
        if line.strip() and cell_len(line) + 1 + cell_len(word) > width:
            lines.append(line)
            line = " " * others
        line += f" {word}" if line.strip() else word
    return [*lines, line]


def shares(wanted: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return the widths of columns: as wanted, but the widest ones narrower, down to `least`, until all fit."""
    found = list(wanted)
    while sum(found) > room:
        spare = [width if width > low else 0 for width, low in zip(found, least, strict=True)]
        if not any(spare):
            break
        found[spare.index(max(spare))] -= 1
    return found
