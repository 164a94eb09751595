"""Show text of a stranger."""

from vprep.text import one_line

MOST = 200  # characters


def printable(text: str) -> str:
    """Return the beginning of a text with control characters, which can rule a terminal, escaped."""
    return one_line(text[:MOST])
