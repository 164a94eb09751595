"""Class names that look alike: one class that is written in two ways would be learned as two."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable

from vprep.errors import UsageError

SHOWN = 3  # pairs in a warning


def same_text(name: str) -> str:
    """Return a name in one Unicode form, with single spaces: names that are equal so look the same."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def refuse_alike(classes: Iterable[str]) -> None:
    """Refuse classes whose names look the same: no user wants `é` and `é`, or `run` and `run `, as two classes."""
    for names in _groups(classes, same_text):
        first, second = names[:2]
        raise UsageError(
            f"the classes {first!a} and {second!a} look the same and differ only in Unicode form or spaces; "
            f"write both in the same way, in the lists and as folders"
        )


def warnings(classes: Iterable[str]) -> list[str]:
    """Return a warning when names of classes differ only in upper case or underscores; such classes can be meant."""
    groups = _groups(classes, lambda name: same_text(name.replace("_", " ")).casefold())
    if not groups:
        return []
    pairs = ", ".join(" and ".join(f"'{name}'" for name in names) for names in groups[:SHOWN])
    more = ", ..." if len(groups) > SHOWN else ""
    what = f"warning: these classes have almost the same name: {pairs}{more}"
    return [f"{what}; give one name to those that are one class"]


def _groups(classes: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    """Return the groups of two or more names with the same key."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        groups[key(name)].append(name)
    return [names for names in groups.values() if len(names) > 1]
