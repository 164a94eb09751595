"""Commands as words: which command of which program they name, and what it makes of them, without running it."""

import importlib
from functools import cache
from typing import Any

from typer.main import get_command


@cache
def program(name: str) -> Any:  # noqa: ANN401  a group of commands, whose class typer chooses
    return get_command(importlib.import_module(f"{name}.cli").app)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name, and the words behind it; a method from elsewhere is one like rspnet."""
    found, rest = program(words[0]), ["rspnet" if ":" in word and "/" not in word else word for word in words[1:]]
    while hasattr(found, "commands") and rest and rest[0] in found.commands:
        found, rest = found.commands[rest[0]], rest[1:]
    return found, rest


def parsed(words: list[str]) -> dict[str, Any]:
    """The values of a command's parameters; words that it does not take raise its error."""
    found = program(words[0])
    command = found.commands[words[1]]
    params: dict[str, Any] = command.make_context(words[1], words[2:]).params
    return params
