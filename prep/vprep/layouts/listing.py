"""The result of a layout: the videos of a folder with their classes and splits. No video has been opened yet."""

from collections.abc import Iterable
from dataclasses import dataclass

from vprep.errors import UsageError

Splits = tuple[str | None, str | None, str | None]
"""`train`, `val` or `test` in each of up to three official splits; None for a split that does not list the video."""

NO_SPLITS: Splits = (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One video of a source."""

    source: str
    """Its path below the source's folder, with slashes. Bytes of a name that are not UTF-8 are written as `\\xff`;
    `layouts.path_of` returns the file."""

    bytes: int  # -1 when the file cannot be reached, as with a link that leads nowhere
    class_name: str | None = None
    label: int | None = None
    splits: Splits = NO_SPLITS
    start: float | None = None  # seconds into the file, when only a part of it is the video
    end: float | None = None
    etag: str | None = None
    """Of a video in a store, what the store changes with its content."""


def _checked(classes: Iterable[object]) -> list[str]:
    """Return the class names as a list. The set keeps them, so they must be text, each once."""
    if isinstance(classes, str):
        raise UsageError(f"the classes of a Listing are the text '{classes}'; give a list of names")
    names: dict[str, None] = {}
    for name in classes:
        if not isinstance(name, str):
            raise UsageError(
                f"the classes of a Listing hold {name!r} of type {type(name).__name__}; names of classes must be text, "
                f"as in '{name}'"
            )
        if not name.strip():
            raise UsageError("a class has an empty name; give it one, in the lists or as a folder")
        if not name.isascii() and not _is_text(name):
            raise UsageError(f"class {name!a} is no text that a file can hold; rename it")
        if name in names:
            raise UsageError(f"the classes of a Listing hold '{name}' twice; name each class once")
        names[name] = None
    return list(names)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a character, which json can write
        return False
    return True


class Listing:
    """The videos of a source, its classes, and where its lists and its files disagree."""

    def __init__(self, classes: Iterable[str] = (), *, ignored: int = 0) -> None:
        self.classes = _checked(classes)
        """The class names in the order of their labels; classes without a video here are allowed."""

        self.entries: list[Entry] = []
        """The videos that are sharded."""

        self.missing: list[str] = []
        """Names of videos that a list has and the folder lacks."""

        self.unlisted: list[str] = []
        """Names of videos that the folder has and no list names. They are in `entries`, except with the layout csv."""

        self.ignored = ignored
        """Number of files that are no videos: by their name, or because they are pipes or devices."""

        self.layout = ""
        """Name of the layout; `layouts.read` sets it."""

        self._labels = {name: label for label, name in enumerate(self.classes)}

    def add(
        self,
        source: str,
        size: int,
        class_name: str | None = None,
        splits: Splits = NO_SPLITS,
        *,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        """Add one video of `size` bytes; its label is the position of `class_name` in the list of classes."""
        if class_name is not None and class_name not in self._labels:
            raise UsageError(f"'{source}' is of class '{class_name}', which the list of classes lacks; add it there")
        label = None if class_name is None else self._labels[class_name]
        self.entries.append(
            Entry(source=source, bytes=size, class_name=class_name, label=label, splits=splits, start=start, end=end)
        )
