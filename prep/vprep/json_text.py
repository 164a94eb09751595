"""Read JSON that somebody else wrote."""

import json
from typing import Any


def parse_json(text: bytes | bytearray | str) -> Any:  # noqa: ANN401 - any value
    """Return the value of a JSON text; a ValueError says why there is none.

    Brackets that are nested too deeply, and an object that has a name twice, are such errors, too.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def is_count(value: object, most: int = 2**63 - 1) -> bool:
    """Return whether `value` is a whole number from 0 to `most`."""
    return type(value) is int and 0 <= value <= most


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object in it has the same name twice")
    return found
