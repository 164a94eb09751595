"""Which layout a folder has, by its lists and then by its folders."""

from vprep.layouts import csv_table, hmdb51, kinetics, ssv2, ucf101
from vprep.layouts.source import Source


def layout_of(source: Source) -> str:
    """The name of the first layout that fits."""
    if csv_table.found(source):
        return "csv"
    if ucf101.found(source):
        return "ucf101"
    if hmdb51.found(source):
        return "hmdb51"
    if ssv2.found(source):
        return "ssv2"
    if kinetics.csvs(source):
        return "kinetics"
    return "folders" if any("/" in name for name in source.files.videos) else "flat"
