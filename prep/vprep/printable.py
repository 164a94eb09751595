"""Show text of a stranger."""

MOST = 200  # characters


def printable(text: str) -> str:
    """Return the beginning of a text with control characters, which can rule a terminal, escaped."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[:MOST])
