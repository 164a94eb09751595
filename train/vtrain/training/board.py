"""TensorBoard's files of a run: the numbers of metrics.jsonl once more, as curves."""

import threading
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from vprep.errors import reason
from vprep.printing import note


class Board:
    """Writes the numbers of each line; where that fails, as on a full disk, the curves end and the training goes on."""

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        self._hook = threading.excepthook
        threading.excepthook = self._without_own_errors
        self._writer: Any = SummaryWriter(str(folder), purge_step=step)

    def write(self, numbers: dict[str, Any]) -> None:
        """Add the numbers of a step."""
        if self._writer is None:
            return
        try:
            for name, value in numbers.items():
                if isinstance(value, int | float) and name != "step":
                    self._writer.add_scalar(name, value, numbers["step"])
        except OSError as error:
            self._writer = None
            note(f"warning: {self._folder} cannot be written ({reason(error)}); its curves end here")

    def close(self) -> None:
        """Write what is left."""
        try:
            if self._writer is not None:
                self._writer.close()
        except OSError as error:
            note(f"warning: {self._folder} cannot be written ({reason(error)}); its curves lack the last steps")
        finally:
            threading.excepthook = self._hook

    def _without_own_errors(self, args: Any) -> None:  # noqa: ANN401  the type has no public name
        """Print no traceback of TensorBoard's thread, whose error `write` gets, too."""
        if not issubclass(args.exc_type, OSError) or "tensorboard" not in type(args.thread).__module__:
            self._hook(args)
