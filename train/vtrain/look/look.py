"""Curves of runs: in the terminal, and as an SVG, a PNG or a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from vprep.atomic import atomic_write, require_place
from vprep.errors import UsageError, close_to
from vprep.page.chart import Level, Series, line_chart
from vprep.page.figure import Figure, stacked
from vtrain.look import summary, terminal
from vtrain.look.curves import AXES, Curve, RunCurves

ENDINGS = (".svg", ".png", ".html")
MOST_RUNS = len(terminal.LETTERS)
HEIGHT = 10  # rows of a chart in the terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Runs that are compared, the metrics that are drawn, and what they are drawn over."""

    runs: Sequence[RunCurves]
    metrics: Sequence[str]
    over: str  # step or epoch
    smooth: float

    @classmethod
    def of(cls, runs: Sequence[RunCurves], metrics: Sequence[str], over: str, smooth: float) -> "Look":
        """Return what is to be shown; refuse metrics that no run has."""
        known = summary.metrics_in(runs)
        for metric in metrics:
            if metric not in known:
                raise UsageError(
                    f"no run has the metric '{metric}'{close_to(metric, known)}; there are {', '.join(known)}"
                )
        return cls(runs=runs, metrics=metrics or usual(known), over=over, smooth=smooth)

    def series(self, metric: str) -> list[Series]:
        """Return a line for each run; a run without the metric has an empty one, so that letters and colours stay."""
        return [self._line(run.name, run.curves.get(metric, Curve())) for run in self.runs]

    def levels(self, metric: str) -> list[Level]:
        """Return the accuracies of a guess: one where all runs agree, else one for each run."""
        found = {run.name: chance for run in self.runs if (chance := run.chance(metric)) is not None}
        if len(set(found.values())) == 1:
            return [Level(name="chance", value=next(iter(found.values())))]
        return [Level(name=f"chance of {name}", value=chance) for name, chance in found.items()]

    def _line(self, name: str, curve: Curve) -> Series:
        return Series(name=name, x=curve.over(self.over), y=curve.values, smooth=self.smooth)


def check(folders: Sequence[Path], out: Path | None, over: str, smooth: float) -> None:
    """Refuse what cannot be shown, before any file is read."""
    if len(folders) > MOST_RUNS:
        raise UsageError(f"{len(folders)} runs are named; at most {MOST_RUNS} can be told apart: name fewer")
    if out is not None and out.suffix.lower() not in ENDINGS:
        raise UsageError(f"--out is '{out.name}'; it must end in one of {', '.join(ENDINGS)}")
    if over not in AXES:
        raise UsageError(f"--over is '{over}'; it must be step or epoch")
    if not 0 <= smooth < 1:
        raise UsageError(f"--smooth is {smooth:g}; it must be at least 0 and less than 1, such as 0.9")


def usual(known: Sequence[str]) -> list[str]:
    """Return the metrics that are drawn if none is named: losses and accuracies, held-out ones if there are."""
    accuracies = [name for name in known if summary.higher_is_better(name)]
    measured = [name for name in accuracies if f"held_out_{name}" not in known]
    losses = [name for name in ("loss", "held_out_loss") if name in known]
    return [*losses, *measured] or list(known[:1])


def as_text(look: Look, width: int, *, fine: bool) -> Text:
    """Return charts and the table of all metrics for a terminal of `width` characters."""
    width = max(terminal.LEAST_WIDTH, width)
    text = terminal.legend([run.name for run in look.runs], width).append("\n")
    for metric in look.metrics:
        drawn = terminal.chart(
            look.series(metric),
            spoken(metric),
            look.over,
            levels=look.levels(metric),
            width=width,
            height=HEIGHT,
            fine=fine,
        )
        text.append_text(drawn).append("\n")
    return text.append("\n".join(summary.as_lines(look.runs, summary.metrics_in(look.runs))))


def as_info(look: Look, notes: Sequence[str], out: Path | None) -> dict[str, Any]:
    """Return the last and best values for JSON."""
    saved = {} if out is None else {"out": str(out), "bytes": out.stat().st_size}
    return {"runs": summary.as_info(look.runs, summary.metrics_in(look.runs)), "notes": list(notes), **saved}


def figures(look: Look) -> list[Figure]:
    """Return a chart for each metric that is drawn."""
    return [
        line_chart(
            look.series(metric),
            title=spoken(metric).capitalize(),
            x_label=look.over,
            y_label="",
            levels=look.levels(metric),
        )
        for metric in look.metrics
    ]


def save(look: Look, out: Path) -> None:
    """Write the charts to a file of the form that its ending names."""
    require_place(out, "--out")
    if out.suffix.lower() == ".html":
        from vtrain.look.html import save_page

        save_page(look, figures(look), out)
        return
    whole = stacked(figures(look), f"Curves of {', '.join(run.name for run in look.runs)}")
    with atomic_write(out) as file:
        file.write(_drawn(whole, out.suffix.lower()))


def spoken(metric: str) -> str:
    """Return the name of a metric in words."""
    return metric.replace("held_out_", "held-out ").replace("_", " ")


def _drawn(figure: Figure, ending: str) -> bytes:
    if ending == ".png":
        from vprep.page import raster

        return raster.png(figure)
    from vprep.page import svg

    return svg.document(figure)
