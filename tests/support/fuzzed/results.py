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
from veval.results.by_class import confusion, difference, per_class, predictions
from veval.results.neighbours import read_neighbours
from veval.results.report import Report, as_dict, report
from veval.results.result import read
from veval.results.tables.csv_lines import csv_lines
from veval.results.tables.latex import latex
from veval.results.tables.markdown import markdown
from veval.results.tables.terminal import terminal
from veval.tasks.best_on_test import TRIED, BestOnTest
from vtrain.run_folder import KEPT, write_json

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
    """Return a report in all its forms; it must be printable."""
    console = Console(width=80, record=True, file=StringIO())
    console.print(terminal(found, 80))
    forms = (markdown(found), latex(found), csv_lines(found), json.dumps(as_dict(found), allow_nan=False))
    text = "".join((console.export_text(), *forms))
    kinds = {unicodedata.category(letter) for letter in text.replace("\n", "")}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}, "control characters"
    return text


def _each(path: Path) -> None:
    shown(report([path, path.with_name(BESIDE)]))


def _averaged(path: Path) -> None:
    shown(report([path.with_name(BESIDE), path], "averaged", "groups"))


def _by_class(path: Path) -> None:
    found = read(path)
    matrix = confusion(found)
    counted = 0 if matrix is None else int(matrix.counts.sum())
    assert counted == len(predictions(found))
    per_class(found)
    if counted:
        difference(found, read(path.with_name(BESIDE)))


def _neighbours(path: Path) -> None:
    for query in read_neighbours(read(path)).worst_first():
        assert all(0 <= abs(other.similarity) < 2 for other in query.neighbours)


def _make_tried(folder: Path) -> Path:
    write_json(folder / TRIED, {"videos": "x", "tried": [{"step": 2, "top1": 50.0}, {"step": 4, "top1": 60.0}]})
    (folder / KEPT).mkdir()
    return folder / TRIED


def _go_on(path: Path) -> object:
    """Test a further epoch, and choose the best."""
    (path.parent / KEPT / "step_0000006.pt").touch()
    return BestOnTest(path.parent, "x", lambda state: 55.0).chosen(8)


RESULTS = [
    Kind(
        name=f"result of {name}",
        make=_make(n),
        mutate=mutate,
        readers={
            "report": _each,
            "report --folds": _averaged,
            "by class": _by_class,
            **({"neighbours": _neighbours} if "retrieval" in name else {}),
        },
    )
    for n, name in enumerate(NAMES)
]
KINDS = [*RESULTS, Kind(name="tried.json", make=_make_tried, mutate=mutate, readers={"go on": _go_on})]
