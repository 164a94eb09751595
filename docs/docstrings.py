"""Docstrings of this project as reStructuredText: they are plain text, in which only backticks mean something."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from sphinx.application import Sphinx

VERBATIM = re.compile(r"^\s|\S\s{2,}\S")  # an indented line, or columns: shown as it stands
SPECIAL = re.compile(r"([\\*|_])")


def converted(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines with prose escaped and tables as blocks that keep their columns."""
    for empty, paragraph in groupby(lines, key=lambda line: not line.strip()):
        if empty:
            yield ""
            continue
        text = list(paragraph)
        if any(VERBATIM.search(line) for line in text):
            yield from ("::", "", *(f"    {line}" for line in text), "")
        else:
            yield from (escaped(line) for line in text)


def escaped(line: str) -> str:
    """Return a line of prose in which backticks mark code and all else is text; a list stays a list."""
    bullet, rest = ("- ", line[2:]) if line.startswith("- ") else ("", line)
    parts = rest.split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner
        return bullet + SPECIAL.sub(r"\\\1", rest).replace("`", r"\`")
    pieces = [f"``{part}``" if number % 2 else SPECIAL.sub(r"\\\1", part) for number, part in enumerate(parts)]
    return bullet + "".join(pieces)


def process(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Replace the lines of a docstring, as autodoc asks for it."""
    lines[:] = list(converted(lines))


def signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Return the signature with `...` where a dataclass makes its default: else it could not be parsed."""
    return arguments and arguments.replace("<factory>", "..."), returned


def setup(app: Sphinx) -> dict[str, Any]:
    """Register for autodoc's events."""
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
