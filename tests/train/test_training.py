"""What a training comes to, how it is stopped, and that looking at it changes nothing.

`python tests/train/test_training.py` writes golden/losses.json anew. It does not ask whether the new losses are right.
"""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from vprep.errors import UsageError, WorkError
from vprep.index import index

SUPPORT = str(Path(__file__).parents[1] / "support")
sys.path += [] if SUPPORT in sys.path else [SUPPORT]  # pytest has it there; the program has not

from small_recipes import METHODS, assert_same, begin, lines, saved, small  # noqa: E402

from vtrain.recipe import Recipe  # noqa: E402
from vtrain.settings import as_json, change  # noqa: E402
from vtrain.train import train  # noqa: E402

LOSSES = Path(__file__).parent / "golden" / "losses.json"
Losses = dict[str, dict[str, list[float]]]


def blocks(folder: Path) -> Path:
    """A set of ten videos of moving blocks of colour, which any JPEG library reads in the same way."""
    folder.mkdir()
    with tarfile.open(folder / "blocks.tar", "w") as tar:
        for number in range(10):
            rng = np.random.default_rng(number)
            picture = rng.integers(0, 256, (2, 2, 3), np.uint8).repeat(16, 0).repeat(16, 1)
            frames = [np.roll(picture, 16 * (shift % 2), 1 - shift // 2 % 2) for shift in range(16)]
            jpegs = [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes() for frame in frames]
            for ending, data in (("mjpeg", b"".join(jpegs)), ("cls", str(number % 5).encode())):
                info = tarfile.TarInfo(f"{number}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    index(folder)
    return folder


def five_steps(method: str, folder: Path) -> dict[str, list[float]]:
    """The numbers of five steps: the loss and its parts."""
    settings = ["steps=5", *(["classes=5", "dropout=0"] if method == "supervised" else [])]
    train(small(method, blocks(folder / "set"), *settings), folder / "run")
    found = lines(folder / "run")
    told = sorted(found[0].keys() - {"step", "epoch", "lr", "skipped"})
    return {name: [line[name] for line in found] for name in told}


@pytest.mark.parametrize("method", METHODS)
def test_five_steps_of_every_method_give_the_losses_they_gave_before(method: str, tmp_path: Path) -> None:
    """To a tolerance, for no two kinds of processors add in the same order."""
    wanted = json.loads(LOSSES.read_text())[method]
    found = five_steps(method, tmp_path)
    assert found.keys() == wanted.keys()
    for name, numbers in wanted.items():
        assert found[name] == pytest.approx(numbers, rel=1e-4, abs=1e-6), name


def write_losses() -> None:
    torch.set_num_threads(1)
    found: Losses = {}
    for method in METHODS:
        with TemporaryDirectory() as folder:
            found[method] = five_steps(method, Path(folder))
    LOSSES.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    write_losses()
