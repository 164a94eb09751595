"""What a command says, and where its result goes."""

import json as jsonlib
import os
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Literal

from veval.results import result
from vprep.errors import UsageError

RESULTS = Path("results")
EVERY = 10.0  # seconds between two lines about how far the work is


def progress() -> Callable[[int, int], None]:
    said = time.monotonic()

    def told(done: int, videos: int) -> None:
        nonlocal said
        if time.monotonic() - said > EVERY:
            said = time.monotonic()
            note(f"{done}/{videos} videos")

    return told


def say(weights: dict[str, Any], data: dict[str, Any], *more: str) -> None:
    """What is taken, for those who did not name it."""
    counts = ", ".join(f"{count} of {split}" for split, count in data["videos"].items())
    note(f"weights {weights['path']} ({weights['backbone']}), shards {data['shards']}, fold {data['fold']}: {counts}")
    for line in filter(None, more):
        note(line)


def note(words: str) -> None:
    if is_first():
        print(words, file=sys.stderr, flush=True)


def is_first() -> bool:
    """Of several processes."""
    return int(os.environ.get("RANK", 0)) == 0


def called(facts: dict[str, Any]) -> str:
    path = Path(facts["path"])
    return path.parent.name if path.name == "last.pt" else path.stem


def fresh(folder: Path, begin: str, end: str = "") -> Path:
    """The first name of this kind that nothing has."""
    return next(path for number in count(1) if not (path := folder / f"{begin}-{number}{end}").exists())


def prepare(out: Path | None) -> None:
    """Whether a result can be written is known before there is one."""
    if out is not None and out.is_dir():
        raise UsageError(f"--out is {out}, which is a folder; name a file")
    (RESULTS if out is None else out.parent).mkdir(parents=True, exist_ok=True)


def finish(facts: dict[str, Any] | None, out: Path | None, json: bool | Literal["later"]) -> None:
    """Keep the result and show it, unless it is shown later; other processes than the first have none."""
    if facts is None:
        return
    named = f"{facts['kind']}-{called(facts['weights'])}-{facts['data']['name']}-fold{facts['data']['fold']}"
    out = out or fresh(RESULTS, named, ".json")
    result.write(out, facts)
    if json != "later":
        print(jsonlib.dumps(facts, ensure_ascii=False) if json else f"{result.described(facts)}\n{out}")
