"""What a source says about its videos, before any of them is opened."""

from dataclasses import dataclass, field

Splits = tuple[str | None, str | None, str | None]
NO_SPLITS: Splits = (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One video that a source names; `source` is its path below the source's folder, with slashes.

    Bytes of a name that are not UTF-8 are spelt out in it as `\\xff`; `layouts.path_of` gives the file.
    """

    source: str
    bytes: int  # -1 when the file cannot be reached, as with a link that leads nowhere
    class_name: str | None = None
    label: int | None = None
    splits: Splits = NO_SPLITS
    start: float | None = None  # seconds into the file, when only a part of it is the video
    end: float | None = None


@dataclass(slots=True, kw_only=True)
class Listing:
    """The videos of a source and what is odd about its lists. Entries are sorted by source."""

    layout: str
    entries: list[Entry]
    classes: list[str]
    """The class list, in order of the labels; it may name classes that have no video here."""

    missing: list[str] = field(default_factory=list)
    """Named by a list, and not there."""

    unlisted: list[str] = field(default_factory=list)
    """There, and named by no list; still sharded, but for the layout csv, which takes only what its csv names."""

    ignored: int = 0
    """Files that are no videos: by their name, or because they are pipes or devices."""
