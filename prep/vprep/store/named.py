"""Errors about a scratch folder name the place of a store that it stands for."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vprep.errors import UsageError, WorkError
from vprep.store.location import Location


@contextlib.contextmanager
def named(folder: Path, place: Location) -> Iterator[None]:
    """Let errors of the block name `place` where they would name `folder`."""
    try:
        yield
    except (UsageError, WorkError) as error:
        error.args = (in_store(str(error), folder, place), *error.args[1:])
        raise


def in_store(text: str, folder: Path, place: Location) -> str:
    """Return a text that names `place` where it named `folder`; vprep index works on local folders alone."""
    return text.replace(f"vprep index {folder}", f"vprep index on a copy of {place}").replace(str(folder), str(place))


def renamed(value: Any, folder: Path, place: Location) -> Any:  # noqa: ANN401  what JSON holds
    """Return a result in which texts name `place` where they named `folder`."""
    if isinstance(value, dict):
        return {name: renamed(part, folder, place) for name, part in value.items()}
    if isinstance(value, list):
        return [renamed(part, folder, place) for part in value]
    return in_store(value, folder, place) if isinstance(value, str) else value
