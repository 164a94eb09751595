"""Keep the epoch of a fine-tuning that is best on the test videos: each is tested when it ends, the best stays.

tried.json   in the folder of the training: the accuracy of each epoch so far, and on which videos
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vprep.errors import UsageError
from vtrain.run_folder import KEPT, LAST, read_json, write_json

TRIED = "tried.json"
Tried = list[dict[str, Any]]  # the step and top1 of each epoch


@dataclass(frozen=True, slots=True)
class BestOnTest:
    """The epochs of the training in `folder`; `accuracy` returns the top-1 of a state on the test videos."""

    folder: Path
    videos: str  # fingerprint of the test videos
    accuracy: Callable[[Path], float]

    def tried(self) -> Tried:
        """Return the epochs that were tested, in order; refuse those that were tested on other videos."""
        path = self.folder / TRIED
        if not path.exists():
            return []
        found = read_json(path)
        try:
            videos, tried = found["videos"], [_epoch(one["step"], one["top1"]) for one in found["tried"]]
        except (TypeError, KeyError, ValueError):
            raise UsageError(f"{path} is not veval's; fine-tune again, into another --into") from None
        if videos != self.videos:
            raise UsageError(
                f"the epochs in {self.folder} were tested on other videos; repeat the first command, or name another "
                "--into"
            )
        return tried

    def after_epoch(self) -> None:
        """Test the kept states that are not tested yet, and remove all but the best; of equals, the first is best."""
        for path in self._kept():
            self._test(path, _step(path))
        self._remove_others()

    def chosen(self, steps: int) -> tuple[Path, Tried]:
        """Return the best state of a finished training of so many steps, and the accuracy of each epoch."""
        self.after_epoch()
        self._test(self.folder / LAST, steps)
        self._remove_others()
        kept, tried = {_step(path): path for path in self._kept()}, self.tried()
        return kept.get(_best(tried), self.folder / LAST), tried

    def _kept(self) -> list[Path]:
        return sorted((self.folder / KEPT).glob("step_*.pt"))

    def _test(self, path: Path, step: int) -> None:
        tried = self.tried()
        if step not in [one["step"] for one in tried]:
            tried = sorted([*tried, {"step": step, "top1": self.accuracy(path)}], key=lambda one: one["step"])
            write_json(self.folder / TRIED, {"videos": self.videos, "tried": tried})

    def _remove_others(self) -> None:
        best = _best(self.tried())
        for path in self._kept():
            if _step(path) != best:
                path.unlink()


def _epoch(step: Any, top1: Any) -> dict[str, Any]:  # noqa: ANN401  what JSON holds
    """Return the entry of an epoch; a ValueError where it is none."""
    if type(step) is not int or type(top1) not in (int, float) or not 0 <= top1 <= 100:
        raise ValueError
    return {"step": step, "top1": top1}


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))


def _best(tried: Tried) -> int:
    """Return the step of the first of the best epochs; -1 where none was tested."""
    return int(max(tried, key=lambda one: one["top1"])["step"]) if tried else -1
