"""What a layout is given: the folder with its files, and where the user says that lists are."""

from dataclasses import dataclass
from pathlib import Path

from vprep.layouts.walk import Files


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder of videos, walked once."""

    root: Path
    files: Files
    splits: Path | None = None
    labels: Path | None = None


def stem(name: str) -> str:
    """The name of a file without its folders and its ending: `a/b.c.avi` gives `b.c`."""
    last = name.rpartition("/")[2]
    return last.rpartition(".")[0] or last


def folders_of(source: str) -> list[str]:
    """The folders a video lies in, the outermost first."""
    return source.split("/")[:-1]
