"""Layouts: how videos and their labels lie in a folder. Each layout is a function from a `Source` to a `Listing`.

`LAYOUTS` holds the layouts of this package. A user names another layout as `module:name`, or an installed package
offers it in the entry point group `playspeed.layouts`. examples/my_layouts.py is an example.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
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
    """A layout: its name, the function that reads it, how `auto` recognises it, and the options that it takes.

    A module from outside may hold a `Layout` in place of a function. Its name is then the word on the command line, and
    --splits or --labels that it does not read is refused. A function alone is taken to read both: it finds them in
    `Source.splits` and `Source.labels`, and should refuse what it does not use.
    """

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


def read(
    root: Path,
    *,
    layout: str = "auto",
    splits: Path | None = None,
    labels: Path | None = None,
    files: Files | None = None,
) -> Listing:
    """Return the videos below `root` with their classes and splits from its lists; no video is opened.

    `splits` is a list or a folder of lists, `labels` a class list or the csv that names the videos. `files` are those
    below `root` where they are known already.
    """
    named = None if layout == "auto" else find(layout)
    if splits is not None and not splits.exists():
        raise UsageError(f"no '{splits}'; --splits names a list or a folder of lists")
    if labels is not None and not labels.is_file():
        raise UsageError(f"no file '{labels}'; --labels names a class list or a csv")
    source = Source(root=root, files=files or walk(root), splits=splits, labels=labels)
    chosen = named or next(known for known in LAYOUTS.values() if known.fits(source))
    _refuse_unread(chosen, source, "the" if named is None else "another")
    listing = chosen.read(source) if chosen.name in LAYOUTS else _read_outside(chosen, source)
    listing.layout = chosen.name
    return listing


def find(name: str) -> Layout:
    """Return the layout `name`: one of LAYOUTS, else `module:name`, else an installed package's.

    The last two may be a `Layout`, or a function, which is taken to read --splits and --labels. Only names from the
    command line may come here, because this imports what they name.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    if plugins.named(name):
        found = plugins.load("layout", name)
    elif name in plugins.installed("layout"):
        found = plugins.load_installed("layout", name)
    else:
        raise plugins.unknown("layout", name, ["auto", *LAYOUTS])
    layout = replace(found, name=name) if isinstance(found, Layout) else Layout(name, found)
    if not callable(layout.read):
        raise UsageError(
            f"layout '{name}' is of type {type(layout.read).__name__}; it must be a function from a "
            f"vprep.layouts.Source to a vprep.layouts.Listing"
        )
    _takes_source(name, layout.read)
    return layout


def _refuse_unread(layout: Layout, source: Source, which: str) -> None:
    """Refuse --splits and --labels where the layout does not read them; `which` is the word before `--layout`."""
    for option, path, reads, what in (
        ("--splits", source.splits, layout.reads_splits, "lists"),
        ("--labels", source.labels, layout.reads_labels, "class list"),
    ):
        if path is not None and not reads:
            raise UsageError(
                f"layout {layout.name} reads no {what}, and {option} is '{path}'; leave {option} out, or name {which} "
                "--layout"
            )


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
    """Refuse a wrong listing by a layout from outside, because it would be sharded as it is."""
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
