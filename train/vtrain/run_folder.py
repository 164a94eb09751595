"""The folder of a run. Its last state is complete at any moment.

recipe.json        everything that the result of the training depends on
environment.json   machine and versions of each start
metrics.jsonl      a line of numbers each `log_every` steps
last.pt            the last state; torch.load(..., weights_only=True) opens it
best.pt            the state of the best epoch so far, where the recipe has keep=best
kept/              states of earlier steps that are never replaced
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vprep import printing
from vprep.atomic import DRAFT, atomic_write, move_into_place, plain_file
from vprep.errors import UsageError, WorkError, writing
from vprep.json_text import parse_json

LAST = "last.pt"
BEST = "best.pt"
RECIPE = "recipe.json"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
KEPT = "kept"
LOCK = ".lock"
BOARD = "tensorboard"
State = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best epoch of a run so far: the one with the lowest `by`."""

    by: str  # held_out_loss or loss
    value: float
    step: int

    def __str__(self) -> str:
        return f"lowest {self.by}, {self.value:.4g}, at step {self.step}"

    @classmethod
    def read(cls, found: Any) -> "Best | None":  # noqa: ANN401  any value of a file
        """Return what a state notes of the best epoch; None when it notes none."""
        types = {"by": str, "value": float, "step": int}
        fits = isinstance(found, dict) and {name: type(value) for name, value in found.items()} == types
        return cls(**found) if fits else None


def save(
    folder: Path, state: State, *, keep: bool = False, best: bool = False, again: str = "continue with --resume"
) -> None:
    """Save `state` as the last state; the older state stays until the new one is complete.

    `keep` also keeps it for good, and `best` makes it the state of the best epoch. `again` says how a user continues.
    """
    import torch

    last = folder / LAST
    target = folder / KEPT / f"step_{state['step']:07}.pt" if keep else last
    try:
        target.parent.mkdir(exist_ok=True)
        with atomic_write(target) as file:
            torch.save(state, file)
        if keep:
            # The kept state comes first: a run that is killed in between resumes from the older one and keeps it again.
            _link(target, last)
        if best:
            # Last: a run that is killed in between has the best state in last.pt, and `restore_best` finds it there.
            _link(last, folder / BEST)
    except (OSError, RuntimeError) as error:
        raise WorkError(
            f"step {state['step']} could not be saved to {target} ({reason(error)}); {standing(folder)}: fix that and "
            f"{again}"
        ) from None


def weights_file(folder: Path) -> Path:
    """Return the file with the weights that a run stands for: best.pt where it keeps its best epoch, or last.pt.

    It is last.pt, too, while no epoch has ended, and after a kill that came before best.pt was replaced.
    """
    if not (folder / BEST).is_file():
        return folder / LAST
    last, best = best_in(folder / LAST), best_in(folder / BEST)
    is_newer = last is not None and (best is None or last.value < best.value)
    return folder / (LAST if is_newer else BEST)


def best_in(path: Path) -> Best | None:
    """Return the best epoch if the file holds its state; None if it holds another state, or none."""
    state = header(path)
    best = Best.read(state.get("best"))
    return best if best is not None and best.step == state.get("step") else None


def header(path: Path) -> State:
    """Return a state without reading its tensors; empty where the file is no state."""
    from vtrain import torch_file

    try:
        state = torch_file.read_values(path)
    except torch_file.UnreadableError:
        return {}
    return dict(state) if isinstance(state, dict) else {}


def restore_best(folder: Path) -> Best | None:
    """Return the best epoch whose state the folder holds, in best.pt; move it there where a kill came before that."""
    if weights_file(folder).name == LAST and best_in(folder / LAST) is not None:
        _link(folder / LAST, folder / BEST)
    return best_in(folder / BEST)


def _link(path: Path, other: Path) -> None:
    """Make `other` the same file as `path`, or a copy of it where the file system has no links."""
    draft = other.with_name(f".{other.name}{DRAFT}")
    draft.unlink(missing_ok=True)
    try:
        os.link(path, draft)
    except OSError:
        with atomic_write(other) as file, path.open("rb") as source:
            shutil.copyfileobj(source, file)
    else:
        move_into_place(draft, other)


