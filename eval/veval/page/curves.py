"""The learning curves of the runs whose results the page shows."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from veval.results.result import Result
from vprep.errors import UsageError
from vprep.page import svg
from vprep.page.document import Section
from vprep.page.html import Child, el
from vprep.text import one_line
from vtrain.look.curves import RunCurves, read_runs
from vtrain.look.look import Look, figures
from vtrain.run_folder import METRICS

MOST_RUNS = 8  # lines of a chart that colours and dashes tell apart
SMOOTH = 0.9
MANY = 50  # values from which a curve is smoothed


def section(runs: Sequence[Path], results: Sequence[Result]) -> Section:
    """Return the curves of `runs`; without any, of the runs that the results name, where they still exist."""
    return Section(
        identifier="curves",
        title="Learning curves",
        lead="Losses and accuracies over the steps of training. Long curves are smoothed, above the values in pale.",
        body=_named(runs) if runs else _found(results),
    )


def _named(runs: Sequence[Path]) -> list[Child]:
    if len(runs) > MOST_RUNS:
        raise UsageError(f"--runs names {len(runs)} runs; at most {MOST_RUNS} can be told apart: name fewer")
    curves, notes = read_runs(runs)
    return [*_charts(curves), [el("p", one_line(note), class_="note") for note in notes]]


def _found(results: Sequence[Result]) -> list[Child]:
    """Return the charts of what the results name: pre-training and fine-tuning apart, because their losses differ."""
    blocks: list[Child] = []
    for title, folders in (("Pre-training", _trained(results)), ("Fine-tuning", _tuned(results))):
        there = [folder for folder in dict.fromkeys(folders) if (folder / METRICS).is_file()]
        try:
            curves, notes = read_runs(there[:MOST_RUNS]) if there else ([], [])
        except UsageError:  # their files hold no metrics yet
            continue
        if curves:
            blocks += [el("h3", title), *_charts(curves), [el("p", one_line(note), class_="note") for note in notes]]
        if len(there) > MOST_RUNS:
            blocks.append(el("p", f"{MOST_RUNS} of {len(there)} runs are shown.", class_="note"))
    return blocks or [el("p", "The runs that the results name are not here: add ", el("code", "--runs RUN"), ".")]


def _charts(curves: Sequence[RunCurves]) -> list[Child]:
    longest = max(len(curve.values) for run in curves for curve in run.curves.values())
    look = Look.of(curves, (), "step", SMOOTH if longest >= MANY else 0.0)
    return [el("div", (el("figure", svg.element(figure)) for figure in figures(look)), class_="figures")]


def _trained(results: Sequence[Result]) -> Iterator[Path]:
    """Yield the folders of the runs whose weights the results are about."""
    for result in results:
        path = result["weights"].get("path")
        if isinstance(path, str) and result["weights"].get("step") is not None:
            yield Path(path).parent if Path(path).suffix == ".pt" else Path(path)


def _tuned(results: Sequence[Result]) -> Iterator[Path]:
    for result in results:
        run = (result.get("fine_tuned") or {}).get("run")
        if isinstance(run, str):
            yield Path(run)
