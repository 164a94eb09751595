"""A recipe of each method with steps of 10 to 20 ms, for the set of tests/train/conftest.py; and readers of a run."""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkProcess as Training
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from torch import Tensor

from vprep.errors import exit_code
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import OneClip
from vtrain.methods import NAMES, ascnet, pace, prp, rspnet, supervised
from vtrain.methods.method import MethodConfig
from vtrain.optim.config import Optim
from vtrain.optim.schedule import Schedule
from vtrain.overrides import change
from vtrain.recipes import find
from vtrain.recipes.recipe import Data, Recipe
from vtrain.training.train import train

FRAMES, SIZE = 4, 16
LOOK = AugmentConfig(size=SIZE, scale=(0.4, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), grey=0.2)
PLAIN = AugmentConfig(size=SIZE, crop="random", crop_size=SIZE, normalise="unit")

OWN: dict[str, MethodConfig] = {
    # The sizes of queue and memory are no multiples of the batch.
    "rspnet": rspnet.Config(sampling=rspnet.Sampling(frames=FRAMES, looks=(LOOK,)), queue=21, dim=8, momentum=0.9),
    "ascnet": ascnet.Config(
        sampling=ascnet.Sampling(frames=FRAMES, speeds=(1, 2), looks=(LOOK, LOOK)), pool=21, queue=13, dim=8, hidden=16
    ),
    "prp": prp.Config(sampling=prp.Sampling(frames=FRAMES, speeds=(1, 2, 4), short="loop", looks=(PLAIN,))),
    "pace": pace.Config(
        sampling=pace.Sampling(frames=FRAMES, paces=(1, 2), looks=(LOOK,)), contrast="same context", layer="fc"
    ),
    "supervised": supervised.Config(sampling=OneClip(frames=FRAMES, looks=(LOOK,)), dropout=0.3),
}
METHODS = NAMES
ON_THE_MACHINE = ("clips_per_s", "wait", "memory_mb")
MAY_CHANGE = ("workers", "log_every", "save_every", "save_minutes", "keep_every")


def config(method: str) -> MethodConfig:
    """Return the small config of a method; without one in OWN, the tiny recipe's with fewer and smaller frames."""
    if method in OWN:
        return OWN[method]
    return change(find(method, "tiny"), [f"frames={FRAMES}", f"size={SIZE}"]).method


def small(method: str, shards: Path, *changes: str) -> Recipe:
    """Return the recipe of `method`; `changes` are written key=value."""
    recipe = Recipe(
        name=f"small {method}",
        method=config(method),
        backbone="tiny",
        backbone_settings={"width": 4},
        data=Data(shards=str(shards)),
        batch=4,
        epochs=1,
        steps=12,
        optim=Optim(name="lars" if method == "ascnet" else "adamw" if method == "pace" else "sgd", weight_decay=1e-3),
        schedule=Schedule(lr=0.01, warmup=0.5),
        workers=0,
        log_every=1,
        save_every=3,
    )
    return change(recipe, changes)


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run without those that depend on the machine."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ON_THE_MACHINE} for line in found]


def saved(folder: Path) -> dict[str, Any]:
    """Return the last state without the settings that a resume may change."""
    state: dict[str, Any] = torch.load(folder / "last.pt", weights_only=True)
    return state | {"recipe": {name: value for name, value in state["recipe"].items() if name not in MAY_CHANGE}}


def assert_same(found: Any, wanted: Any, where: str = "") -> None:  # noqa: ANN401  a state, and what is in it
    """Compare two states bit for bit."""
    assert type(found) is type(wanted), where
    if isinstance(wanted, dict):
        assert list(found) == list(wanted), where
        for key in wanted:
            assert_same(found[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), where
        for number, one in enumerate(wanted):
            assert_same(found[number], one, f"{where}.{number}")
    elif isinstance(wanted, Tensor):
        assert found.dtype == wanted.dtype, where
        assert torch.equal(found, wanted), where
    else:
        assert found == wanted, where


@contextmanager
def damaged(folder: Path, numbers: tuple[int, ...]) -> Iterator[None]:
    """Overwrite the frames of these videos of the training split; put them back at the end."""
    rows = [row for row in pq.read_table(folder / "index.parquet").to_pylist() if row["split1"] == "train"]
    before = {path: path.read_bytes() for path in folder.glob("*.tar")}
    for row in (rows[number] for number in numbers):
        with (folder / row["shard"]).open("r+b") as file:
            file.seek(row["offset"])
            file.write(bytes(row["size"]))
    yield
    for path, data in before.items():
        path.write_bytes(data)


def begin(recipe: Recipe, folder: Path, *, resume: bool = False, words: Path | None = None) -> Training:
    """Start a training in its own process, with exit code and messages as the command has them.

    It is forked, because a new Python takes longer to load torch than a small training. stderr goes to `words`.
    """
    process = multiprocessing.get_context("fork").Process(target=_train, args=(recipe, folder, resume, words))
    process.start()
    return process


def _train(recipe: Recipe, folder: Path, resume: bool, words: Path | None) -> None:
    os.setpgrp()
    if words is not None:
        os.dup2(os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    torch.set_num_threads(1)
    os._exit(exit_code("vtrain", lambda: train(recipe, folder, resume=resume)))


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
