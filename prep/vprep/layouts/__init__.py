"""Layouts: how videos and their labels lie in a folder. Each layout is a function from a `Source` to a `Listing`.

`LAYOUTS` holds the layouts of this package. One from outside is named as `module:name`, or an installed package offers
it in the entry point group `playspeed.layouts`; examples/my_layouts.py is one.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vprep import plugins
from vprep.errors import UsageError, WorkError
from vprep.layouts import csv_table, flat, folders, hmdb51, kinetics, ssv2, ucf101
from vprep.layouts.listing import NO_SPLITS, Entry, Listing, Splits
from vprep.layouts.source import Source
from vprep.layouts.walk import Files, path_of, walk

__all__ = ["LAYOUTS", "NO_SPLITS", "Entry", "Files", "Layout", "Listing", "Source", "Splits", "find", "path_of", "read"]


@dataclass(frozen=True, slots=True)
class Layout:
    """One layout: its name, the function that reads it, and what else is known of it."""

    name: str
    read: Callable[[Source], Listing]
    fits: Callable[[Source], bool] = lambda source: False
    """Whether a folder has this layout; `auto` takes the first in LAYOUTS that fits."""

    reads_splits: bool = True
    reads_labels: bool = True


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("csv", csv_table.read, csv_table.fits, reads_splits=False),
        Layout("ucf101", ucf101.read, ucf101.fits),
        Layout("hmdb51", hmdb51.read, hmdb51.fits),
        Layout("ssv2", ssv2.read, ssv2.fits),
        Layout("kinetics", kinetics.read, kinetics.fits),
        Layout("folders", folders.read, folders.fits, reads_splits=False),
        Layout("flat", flat.read, lambda source: True, reads_splits=False, reads_labels=False),
    )
}


def read(root: Path, *, layout: str = "auto", splits: Path | None = None, labels: Path | None = None) -> Listing:
    """Return the videos below `root` and what its lists say about them; no video is opened.

    `splits` is a list or a folder of lists, `labels` a class list or the csv that names the videos.
    """
    named = None if layout == "auto" else find(layout)
    if splits is not None and not splits.exists():
        raise UsageError(f"no '{splits}'; --splits names a list or a folder of lists")
    if labels is not None and not labels.is_file():
        raise UsageError(f"no file '{labels}'; --labels names a class list or a csv")
    source = Source(root=root, files=walk(root), splits=splits, labels=labels)
    chosen = named or next(known for known in LAYOUTS.values() if known.fits(source))
    if splits is not None and not chosen.reads_splits:
        raise UsageError(
            f"layout {chosen.name} reads no lists, and --splits is '{splits}'; leave --splits out, or name the --layout"
        )
    if labels is not None and not chosen.reads_labels:
        raise UsageError(
            f"layout {chosen.name} has no classes, and --labels is '{labels}'; leave --labels out, or name the --layout"
        )
    listing = chosen.read(source) if chosen.name in LAYOUTS else _read_outside(chosen, source)
    listing.layout = chosen.name
    return listing


def find(name: str) -> Layout:
    """Return the layout `name`: one of LAYOUTS, else `module:name`, else an installed package's.

    Only names from the command line may come here, because this imports what they name.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    if plugins.named(name):
        function = plugins.load("layout", name)
    elif name in plugins.installed("layout"):
        function = plugins.load_installed("layout", name)
    else:
        raise plugins.unknown("layout", name, ["auto", *LAYOUTS])
    if not callable(function):
        raise UsageError(
            f"layout '{name}' is of type {type(function).__name__}; it must be a function from a vprep.layouts.Source "
            f"to a vprep.layouts.Listing"
        )
    _takes_source(name, function)
    return Layout(name, function)


def _takes_source(name: str, function: Callable[..., object]) -> None:
    """Refuse a function that cannot be called with one argument."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C have no signature
        return
    try:
        signature.bind(None)
    except TypeError:
        found = f"the arguments {signature}" if signature.parameters else "no argument"
        raise UsageError(f"layout '{name}' takes {found}; it must take exactly one, the vprep.layouts.Source") from None


def _read_outside(layout: Layout, source: Source) -> Listing:
    """Return the listing of a layout from outside; any error in its code is one sentence with its file and line."""
    try:
        listing = layout.read(source)
    except (UsageError, WorkError):
        raise
    except Exception as error:  # whatever the user's code does
        what = plugins.raised(error, [__file__])
        raise UsageError(f"layout '{layout.name}' raised {what}; correct it there") from error
    _check(layout.name, listing, source)
    return listing


def _check(name: str, listing: object, source: Source) -> None:
    """Refuse what a layout from outside must not return: it would be sharded as it is."""
    if not isinstance(listing, Listing):
        raise UsageError(
            f"layout '{name}' returned an object of type {type(listing).__name__}; it must return a "
            f"vprep.layouts.Listing"
        )
    for entry in listing.entries:
        if wrong := _wrong(entry, listing, source):
            raise UsageError(f"layout '{name}' returned the video '{entry.source}'{wrong}")
    if not listing.entries:
        raise UsageError(f"layout '{name}' returned no video of the {len(source.files.videos)} below '{source.root}'")


def _wrong(entry: Entry, listing: Listing, source: Source) -> str:
    """Return what is wrong with a video, as the end of a sentence about it; empty when nothing is."""
    path: object = entry.source
    if not isinstance(path, str):
        return f" as a {type(path).__name__}; give its name as in source.files.videos"
    if entry.source not in source.files.videos:
        return f", which is not below '{source.root}'; videos that are not there belong in Listing.missing"
    if (entry.class_name is None) != (entry.label is None) or (
        entry.label is not None and listing.classes[entry.label : entry.label + 1] != [entry.class_name]
    ):
        wanted = "Listing.add sets both, in the order of its classes"
        return f" with class '{entry.class_name}' and label {entry.label}; {wanted}"
    splits: object = entry.splits
    if (
        not isinstance(splits, tuple | list)
        or len(splits) != len(NO_SPLITS)
        or any(split not in ("train", "val", "test", None) for split in splits)
    ):
        return (
            f" with the splits {splits!r}; three are needed, each of them 'train', 'val', 'test' or None, as in "
            "('train', None, None)"
        )
    return ""
