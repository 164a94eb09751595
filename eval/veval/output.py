"""Print progress and results of commands, and write results to files."""

import os
import re
import shlex
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from veval.results import result
from vprep import printing
from vprep.atomic import require_writable
from vprep.errors import UsageError, WorkError, reason

if TYPE_CHECKING:
    from veval.evaluation import DataInfo, WeightsInfo
    from vprep.progress import Progress

RESULTS = Path("results")


class Work:
    """Shows how far the work is and how long it still takes: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._what = "videos"
        self._shown: Progress | None = None

    def begin(self, what: str) -> None:
        """Name the work that begins."""
        self.close()
        self._what = what

    def progress(self, done: int, total: int) -> None:
        """Show that `done` of `total` are finished."""
        from vprep.progress import Progress  # loads rich

        if self._shown is None or self._shown.total != total or done < self._shown.done:
            self.close()
            if done >= total:  # there is nothing to wait for
                return
            self._shown = Progress(total, done, visible=is_first())
            self._shown.__enter__()
        self._shown.move(done)
        self._shown.show(f"{done}/{total}", f"{self._what}, {self._shown.per_second:.3g} a second")
        if done >= total:
            self.close()

    def close(self) -> None:
        """Take the bar off the terminal, if there is one."""
        if self._shown is not None:
            self._shown.__exit__(None, None, None)
            self._shown = None


WORK = Work()  # of this process


def announce(weights: "WeightsInfo | None", data: "DataInfo", *more: str) -> None:
    """Print which weights and videos are used, for users who did not name them; without `weights`, the videos only."""
    counts = ", ".join(f"{count} of {split}" for split, count in data.videos.items())
    network = "" if weights is None else ", ".join(filter(None, (weights.backbone, weights.epoch)))
    start = "" if weights is None else f"weights {weights.word} ({network}), "
    note(f"{start}shards {data.shards}, fold {data.fold}: {counts}")
    for line in filter(None, more):
        note(line)


def note(line: str) -> None:
    if is_first():
        printing.note(line)


def is_first() -> bool:
    """Return whether this is the first process, or the only one."""
    return int(os.environ.get("RANK", 0)) == 0


def short_name(path: Path, like_recipe: str | None = None) -> str:
    """Return the name of the run or of the file that holds the weights in `path`; for random weights, of their recipe.

    It is a part of the name of a file.
    """
    name = path.parent.name if path.name in ("last.pt", "best.pt") else path.stem
    return f"{name}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', like_recipe)}" if like_recipe else name


def fresh(folder: Path, begin: str, end: str = "") -> Path:
    """Return the first numbered name that does not exist yet."""
    return next(path for number in count(1) if not (path := folder / f"{begin}-{number}{end}").exists())


def prepare(out: Path | None) -> None:
    """Check that the result can be written, before it is computed."""
    if out is not None and out.is_dir():
        raise UsageError(f"--out is {out}, which is a folder; name a file")
    require_writable(RESULTS if out is None else out.parent)


def finish(
    found: dict[str, Any] | None, out: Path | None, json: bool | Literal["later"], *, is_last: bool = True
) -> None:
    """Write the result and print it, unless it is printed later; only the first process has a result.

    After the last result, the user reads how to go on.
    """
    if found is None:
        return
    weights, data = found["weights"], found["data"]
    words = short_name(Path(weights["path"]), weights.get("like_recipe"))
    name = f"{found['kind']}-{words}-{data['name']}-fold{data['fold']}"
    out = out or fresh(RESULTS, name, ".json")
    try:
        result.write(out, found)
    except OSError as error:  # what took hours is at least printed
        printing.show(found, bool(json), result.described)
        raise WorkError(f"{out} cannot be written ({reason(error)}); keep the result that is printed here") from None
    if json != "later":
        printing.show(found, bool(json), lambda found: f"{result.described(found)}\n{out}")
    if is_last and not json:
        more = "" if out.parent == RESULTS else f" {shlex.quote(str(out))}"
        note(f"next: veval report{more}, which compares it with published numbers and with the network from scratch")
