"""How videos and their labels lie in a folder: one file for each way, all giving the same `Listing`."""

from pathlib import Path

from vprep.errors import UsageError
from vprep.layouts import auto, csv_table, flat, folders, hmdb51, kinetics, ssv2, ucf101
from vprep.layouts.listing import Listing
from vprep.layouts.source import Source
from vprep.layouts.walk import path_of, walk

__all__ = ["LAYOUTS", "path_of", "read"]

LAYOUTS = {
    "folders": folders.read,
    "kinetics": kinetics.read,
    "ucf101": ucf101.read,
    "hmdb51": hmdb51.read,
    "ssv2": ssv2.read,
    "csv": csv_table.read,
    "flat": flat.read,
}
_WITHOUT_SPLITS = ("folders", "csv", "flat")
_WITHOUT_LABELS = ("flat",)


def read(root: Path, *, layout: str = "auto", splits: Path | None = None, labels: Path | None = None) -> Listing:
    """The videos below `root` and what its lists say of them; no video is opened.

    `splits` is a list or a folder of lists, `labels` a class list or the csv that names the videos.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise UsageError(f"no layout '{layout}'; there are auto, {', '.join(LAYOUTS)}")
    if splits is not None and not splits.exists():
        raise UsageError(f"no '{splits}'; --splits names a list or a folder of lists")
    if labels is not None and not labels.is_file():
        raise UsageError(f"no file '{labels}'; --labels names a class list or a csv")
    source = Source(root=root, files=walk(root), splits=splits, labels=labels)
    chosen = auto.layout_of(source) if layout == "auto" else layout
    if splits is not None and chosen in _WITHOUT_SPLITS:
        raise UsageError(f"no lists in '{splits}' that layout {chosen} reads; leave --splits out, or name the --layout")
    if labels is not None and chosen in _WITHOUT_LABELS:
        raise UsageError(f"layout {chosen} has no classes for '{labels}'; leave --labels out, or name the --layout")
    return LAYOUTS[chosen](source)
