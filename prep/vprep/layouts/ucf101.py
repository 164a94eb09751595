"""UCF101 with its official lists.

classInd.txt     `1 ApplyEyeMakeup`
trainlist01.txt  `ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1`, for three splits
testlist01.txt   `ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi`, for three splits

Names are matched in lower case and without ending: the lists have the folder HandstandPushups and the files
v_HandStandPushups_*, and copies with mp4 files exist.
"""

import re
from pathlib import Path

from vprep.errors import UsageError
from vprep.layouts.by_name import Listed, Names, match
from vprep.layouts.classes import spellings
from vprep.layouts.listing import Listing
from vprep.layouts.lists import bad_line, find, is_beside, lines, none_found
from vprep.layouts.source import Source

_NAMES = re.compile(r"classInd\.txt|(?:train|test)list0[123]\.txt")
_SPLIT = re.compile(r"(train|test)list0([123])\.txt")
_BESIDE = ("ucfTrainTestlist",)


def fits(source: Source) -> bool:
    """Return whether the lists are there; lists next to the folder must name one of its videos."""
    lists = find(source, _NAMES, _BESIDE)
    if not lists or not is_beside(source, lists[0]):
        return bool(lists)
    return _names(lists, _classes(source, lists)).any_of(source)


def read(source: Source) -> Listing:
    """Return every video with its class and its part of the three splits."""
    lists = find(source, _NAMES, _BESIDE)
    if not any(_SPLIT.fullmatch(path.name) for path in lists):
        raise none_found(source, "ucf101", "trainlist01.txt or testlist01.txt")
    classes = _classes(source, lists)
    return match(source, _names(lists, classes), classes, spellings(classes))


def _classes(source: Source, lists: list[Path]) -> list[str]:
    """Return the class names in the order of their numbers, which count from 1."""
    path = source.labels or next((path for path in lists if path.name == "classInd.txt"), None)
    if path is None:
        raise UsageError(f"no classInd.txt next to {lists[0]}; put it there, or name it with --labels")
    classes: list[str] = []
    for number, line in lines(path):
        fields = line.split()
        if fields[:1] != [str(len(classes) + 1)] or len(fields) != 2:
            raise bad_line(path, number, f"'{line}' where '{len(classes) + 1} NameOfClass' is needed")
        classes.append(fields[1])
    if not classes:
        raise UsageError(f"{path} is empty; each line of UCF101's class list is a number and a name, as in '1 Archery'")
    return classes


def _names(lists: list[Path], classes: list[str]) -> Names:
    numbers = {name: str(number) for number, name in enumerate(classes, 1)}
    names = Names()
    for path in lists:
        kind = _SPLIT.fullmatch(path.name)
        if kind is None:
            continue
        for number, line in lines(path):
            class_name = _class_of(path, number, line, kind[1], numbers)
            names.add(path, number, Listed(line.split()[0], class_name), int(kind[2]) - 1, kind[1])
    return names


def _class_of(path: Path, number: int, line: str, split: str, numbers: dict[str, str]) -> str:
    """Return the class of one line, or refuse the line."""
    name, *rest = line.split()
    folder, slash, file = name.partition("/")
    if not slash or not file or len(rest) != (1 if split == "train" else 0):
        wanted = "Class/v_Class_g01_c01.avi" + (" 1" if split == "train" else "")
        raise bad_line(path, number, f"'{line}' where a line like '{wanted}' is needed")
    if folder not in numbers:
        raise bad_line(path, number, f"class '{folder}' is not in the list of classes")
    if rest and rest[0] != numbers[folder]:
        raise bad_line(
            path, number, f"class '{folder}' has number {rest[0]} here and {numbers[folder]} in the list of classes"
        )
    return folder
