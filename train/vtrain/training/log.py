"""The log of a training: metrics as JSON lines, TensorBoard where it is installed, progress on stderr."""

import contextlib
import importlib.util
import json
import sys
import time
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from vprep.atomic import atomic_write
from vtrain.distributed import rank

EVERY = 10.0  # seconds between lines, where there is no terminal
SHOWN = 4  # numbers of a step on the terminal, beside the loss


class Metrics:
    """The file of metrics, and TensorBoard's files beside it."""

    def __init__(self, path: Path, step: int) -> None:
        _cut(path, step)
        self._file = path.open("a", encoding="utf-8")
        self._board: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(path.parent / "tensorboard"), purge_step=step)

    def write(self, numbers: dict[str, Any]) -> None:
        """Append a line. A number that is not finite, as a loss of held-out videos may be, becomes null."""
        finite = {name: None if value != value or abs(value) == inf else value for name, value in numbers.items()}
        self._file.write(json.dumps(finite) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in numbers.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(name, value, numbers["step"])

    def close(self) -> None:
        with contextlib.suppress(OSError):  # `write` has raised it already
            self._file.close()
        if self._board is not None:
            self._board.close()


def _cut(path: Path, step: int) -> None:
    """Remove lines after `step`: they were written, but the run was killed before it saved their state."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = []
    for line in lines:
        with contextlib.suppress(ValueError):  # the last line may be cut
            if json.loads(line)["step"] <= step:
                kept.append(line.rstrip() + b"\n")
    if kept != lines:
        with atomic_write(path) as file:
            file.writelines(kept)


def note(message: str) -> None:
    """Print a message to the user on stderr; only the first rank prints."""
    if message and rank() == 0:
        print(message, file=sys.stderr, flush=True)


class Progress:
    """The progress of a training: a bar on a terminal, lines elsewhere."""

    def __init__(self, first: int, steps: int, per_epoch: float) -> None:
        self.steps, self.per_epoch = steps, per_epoch
        self._began, self._first, self._printed = time.monotonic(), first, 0.0
        self._bar: Bar | None = None
        if rank() == 0 and sys.stderr.isatty():
            numbers = TextColumn("{task.fields[numbers]}")
            self._bar = Bar(BarColumn(), MofNCompleteColumn(), numbers, console=Console(stderr=True))
            self._task = self._bar.add_task("", total=steps, completed=first, numbers="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, step: int) -> None:
        if self._bar:
            self._bar.update(self._task, completed=step)

    def show(self, step: int, numbers: dict[str, Any]) -> None:
        """Show the numbers of the last steps; without a terminal, a line every `EVERY` seconds."""
        line = self._line(step, numbers)
        if self._bar:
            self._bar.update(self._task, completed=step, numbers=line)
        elif time.monotonic() - self._printed > EVERY or step == self.steps:
            self._printed = time.monotonic()
            print(f"step {step}/{self.steps}, {line}", file=sys.stderr, flush=True)

    def _line(self, step: int, numbers: dict[str, Any]) -> str:
        shown = [name for name in numbers if name.endswith("accuracy") or name.startswith("watch_")][:SHOWN]
        parts = [
            f"epoch {step / self.per_epoch:.1f}",
            f"loss {numbers['loss']:.3f}",
            *(f"{name.replace('_', ' ')} {numbers[name]:.2f}" for name in shown),
            f"{numbers['clips_per_s']:.0f} clips/s",
            f"waiting {numbers['wait']:.0%}",
        ]
        left = (self.steps - step) * (time.monotonic() - self._began) / max(1, step - self._first)
        return ", ".join([*parts, f"{clock(left)} left"])


def clock(seconds: float) -> str:
    """Return seconds as M:SS or H:MM:SS."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
