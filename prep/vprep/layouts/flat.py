"""Videos without classes and splits, in any folders."""

from vprep.layouts.listing import Listing
from vprep.layouts.source import Source


def read(source: Source) -> Listing:
    """Return every video, without a label."""
    listing = Listing(ignored=source.files.ignored)
    for name, size in source.files.videos.items():
        listing.add(name, size)
    return listing
