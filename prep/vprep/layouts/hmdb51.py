"""HMDB51 with its official lists.

<class>_test_split1.txt  `<name>.avi 2`, for three splits: 1 is train, 2 is test, 0 is unused in this split
"""

import re
from pathlib import Path

from vprep.layouts.by_name import Listed, Names, match
from vprep.layouts.classes import read_classes, spellings, unknown_class
from vprep.layouts.listing import Listing
from vprep.layouts.lists import bad_line, find, is_beside, lines, none_found
from vprep.layouts.source import Source

_NAMES = re.compile(r"(.+)_test_split([123])\.txt")
_BESIDE = ("testTrainMulti_7030_splits", "splits")
_FLAGS = {"0": None, "1": "train", "2": "test"}


def fits(source: Source) -> bool:
    """Return whether the lists are there; lists next to the folder must name one of its videos."""
    lists = find(source, _NAMES, _BESIDE)
    if not lists or not is_beside(source, lists[0]):
        return bool(lists)
    return _names(lists).any_of(source)


def read(source: Source) -> Listing:
    """Return every video with its class and its part of the three splits."""
    lists = find(source, _NAMES, _BESIDE)
    if not lists:
        raise none_found(source, "hmdb51", "<class>_test_split1.txt")
    listed = sorted({_class_of(path) for path in lists})
    classes = listed if source.labels is None else read_classes(source.labels)
    known = set(classes)
    if source.labels is not None and (extra := [name for name in listed if name not in known]):
        raise unknown_class("class", extra[0], classes, source.labels)
    return match(source, _names(lists), classes, spellings(classes))


def _class_of(path: Path) -> str:
    return path.name.rpartition("_test_split")[0]


def _names(lists: list[Path]) -> Names:
    names = Names()
    for path in lists:
        fold = int(path.stem[-1]) - 1
        for number, line in lines(path):
            # Names hold spaces and punctuation; only the last field is the flag.
            fields = line.rsplit(maxsplit=1)
            if len(fields) != 2 or fields[1] not in _FLAGS:
                what = f"'{line}' where '<name>.avi' and 0, 1 or 2 is needed"
                raise bad_line(path, number, what)
            names.add(path, number, Listed(fields[0], _class_of(path)), fold, _FLAGS[fields[1]])
    return names
