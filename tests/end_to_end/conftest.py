"""Run the commands as users do, in a folder of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("way")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """Run `python -m MODULE WORDS` in the folder, by torchrun for several `processes`; it must succeed."""

    def started(module: str, *words: object, processes: int = 1) -> subprocess.CompletedProcess[str]:
        several = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
        argv = [sys.executable, "-m", *(several if processes > 1 else []), module, *map(str, words)]
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=300, cwd=folder, env=os.environ | ONE_THREAD,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    return started


@pytest.fixture(scope="module")
def shards(folder: Path, run: Run) -> Path:
    """16 videos of 20 frames and 4 classes, in the default folder for shards."""
    run("vprep.cli", "synth", "--out", "videos", "--classes", 4, "--per-class", 4, "--seconds", 0.8)
    run("vprep.cli", "shard", "videos", "--shards", 2, "--size", "24x32")
    return folder / "data_shards"
