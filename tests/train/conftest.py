"""Fixtures: a set of 30 videos in 6 shards, its pixels, and `vtrain` in this process."""

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import hypothesis
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from vtrain import cli

hypothesis.settings.register_profile("same", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("same")

HEIGHT, WIDTH = 24, 32


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Use one thread: the fastest for small tensors on processors that other processes use as well."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def synth_videos(run_vprep: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "videos"
    done = run_vprep("synth", "--out", folder, "--classes", 5, "--per-class", 6, "--seconds", 0.8)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def shards(synth_videos: Path, run_vprep: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 30 videos of 20 frames in 6 shards. Tests that change it copy it first."""
    out = tmp_path_factory.mktemp("sets") / "shards"
    done = run_vprep("shard", synth_videos, "--out", out, "--shards", 6, "--size", f"{HEIGHT}x{WIDTH}")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    """A copy of the set, which the test may change."""
    return Path(shutil.copytree(shards, tmp_path / "set"))


@pytest.fixture(scope="session")
def foreign(shards: Path, run_vprep: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine of the videos in a tar as other tools write it: a member for each frame, keys with a slash, and labels."""
    folder = tmp_path_factory.mktemp("sets") / "foreign"
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for row in pq.read_table(shards / "index.parquet").to_pylist()[:9]:
            data = (shards / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["size"]]
            frames = [data[begin:end] for begin, end in pairwise(row["frame_offsets"])]
            members = {f"{number:03d}.jpg": frame for number, frame in enumerate(frames)}
            for suffix, content in ({"cls": str(row["label"]).encode()} | members).items():
                member = tarfile.TarInfo(f"part/{row['key']}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    done = run_vprep("index", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `vtrain WORDS` in this process; return exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main([str(word) for word in words])
        assert isinstance(end.value.code, int)
        output = capsys.readouterr()
        return end.value.code, output.out, output.err

    return run


@pytest.fixture(scope="session")
def pictures() -> Callable[[Path], dict[str, list[np.ndarray]]]:
    """Return all frames of a set as RGB pictures, by key, read with the index as data_shards/README.md describes."""

    def read(folder: Path) -> dict[str, list[np.ndarray]]:
        found = {}
        for row in pq.read_table(folder / "index.parquet").to_pylist():
            data = (folder / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["size"]]
            offsets = row["frame_offsets"]
            found[row["key"]] = [_picture(data[begin:end]) for begin, end in pairwise(offsets)]
        return found

    return read


def _picture(jpeg: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
