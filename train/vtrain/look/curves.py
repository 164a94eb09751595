"""The curves of a run, read from its metrics.jsonl, which a training may be writing at this moment."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from pathlib import Path
from typing import TypeAlias

from vprep.errors import UsageError, reason
from vtrain import run_folder
from vtrain.look.chance import chances_of
from vtrain.metrics_file import MOST_LINE, numbers_in

MOST_METRICS = 200  # a training has some twenty
Floats: TypeAlias = "array[float]"
AXES = ("step", "epoch")  # what curves are drawn over


@dataclass(frozen=True, slots=True)
class Curve:
    """The values of a metric at the steps that have one; NaN stands for a number that was not finite."""

    steps: Floats = field(default_factory=lambda: array("d"))
    epochs: Floats = field(default_factory=lambda: array("d"))
    values: Floats = field(default_factory=lambda: array("d"))

    def over(self, axis: str) -> Floats:
        """Return the steps or the epochs of the values."""
        return self.epochs if axis == "epoch" else self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCurves:
    """The metrics of a run by name, in the order of its file."""

    name: str
    path: Path
    curves: dict[str, Curve]
    chances: dict[str, float]
    notes: tuple[str, ...]  # what a reader should know of the file

    def chance(self, metric: str) -> float | None:
        """Return the accuracy that a guess has on average; None where it is not known."""
        return self.chances.get(metric.removeprefix("held_out_"))


def read_runs(folders: Sequence[Path]) -> tuple[list[RunCurves], list[str]]:
    """Return the runs that have metrics, and a sentence about each that has none; refuse when none has any."""
    read = [read_run(folder) for folder in folders]
    without = [
        f"{run.path} holds no metrics yet; a line is added each log_every steps" for run in read if not run.curves
    ]
    runs = [run for run in read if run.curves]
    if not runs:
        raise UsageError(without[0])
    return [*_distinct(runs)], [*without, *(note for run in runs for note in run.notes)]


def read_run(folder: Path) -> RunCurves:
    """Return the curves of the run in `folder`, which may also be its metrics.jsonl."""
    path = folder / run_folder.METRICS if folder.is_dir() else folder
    if not path.is_file():
        raise UsageError(_missing(folder, path))
    curves: dict[str, Curve] = {}
    damaged, cut = 0, False
    try:
        with path.open("rb") as file:
            while line := file.readline(MOST_LINE):
                found = numbers_in(line)
                cut = found is None and not line.endswith(b"\n")
                damaged += found is None and not cut
                if found is not None:
                    _add(curves, found)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({reason(error)}); name the folder of a run") from None
    notes = [f"{damaged} damaged {'line' if damaged == 1 else 'lines'} of {path} left out"] if damaged else []
    notes += [f"the last line of {path} is not complete: it is being written, or its writer was killed"] if cut else []
    place = path.parent
    return RunCurves(
        name=place.name or place.resolve().name, path=path, curves=curves, chances=chances_of(place), notes=tuple(notes)
    )


def _add(curves: dict[str, Curve], found: dict[str, object]) -> None:
    step, epoch = (_number(found.get(name)) for name in AXES)
    for name, value in found.items():
        number = None if name in AXES else _number(value)
        curve = curves.get(name)
        if number is None or step is None or (curve is None and len(curves) == MOST_METRICS):
            continue
        if curve is None:
            curve = curves[name] = Curve()
        while curve.steps and curve.steps[-1] >= step:  # a part of the training was repeated
            for values in (curve.steps, curve.epochs, curve.values):
                values.pop()
        curve.steps.append(step)
        curve.epochs.append(nan if epoch is None else epoch)
        curve.values.append(number)


def _number(value: object) -> float | None:
    """Return a number as a float, NaN where it is not finite, as null is; None for what is no number."""
    if type(value) is float:
        return value if isfinite(value) else nan
    if value is None:
        return nan
    try:
        return float(value) if type(value) is int else None
    except OverflowError:
        return nan


def _missing(folder: Path, path: Path) -> str:
    if (folder / run_folder.RECIPE).is_file():
        return f"{folder} has no {run_folder.METRICS} yet; its training writes the first line after log_every steps"
    if folder.is_dir():
        return f"{folder} is no run: it holds no {path.name}; name the folder of a run, such as runs/NAME"
    return f"there is no run in {folder}; name the folder of a run, such as runs/NAME"


def _distinct(runs: list[RunCurves]) -> list[RunCurves]:
    """Return the runs with names that differ: with their folders where the last parts are the same."""
    names = [run.name for run in runs]
    return [replace(run, name=str(run.path.parent)) if names.count(run.name) > 1 else run for run in runs]
