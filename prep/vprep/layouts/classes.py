"""Class lists: the names of the classes, in the order of their labels."""

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vprep.errors import UsageError, close_to
from vprep.layouts.lists import bad_line, columns, lines, read_json
from vprep.layouts.source import folders_of


def read_classes(path: Path) -> list[str]:
    """Return the names in the order of their labels, from a text file of one name per line or a json {name: label}."""
    if path.suffix.lower() == ".json":
        return _from_json(path, read_json(path))
    _refuse_table(path)
    names: dict[str, int] = {}
    for number, name in lines(path):
        if name in names:
            raise bad_line(path, number, f"class '{name}' is in line {names[name]}, too; keep one")
        names[name] = number
    if not names:
        wanted = "a csv needs path and label" if path.suffix.lower() == ".csv" else "a class list has one name per line"
        raise UsageError(f"{path} is empty; {wanted}")
    return list(names)


def _refuse_table(path: Path) -> None:
    """Refuse a csv with labels but without paths, which would be read as a list of odd names."""
    found = columns(path)
    if len(found) > 1 and "label" in found:
        raise UsageError(f"{path} has the columns {', '.join(found)}; a csv needs path and label")


def unknown_class(what: str, name: str, classes: Iterable[str], where: Path) -> UsageError:
    """Return the error for a class that the class list lacks."""
    close = close_to(name, classes)
    return UsageError(f"{what} '{name}' is not in the class list {where}{close}; add it there, or rename it")


def spellings(classes: Iterable[str]) -> dict[str, str]:
    """Return each class by its name, and by its name in lower case with spaces for underscores."""
    names = list(classes)
    return {_plain(name): name for name in names} | {name: name for name in names}


def class_of_folder(folder: str, names: Mapping[str, str]) -> str | None:
    """Return the class that a folder is named after; `names` come from `spellings`."""
    return names.get(folder) or names.get(_plain(folder))


def class_from_folders(source: str, names: Mapping[str, str]) -> str | None:
    """Return the class of the innermost folder around a video that is named after a class."""
    found = (class_of_folder(folder, names) for folder in reversed(folders_of(source)))
    return next((name for name in found if name is not None), None)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("_", " ").casefold())


def _from_json(path: Path, content: object) -> list[str]:
    wanted = "a class list in json is {name: label}, with labels from 0 without a gap"
    if not isinstance(content, dict) or not all(name.strip() for name in content) or not content:
        raise UsageError(f"{path} holds no names; {wanted}")
    try:
        labels = {name: _label(label) for name, label in content.items()}
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{path} has a label that is not a number; {wanted}") from None
    names = sorted(labels, key=lambda name: labels[name])
    if [labels[name] for name in names] != list(range(len(names))):
        raise UsageError(f"{path} has the labels {_first(sorted(labels.values()))}; {wanted}")
    return names


def _label(found: Any) -> int:  # noqa: ANN401  what JSON holds
    """Return a label, which may be written as text; refuse true, and numbers with a fraction."""
    if isinstance(found, bool) or int(found) != float(found):
        raise ValueError
    return int(found)


def _first(labels: list[int]) -> str:
    few = ", ".join(str(label) for label in labels[:6])
    return few if len(labels) <= 6 else f"{few} ..."
