"""Folders of one-byte videos and of lists, and what the layouts read from them."""

from pathlib import Path

import pytest

from vprep import layouts
from vprep.errors import UsageError
from vprep.layouts.listing import Listing


def tree(root: Path, *names: str) -> Path:
    for name in names:
        write(root / name, "x")
    return root


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def entries_of(listing: Listing) -> list[tuple[str, str | None, int | None, tuple[str | None, ...]]]:
    return [(one.source, one.class_name, one.label, one.splits) for one in listing.entries]


def message(root: Path, layout: str, **words: Path) -> str:
    with pytest.raises(UsageError) as error:
        layouts.read(root, layout=layout, **words)  # type: ignore[arg-type]
    return str(error.value)
