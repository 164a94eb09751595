"""The checks of a `doctor` command, as a table and for JSON."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

_WORDS = {True: ("ok", "green"), None: ("note", "yellow"), False: ("fails", "red")}


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check; `ok` is None for a note, which does not prevent the work."""

    name: str
    ok: bool | None
    found: str
    advice: str = ""


def as_info(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the checks for JSON; `ok` is false when one of them failed."""
    return {"ok": all(check.ok is not False for check in checks), "checks": [asdict(check) for check in checks]}


def as_table(checks: Iterable[Check]) -> Table:
    """Return the checks as a table for a terminal."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before = ""
    for check in checks:
        found = Text(check.found)
        if check.advice and check.advice != before:  # one extra may bring several packages
            found.append(f"\n{check.advice}", "bold")
        before = check.advice
        table.add_row(Text(*_WORDS[check.ok]), Text(check.name), found)
    return table


def version_numbers(version: str) -> list[int]:
    """Return the numbers of a version for comparing: 2.10.1+cu126 gives [2, 10, 1]."""
    return [int(part) for part in re.split(r"[^\d.]", version)[0].split(".") if part]
