"""The names of classes, which results hold beside their numbers."""

from collections.abc import Iterable, Mapping
from typing import Any

CLASS_NAMES = "class_names"


def name_of(result: Mapping[str, Any], label: Any) -> str:  # noqa: ANN401  a number, or the name itself
    """Return the name of a class by its number; results of older versions do not have it, and it is `class 3`."""
    names = result.get(CLASS_NAMES) or ()
    if isinstance(label, str):
        return label
    return str(names[label]) if isinstance(label, int) and 0 <= label < len(names) else f"class {label}"


def in_order(result: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Return each name once, in the order of the set where the result says it, else by name and number."""
    known = result.get(CLASS_NAMES) or list(result.get("per_class") or ())
    place = {name: number for number, name in enumerate(known)}
    return sorted(set(names), key=lambda name: (place.get(name, len(place)), len(name), name))
