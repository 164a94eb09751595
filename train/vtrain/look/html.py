"""The page of several runs: their curves, their numbers, and the settings in which they differ."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vprep.errors import UsageError
from vprep.page import svg
from vprep.page.document import Page, Section, save
from vprep.page.figure import Figure
from vprep.page.html import Child, el
from vprep.page.parts import Column, table
from vprep.text import one_line
from vtrain import run_folder
from vtrain.look import summary
from vtrain.look.curves import RunCurves
from vtrain.look.look import Look
from vtrain.look.terminal import LETTERS
from vtrain.overrides import flat

BEST = "Best is the highest value of an accuracy, and the lowest of all others. Chance is how often a guess is correct."


def save_page(look: Look, figures: Sequence[Figure], out: Path) -> None:
    """Write the page."""
    sections = [
        Section(identifier="curves", title="Curves", body=[el("figure", svg.element(figure)) for figure in figures]),
        Section(identifier="numbers", title="Numbers", body=_numbers(look), lead=BEST),
    ]
    differing = list(_differences(look.runs))
    if differing:
        columns = [Column("setting", is_head=True), *(Column(one_line(run.name)) for run in look.runs)]
        body = table(columns, differing, caption="Settings that differ")
        sections.append(Section(identifier="settings", title="Settings", body=body))
    save(Page(title=f"Runs: {one_line(', '.join(run.name for run in look.runs))}", sections=sections), out)


def _numbers(look: Look) -> Child:
    names = dict(zip(LETTERS, (one_line(run.name) for run in look.runs), strict=False))
    columns = [
        Column(title, is_head=title == "metric", is_number=title not in ("metric", "run")) for title in summary.HEAD
    ]
    rows = (
        (metric, names[letter], *values)
        for metric, letter, *values in summary.rows(look.runs, summary.metrics_in(look.runs))
    )
    return table(columns, rows, caption="Last and best values")


def _differences(runs: Sequence[RunCurves]) -> Iterator[list[str]]:
    """Yield the settings that are not the same in all recipes, with their values."""
    recipes = [dict(flat(_recipe(run))) for run in runs]
    for key in dict.fromkeys(key for recipe in recipes for key in recipe):
        values = [recipe.get(key, "") for recipe in recipes]
        if len(set(values)) > 1:
            yield [one_line(key), *map(one_line, values)]


def _recipe(run: RunCurves) -> Any:  # noqa: ANN401  any value of a file
    try:
        return run_folder.read_json(run.path.parent / run_folder.RECIPE)
    except UsageError:
        return {}
