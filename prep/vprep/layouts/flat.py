"""Videos without classes and splits, in any folders."""

from vprep.layouts.listing import Entry, Listing
from vprep.layouts.source import Source


def read(source: Source) -> Listing:
    """Every video, unlabelled."""
    files = source.files
    entries = [Entry(source=name, bytes=size) for name, size in files.videos.items()]
    return Listing(layout="flat", entries=entries, classes=[], ignored=files.ignored)
