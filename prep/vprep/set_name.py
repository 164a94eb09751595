"""The name of a set's data set, from its layout and its classes."""

from collections.abc import Sequence

from vprep.synth_classes import CLASSES

# By layout, the name in the tables of papers, and the number of classes.
NAMES = {"ucf101": ("UCF101", 101), "hmdb51": ("HMDB51", 51), "ssv2": ("SSv2", 174)}
SYNTH = "synth"


def set_name(layout: str, classes: Sequence[str]) -> str | None:
    """Return the name of the data set; None where it is only known by its folder.

    The layout alone does not say it, since other videos may lie like those of UCF101: the classes must be as many.
    """
    name, count = NAMES.get(layout, ("", 0))
    if not name or len(classes) == count:
        return name or None
    return SYNTH if classes and set(classes) <= set(CLASSES) else None
