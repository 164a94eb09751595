"""The names of classes, which results hold beside their numbers."""

from collections.abc import Mapping
from typing import Any

CLASS_NAMES = "class_names"


def name_of(result: Mapping[str, Any], label: Any) -> str:  # noqa: ANN401  a number, or the name itself
    """Return the name of a class by its number; results of older versions do not have it, and it is `class 3`."""
    names = result.get(CLASS_NAMES) or ()
    if isinstance(label, str):
        return label
    return str(names[label]) if isinstance(label, int) and 0 <= label < len(names) else f"class {label}"
