"""A small set with splits, and one in which the brightness is the class."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_recipes import small

from vtrain.training.train import train

MakeVideo = Callable[..., Path]
RunVprep = Callable[..., Any]
BRIGHT = 60  # by which a class is brighter than the one before it, in the set `grey`


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Run torch on one thread: for small tensors on a busy machine that is fastest."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shards(run_vprep: RunVprep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 videos of 20 frames and 24 x 32 pixels, of 4 classes, in 3 shards; 20 to train and 4 to test."""
    folder = tmp_path_factory.mktemp("eval")
    made = run_vprep("synth", "--out", folder / "videos", "--classes", 4, "--per-class", 6, "--seconds", 0.8)
    assert made.returncode == 0, made.stderr
    return sharded(run_vprep, folder, 3)


@pytest.fixture(scope="session")
def grey(make_video: MakeVideo, run_vprep: RunVprep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9 videos of a single grey, of 8 to 25 frames, whose class is how bright they are: dark, grey or white."""
    folder = tmp_path_factory.mktemp("grey")
    for label, name in enumerate(("a dark", "b grey", "c white")):
        for number, seconds in enumerate((0.32, 0.6, 1.0)):
            luma = f"lutyuv=y={40 + BRIGHT * label}:u=128:v=128"
            path = folder / "videos" / name / f"{name[0]}{number}.mp4"
            make_video(path, "-vf", luma, pattern="color", size="64x48", seconds=seconds)
    return sharded(run_vprep, folder, 2)


def sharded(run_vprep: RunVprep, folder: Path, shards: int) -> Path:
    """Shard the folder's videos, and return the set."""
    done = run_vprep("shard", folder / "videos", "--out", folder / "shards", "--shards", shards, "--size", "24x32")
    assert done.returncode == 0, done.stderr
    return folder / "shards"


@pytest.fixture(scope="module")
def place(shards: Path, grey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shards, two pre-training runs and a fine-tuned one."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "data_shards").symlink_to(shards)
    (folder / "grey").symlink_to(grey)
    for number, name in enumerate(("newer", "older")):
        train(small("pace", shards, "steps=2", f"seed={number}"), folder / "runs" / name)
    os.utime(folder / "runs" / "older" / "last.pt", (1e9, 1e9))
    train(small("supervised", shards, "steps=2"), folder / "runs" / "finetuned" / "tuned")
    (folder / "notes.md").write_text("about these videos\n")
    return folder


@pytest.fixture
def here(place: Path, tmp_path: Path) -> Path:
    """The same folder, for a test that writes into it."""
    for path in place.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "runs").unlink()
    (tmp_path / "runs" / "finetuned").mkdir(parents=True)
    for name in ("newer", "older", "finetuned/tuned"):
        (tmp_path / "runs" / name).symlink_to(place / "runs" / name)
    return tmp_path
