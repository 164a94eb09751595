"""Read JSON that somebody else wrote."""

import json
import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from vprep.text import brief

Replace = Callable[[dict[str, Any]], Any]


def parse_json(text: bytes | bytearray | str, *, finite: bool = False, replace: Replace | None = None) -> Any:  # noqa: ANN401 - any value
    """Return the value of a JSON text; a ValueError says why there is none.

    Brackets that are nested too deeply, and a name that an object has twice, are such errors, too; with `finite` also
    NaN and numbers too large. Each object is replaced by what `replace` returns for it.
    """
    numbers: dict[str, Any] = {"parse_constant": _no_number, "parse_float": _finite} if finite else {}
    try:
        return json.loads(text, object_pairs_hook=partial(_object, replace), **numbers)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def is_count(value: object, most: int = 2**63 - 1) -> bool:
    """Return whether `value` is a whole number from 0 to `most`."""
    return type(value) is int and 0 <= value <= most


def _object(replace: Replace | None, pairs: list[tuple[str, Any]]) -> Any:  # noqa: ANN401
    """Return an object; refuse one that has a name twice, of which other programs may read the other value."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the name '{brief(twice)}' is twice in one object")
    return found if replace is None else replace(found)


def _no_number(word: str) -> float:
    raise ValueError(f"{word[:20]} is not a number")


def _finite(word: str) -> float:
    number = float(word)
    return number if math.isfinite(number) else _no_number(word)