def reason(error: BaseException) -> str:
    """Return why a file could not be written; torch hides the system's reason behind an error of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if not isinstance(cause, Exception):  # a signal ended it
            raise cause from None
        if isinstance(cause, OSError) and cause.errno is not None:
            return os.strerror(cause.errno).lower()
        cause = cause.__context__
    return str(error).splitlines()[0]


def standing(folder: Path) -> str:
    """Return which state the folder holds, as a part of a sentence."""
    path = folder / LAST
    if not path.exists():
        return "no state is saved yet"
    return f"the last good state is {path}, of step {header(path).get('step')}"


def refuse_used(folder: Path) -> None:
    """Refuse a folder for a new run that holds anything but a run that stopped before it saved."""
    if folder.exists() and not (folder.is_dir() and (is_empty(folder) or unsaved(folder))):
        raise UsageError(f"{folder} exists already; continue its run with --resume {folder}, or choose another --out")


def is_empty(folder: Path) -> bool:
    """Return whether nothing is in the folder but the lock of a run that has not begun."""
    return {path.name for path in folder.iterdir()} <= {LOCK}


def unsaved(folder: Path) -> bool:
    """Return whether the folder holds what a run leaves that stopped before it saved, and nothing else."""
    files = {path.relative_to(folder).as_posix() for path in (*folder.iterdir(), *folder.glob(f"{KEPT}/*"))}
    files -= {path.relative_to(folder).as_posix() for path in drafts(folder)}
    return {RECIPE, LOCK} <= files <= {RECIPE, LOCK, ENVIRONMENT, METRICS, BOARD, KEPT}


def clear_unsaved(folder: Path) -> None:
    """Remove the numbers of a run that stopped before it saved; its recipe stays until the next one replaces it."""
    for name in (METRICS, ENVIRONMENT):
        (folder / name).unlink(missing_ok=True)


def has_state(folder: Path) -> bool:
    """Return whether a run in the folder has saved; refuse a folder where only its last state is missing."""
    if (folder / LAST).exists():
        return True
    others = other_states(folder)
    if others:
        raise UsageError(f"{folder} has no {LAST}; copy {others} to {LAST} to continue from there")
    return False


def other_states(folder: Path) -> str:
    """Return which states the folder holds beside the last one, as a part of a sentence; "" where there are none."""
    best = [BEST] if (folder / BEST).exists() else []
    return " or ".join([*best, *([f"a state of {folder / KEPT}"] if any(folder.glob(f"{KEPT}/*.pt")) else [])])


def drafts(folder: Path) -> list[Path]:
    """Return the files that a process left that was killed while it wrote them."""
    return [*folder.glob(f".*{DRAFT}"), *folder.glob(f"{KEPT}/.*{DRAFT}")]


def newest(runs: Path, method: str | None = None, *, to_resume: bool = False) -> Path | None:
    """Return the run in a folder that saved last, of `method` if it is given; None when no such run has saved.

    `to_resume` counts also a run that stopped before it saved, by the time at which it began.
    """
    files = [path for path in runs.glob(f"*/{LAST}") if (path.parent / RECIPE).exists()]
    if to_resume:
        files += [path for path in runs.glob(f"*/{RECIPE}") if unsaved(path.parent)]
    folders = (path.parent for path in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True))
    return next((folder for folder in folders if method is None or _method(folder) == method), None)


def _method(folder: Path) -> str | None:
    """Return the name of the method that a run trains by; None when its recipe does not say."""
    with suppress(UsageError, LookupError, TypeError):
        return str(read_json(folder / RECIPE)["method"]["name"])
    return None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other trainings from writing to the folder during this context, where its file system has locks."""
    if not folder.is_dir():
        raise UsageError(f"there is no run in {folder}; name a run's folder")
    with writing(folder, "copy the run to where you can write, and name the copy"):
        file = plain_file(folder / LOCK)
    with file:
        locked = True
        try:
            # Not flock: the loader's workers would hold that lock for some seconds when this process is killed.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process trains in {folder}; wait for its end, or train in another folder"
            ) from None
        except OSError as error:  # a file system without locks
            locked = False
            printing.note(f"warning: no lock ({reason(error)}); make sure that nobody else trains in {folder}")
        if locked:  # without locks, a draft may be one that another training is writing
            for draft in drafts(folder):
                draft.unlink(missing_ok=True)
        yield


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401  what JSON holds
    """Write `value` to `path`; an older file stays until the new one is complete."""
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Return the content of a JSON file of a run."""
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"there is no {path}; name a run's folder or a recipe.json") from None
    except (ValueError, OSError) as error:
        raise UsageError(f"{path} cannot be read ({error})") from None
