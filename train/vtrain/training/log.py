"""The log of a training: metrics as JSON lines, TensorBoard where it is installed, progress on stderr."""

import contextlib
import importlib.util
import json
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vprep import printing
from vprep.atomic import atomic_write, plain_file
from vprep.progress import Progress
from vtrain.distributed import rank
from vtrain.metrics_file import numbers_in

if TYPE_CHECKING:
    from vtrain.training.board import Board

SHOWN = 4  # numbers of a step on the terminal, beside the loss


class Metrics:
    """The file of metrics, and TensorBoard's files beside it."""

    def __init__(self, path: Path, step: int) -> None:
        _cut(path, step)
        self._file = plain_file(path, append=True)
        self._board: Board | None = None
        if importlib.util.find_spec("tensorboard") is not None:
            from vtrain.training import board

            self._board = board.Board(path.parent / "tensorboard", step)

    def write(self, numbers: dict[str, Any]) -> None:
        """Append a line. A number that is not finite becomes null; a loss of held-out videos may be such a number."""
        finite = {name: None if value != value or abs(value) == inf else value for name, value in numbers.items()}
        self._file.write(f"{json.dumps(finite)}\n".encode())
        self._file.flush()
        if self._board is not None:
            self._board.write(numbers)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # `write` has raised it already
            self._file.close()
        if self._board is not None:
            self._board.close()


def _cut(path: Path, step: int) -> None:
    """Remove lines after `step`: they were written, but the run was killed before it saved their state."""
    if not path.is_file():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = []
    for line in lines:
        numbers = numbers_in(line)  # the last line may be cut
        if numbers is not None and numbers["step"] <= step:
            kept.append(line.rstrip() + b"\n")
    if kept != lines:
        with atomic_write(path) as file:
            file.writelines(kept)


def note(message: str) -> None:
    """Print a message to the user on stderr; only the first rank prints."""
    if message and rank() == 0:
        printing.note(message)


class StepProgress(Progress):
    """The finished steps of a training, with the last numbers."""

    def __init__(self, first: int, steps: int, per_epoch: float) -> None:
        super().__init__(steps, first, visible=rank() == 0)
        self._per_epoch = per_epoch
        self._printed = -inf  # the first numbers are printed at once

    def numbers(self, step: int, numbers: dict[str, Any]) -> None:
        """Show the numbers of the last steps."""
        shown = [name for name in numbers if name.endswith("accuracy") or name.startswith("watch_")][:SHOWN]
        parts = [
            f"epoch {step / self._per_epoch:.1f}",
            f"loss {numbers['loss']:.3f}",
            *(f"{name.replace('_', ' ')} {numbers[name]:.2f}" for name in shown),
            f"{numbers['clips_per_s']:.0f} clips/s",
            f"waiting {numbers['wait']:.0%}",
        ]
        self.move(step)
        self.show(f"step {step}/{self.total}", ", ".join(parts), now=step == self.total)
