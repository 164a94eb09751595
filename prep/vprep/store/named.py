"""Errors about a scratch folder name the place of a store that it stands for."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from vprep.errors import UsageError, WorkError
from vprep.store.location import Location


@contextlib.contextmanager
def named(folder: Path, place: Location) -> Iterator[None]:
    """Let errors of the block name `place` where they would name `folder`."""
    try:
        yield
    except (UsageError, WorkError) as error:
        error.args = (str(error).replace(str(folder), str(place)), *error.args[1:])
        raise
