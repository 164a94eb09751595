"""Match videos by their names with the entries of lists: UCF101, HMDB51, Something-Something."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vprep.layouts.alike import same_text
from vprep.layouts.classes import class_from_folders
from vprep.layouts.listing import Listing
from vprep.layouts.lists import bad_line
from vprep.layouts.source import Source, stem


@dataclass(slots=True)
class Listed:
    """One video of the lists."""

    name: str
    class_name: str | None
    splits: list[str | None] = field(default_factory=lambda: [None, None, None])


class Names:
    """The videos that lists name, by the names of their files in lower case and without ending."""

    def __init__(self) -> None:
        self.listed: dict[str, Listed] = {}
        self._splits: dict[tuple[str, int], str | None] = {}

    def add(self, path: Path, number: int, video: Listed, fold: int, split: str | None) -> None:
        """Add line `number` of `path`: `video` is in `split` of the fold, which counts from 0."""
        key = _key(video.name)
        known = self.listed.setdefault(key, video)
        if known.class_name != video.class_name:
            what = f"'{video.name}' has class '{video.class_name}' here and '{known.class_name}' before"
            raise bad_line(path, number, f"{what}; keep one")
        if self._splits.setdefault((key, fold), split) != split:
            raise bad_line(path, number, f"'{video.name}' is in two parts of one split; keep one")
        known.splits[fold] = split

    def any_of(self, source: Source) -> bool:
        """Return whether a list names one of the videos."""
        return any(_key(name) in self.listed for name in source.files.videos)


def _key(name: str) -> str:
    return same_text(stem(name).lower())


def match(source: Source, names: Names, classes: Sequence[str], folders: Mapping[str, str]) -> Listing:
    """Return each video with its entry in the lists; a video that they do not name gets the class of its folder."""
    listing = Listing(classes, ignored=source.files.ignored)
    seen: set[str] = set()
    for name, size in source.files.videos.items():
        key = _key(name)
        video = names.listed.get(key)
        if video is None:
            listing.unlisted.append(name)
            video = Listed(name, class_from_folders(name, folders))
        seen.add(key)
        first, second, third = video.splits
        listing.add(name, size, video.class_name, (first, second, third))
    listing.missing = sorted(video.name for key, video in names.listed.items() if key not in seen)
    return listing
