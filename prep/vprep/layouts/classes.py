"""Class lists: which classes there are, and which number each has."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from vprep.errors import UsageError
from vprep.layouts.lists import bad_line, lines, read_json
from vprep.layouts.source import folders_of


def read_classes(path: Path) -> list[str]:
    """The names in order of their labels: a text file with one name per line, or a json {name: label}."""
    if path.suffix.lower() == ".json":
        return _from_json(path, read_json(path))
    names: dict[str, int] = {}
    for number, name in lines(path):
        if name in names:
            raise bad_line(path, number, f"class '{name}' stands in line {names[name]} too; keep one")
        names[name] = number
    if not names:
        raise UsageError(f"{path} is empty; a class list has one name per line")
    return list(names)


def unknown_class(what: str, name: str, classes: Iterable[str], where: Path) -> UsageError:
    """The error of a class that the class list does not have."""
    close = difflib.get_close_matches(name, list(classes), n=3)
    hint = f"; close to it: {', '.join(repr(one) for one in close)}" if close else ""
    return UsageError(f"{what} '{name}' is not in the class list {where}{hint}; add it there, or rename it")


def spellings(classes: Iterable[str]) -> dict[str, str]:
    """Each class by its name, and by its name without case and with spaces for underscores."""
    names = list(classes)
    return {_plain(name): name for name in names} | {name: name for name in names}


def class_of_folder(folder: str, names: Mapping[str, str]) -> str | None:
    """The class that a folder is named after; `names` come from `spellings`."""
    return names.get(folder) or names.get(_plain(folder))


def class_from_folders(source: str, names: Mapping[str, str]) -> str | None:
    """The class whose folder a video lies in, looked for from the inside."""
    found = (class_of_folder(folder, names) for folder in reversed(folders_of(source)))
    return next((name for name in found if name is not None), None)


def _plain(name: str) -> str:
    return name.replace("_", " ").casefold()


def _from_json(path: Path, content: object) -> list[str]:
    wanted = "a class list in json is {name: label}, with labels from 0 without a gap"
    if not isinstance(content, dict) or not content:
        raise UsageError(f"{path} holds no names; {wanted}")
    try:
        labels = {name: int(label) for name, label in content.items()}
    except (TypeError, ValueError):
        raise UsageError(f"{path} has a label that is no number; {wanted}") from None
    names = sorted(labels, key=lambda name: labels[name])
    if [labels[name] for name in names] != list(range(len(names))):
        raise UsageError(f"{path} has the labels {_some(sorted(labels.values()))}; {wanted}")
    return names


def _some(labels: list[int]) -> str:
    few = ", ".join(str(label) for label in labels[:6])
    return few if len(labels) <= 6 else f"{few} ..."
