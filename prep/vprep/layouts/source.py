"""The input of a layout: the folder with its files, and the lists that the user names."""

from dataclasses import dataclass
from pathlib import Path

from vprep.layouts.walk import Files


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder of videos whose files are known."""

    root: Path
    files: Files
    """The videos with their sizes, and the files that may be lists."""

    splits: Path | None = None
    """The value of --splits: a list, or a folder of lists."""

    labels: Path | None = None
    """The value of --labels: a class list, or a csv that names the videos."""


def stem(name: str) -> str:
    """Return the name of a file without its folders and its ending: `a/b.c.avi` gives `b.c`."""
    last = name.rpartition("/")[2]
    return last.rpartition(".")[0] or last


def folders_of(source: str) -> list[str]:
    """Return the folders that a video lies in, the outermost first."""
    return source.split("/")[:-1]
