"""A run on the disk, in its folder: the last state, always whole, and those that are kept.

recipe.json        everything that decides what the training comes to
environment.json   where it runs
metrics.jsonl      one line each `log_every` steps
last.pt            the last state; it opens with torch.load(..., weights_only=True)
kept/              states of certain steps
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vprep.atomic import DRAFT, atomic_write, move_into_place
from vprep.errors import UsageError, WorkError

LAST = "last.pt"
RECIPE = "recipe.json"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
KEPT = "kept"
LOCK = ".lock"
State = dict[str, Any]


def save(folder: Path, state: State, *, keep: bool = False) -> None:
    """Make `state` the last one; whatever happens meanwhile, the older one is there until this one is."""
    last = folder / LAST
    target = folder / KEPT / f"step_{state['step']:07}.pt" if keep else last
    try:
        target.parent.mkdir(exist_ok=True)
        with atomic_write(target) as file:
            torch.save(state, file)
        if keep:
            # The kept one comes first: a run that is killed in between goes on from the older one, and keeps it anew.
            _same(target, last)
    except (OSError, RuntimeError) as error:
        raise WorkError(
            f"step {state['step']} could not be saved to {target} ({reason(error)}); {standing(folder)}: mend that and "
            f"{how_to_go_on(folder)}"
        ) from None


def _same(path: Path, other: Path) -> None:
    """Make `other` what `path` is, which needs no room where the file system has links."""
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
    """Why a file could not be written. torch has words of its own for what its writing to a file met with."""
    met: BaseException | None = error
    while met is not None:
        if isinstance(met, KeyboardInterrupt):
            raise met from None
        if isinstance(met, OSError) and met.errno is not None:
            return os.strerror(met.errno).lower()
        met = met.__context__
    return str(error).splitlines()[0]


def standing(folder: Path) -> str:
    """Which state is there, in words."""
    path = folder / LAST
    return f"the last good state is {path}, of step {load(folder)['step']}" if path.exists() else "none was saved yet"


def how_to_go_on(folder: Path) -> str:
    """For the end of a sentence."""
    return f"go on with --resume --out {folder}" if (folder / LAST).exists() else f"start anew without {folder}"


def load(folder: Path) -> State:
    """The last state, on the CPU."""
    path = folder / LAST
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
        state["step"], state["model"]
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {LAST}; it stopped before it had saved: delete it and start anew") from None
    except Exception as error:  # torch raises what it likes for a file that is none of its own
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path} is no state of a training ({said}); take one of {folder / KEPT} for it") from None
    return state


def newest(runs: Path, names: str = "*") -> Path | None:
    """Of the runs in a folder the one that saved last."""
    saved = [path for path in runs.glob(f"{names}/{LAST}") if (path.parent / RECIPE).exists()]
    return max(saved, key=lambda path: path.stat().st_mtime_ns).parent if saved else None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other training may write to the folder meanwhile."""
    if not folder.is_dir():
        raise UsageError(f"there is no run in {folder}; name the folder of one")
    with (folder / LOCK).open("w") as file:
        try:
            # Not flock, which the loader's workers would hold on to for some seconds when this process is killed.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{folder} is being trained in by another process; wait for it, or take --out") from None
        except OSError:
            pass  # a file system without locks
        for draft in (*folder.glob(f".*{DRAFT}"), *folder.glob(f"{KEPT}/.*{DRAFT}")):
            draft.unlink()  # of one that was killed while it saved
        yield


def write_json(path: Path, said: Any) -> None:  # noqa: ANN401  what JSON holds
    with atomic_write(path) as file:
        file.write((json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:  # noqa: ANN401
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"there is no {path}; name the folder of a run, or a recipe's file") from None
    except (ValueError, OSError) as error:
        raise UsageError(f"{path} cannot be read ({error})") from None
