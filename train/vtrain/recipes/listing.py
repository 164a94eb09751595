"""The list of recipes for people: a line each, at most 80 characters wide, and a second line where one is too short."""

from textwrap import shorten
from typing import Any

WIDTH = 80
NAME, LENGTH, BATCH = 36, 10, 5  # widths of the columns; a longer name moves what follows
HEAD = f"{'recipe':<{NAME}} {'length':>{LENGTH}} {'batch':>{BATCH}}  in the paper"
USUAL = 3  # parts of a description that the name has, too: method, network and data
PAPER = "as the text has it"  # so does this one


def as_lines(rows: list[dict[str, Any]]) -> str:
    """Return the rows under a heading."""
    return "\n".join([HEAD, *(line for row in rows for line in _lines(row))])


def _lines(row: dict[str, Any]) -> list[str]:
    """Return a row's line, and a second one with what the name and the columns do not say."""
    length = f"{row['steps']} steps" if row["steps"] else f"{row['epochs']:g} epochs"
    first = f"{row['name']:<{NAME}} {length:>{LENGTH}} {row['batch']:>{BATCH}}"
    variant, result = _parts(row["says"])
    if len(first) + 2 + len(result) <= WIDTH:
        first, result = f"{first}  {result}", ""
    second = shorten(": ".join(filter(None, (variant, result))), WIDTH - 4, placeholder="...")
    return [first, *([f"    {second}"] if second else [])]


def _parts(says: str) -> tuple[str, str]:
    """Return how a recipe differs from others of its method, network and data; and its result in the paper."""
    about, colon, result = says.rstrip(".").partition(": ")
    if not colon:
        return "", about
    variant = [part for part in about.split(", ")[USUAL:] if part != PAPER]
    return ", ".join(variant), result.replace(" in the paper", "")
