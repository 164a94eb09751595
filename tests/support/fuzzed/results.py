"""Results of veval, which a report reads."""

import json
import unicodedata
from collections.abc import Callable
from io import StringIO
from pathlib import Path

from mutate import mutate_text
from results_on import bases
from rich.console import Console

from fuzzed import Kind
from veval.results.report import Report, as_dict, report
from veval.results.report_tables import markdown, terminal

BESIDE = "good.json"  # the same before its training, or after
NAMES = ("retrieval", "finetune", "retrieval from scratch", "finetune from scratch")


def _make(number: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / BESIDE).write_text(json.dumps(bases()[(number + 2) % 4]))
        (folder / "result.json").write_text(json.dumps(bases()[number]))
        return folder / "result.json"

    return make


def mutate(content: bytes, seed: int) -> bytes:
    """Return the bytes of a result with changed values, or changed text."""
    return mutate_text(json.loads(content), seed)


def shown(found: Report) -> str:
    """Return a report in its three forms; it must be printable."""
    console = Console(width=240, record=True, file=StringIO())
    console.print(terminal(found))
    text = "".join((console.export_text(), markdown(found), json.dumps(as_dict(found), allow_nan=False)))
    kinds = {unicodedata.category(letter) for letter in text.replace("\n", "")}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}, "control characters"
    return text


def _each(path: Path) -> None:
    shown(report([path, path.with_name(BESIDE)]))


def _averaged(path: Path) -> None:
    shown(report([path.with_name(BESIDE), path], "averaged", "groups"))


KINDS = [
    Kind(name=f"result of {name}", make=_make(n), mutate=mutate, readers={"report": _each, "report --folds": _averaged})
    for n, name in enumerate(NAMES)
]
