"""What a command prints on stdout: one JSON object, or lines and tables for people."""

import json
from collections.abc import Callable
from typing import Any


def show(facts: dict[str, Any], as_json: bool, for_people: Callable[[dict[str, Any]], object]) -> None:
    """Print `facts` as JSON, or what `for_people` makes of them."""
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
    else:
        from rich.console import Console

        Console(highlight=False, soft_wrap=True).print(for_people(facts), markup=False)
