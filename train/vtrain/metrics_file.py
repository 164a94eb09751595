"""Lines of a run's metrics.jsonl."""

from typing import Any

from vprep.json_text import parse_json

MOST_LINE = 1 << 20  # bytes of a line; a longer one is damaged


def numbers_in(line: str | bytes) -> dict[str, Any] | None:
    """Return the numbers in a line of metrics; None where the line is damaged."""
    try:
        found = parse_json(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and type(found.get("step")) is int else None
