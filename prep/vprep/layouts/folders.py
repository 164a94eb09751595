"""One folder per class, or train/val/test folders with the class folders in them.

<root>/<class>/.../x.mp4
<root>/train/<class>/.../x.mp4
"""

from collections.abc import Callable, Iterable, Mapping

from vprep.layouts.alike import same_text
from vprep.layouts.classes import read_classes, unknown_class
from vprep.layouts.listing import Listing
from vprep.layouts.lists import SPLIT_WORDS
from vprep.layouts.source import Source, folders_of

SplitAndClass = Callable[[str], tuple[str | None, str | None]]


def fits(source: Source) -> bool:
    """Return whether a video lies in a folder below the source."""
    return any("/" in name for name in source.files.videos)


def read(source: Source) -> Listing:
    """Return every video with the class of its folder."""
    return by_folder(source, {})


def by_folder(source: Source, names: Mapping[str, str]) -> Listing:
    """Return the videos with the classes of their folders; `names` maps folders that are named otherwise to classes."""
    split_and_class = split_and_class_of(source.files.videos)
    found = {folder for _, folder in map(split_and_class, source.files.videos) if folder is not None}
    if source.labels is None:
        classes = sorted({names.get(folder, folder) for folder in found})
    else:
        classes = read_classes(source.labels)
        known = set(classes)
        by_text = {same_text(name): name for name in classes}  # a folder may have another Unicode form
        names = {name: by_text.get(same_text(names.get(name, name)), names.get(name, name)) for name in found}
        for name in sorted(found):
            if names[name] not in known:
                raise unknown_class("folder", name, classes, source.labels)
    listing = Listing(classes, ignored=source.files.ignored)
    for name, size in source.files.videos.items():
        split, folder = split_and_class(name)
        if folder is None:
            listing.unlisted.append(name)
        class_name = None if folder is None else names.get(folder, folder)
        listing.add(name, size, class_name, (split, None, None))
    return listing


def split_and_class_of(sources: Iterable[str]) -> SplitAndClass:
    """Return a function from a video to the split and the class folder that it lies in."""
    first = {source.partition("/")[0] for source in sources if "/" in source}
    by_split = bool(first) and all(folder.lower() in SPLIT_WORDS for folder in first)

    def split_and_class(source: str) -> tuple[str | None, str | None]:
        folders = folders_of(source)
        split = SPLIT_WORDS[folders.pop(0).lower()] if by_split and folders else None
        return split, folders[0] if folders else None

    return split_and_class
