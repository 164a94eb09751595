"""Print the result of a command on stdout: as one JSON object, or as lines and tables for people."""

import json
from collections.abc import Callable
from typing import Any


def show(result: dict[str, Any], as_json: bool, for_people: Callable[[dict[str, Any]], object]) -> None:
    """Print `result` as JSON, or the text or table that `for_people` returns for it."""
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        from rich.console import Console

        Console(highlight=False, soft_wrap=True).print(for_people(result), markup=False)
