"""Print the result of a command on stdout and messages on stderr, so that no name in them commands the terminal."""

import sys
from collections.abc import Callable
from typing import Any

from vprep import streams
from vprep.errors import WorkError
from vprep.text import json_line, printable


def note(message: str) -> None:
    """Print a message on stderr."""
    print(printable(message), file=sys.stderr, flush=True)


def show(result: dict[str, Any], as_json: bool, for_people: Callable[[dict[str, Any]], object]) -> None:
    """Print `result` on stdout: as JSON, or as the text or table that `for_people` returns for it."""
    say(json_line(result) if as_json else for_people(_printable(result)))


def say(text: object, width: int | None = None) -> None:
    """Print a text or a table on stdout."""
    try:
        if isinstance(text, str):
            print(text, flush=True)
        else:
            from rich.console import Console

            Console(highlight=False, markup=False, emoji=False, soft_wrap=width is None, width=width).print(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise WorkError(streams.lost(error)) from None


def _printable(value: Any) -> Any:  # noqa: ANN401  what JSON holds
    """Return a result whose texts are printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value
