"""Fixtures that many tests share: real videos, and the command as a real process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from store_server import s3, s3_here, s3_server, set_in_bucket, store_env  # noqa: F401  fixtures

from vprep.video.ffmpeg import bundled

# The size of a terminal is that of each test's own. Python's readline, once imported, tells children another.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

MakeVideo = Callable[..., Path]
RunVprep = Callable[..., subprocess.CompletedProcess[str]]


def make_video(
    path: Path, *more: str, pattern: str = "testsrc2", size: str = "96x64", rate: str = "25", seconds: float = 1
) -> Path:
    """Write a small video of a moving test picture; `more` are further options of ffmpeg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = f"{pattern}=size={size}:rate={rate}:duration={seconds}"
    words = [bundled(), "-v", "error", "-y", "-f", "lavfi", "-i", source, "-threads", "1", *more, f"file:{path}"]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return path


def run_vprep(
    *words: object, env: dict[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run `vprep WORDS` in a process of its own."""
    argv = [sys.executable, "-m", "vprep.cli", *map(str, words)]
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=timeout, env=os.environ | (env or {}), stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="session", name="make_video")
def make_video_fixture() -> MakeVideo:
    return make_video


@pytest.fixture(scope="session")
def make_videos() -> Callable[[Path, int], Path]:
    """A function that writes v00.mp4, v01.mp4, ... of 6, 7, ... frames, and returns their folder."""

    def write(folder: Path, count: int) -> Path:
        for number in range(count):
            make_video(folder / f"v{number:02}.mp4", seconds=(6 + number) / 25)
        return folder

    return write


@pytest.fixture(scope="session", name="run_vprep")
def run_vprep_fixture() -> RunVprep:
    return run_vprep


@pytest.fixture(scope="session")
def content() -> Callable[[Path], dict[str, bytes]]:
    """A function that returns the bytes of all files below a folder, by their path."""

    def read(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }

    return read


@pytest.fixture(scope="session")
def rows() -> Callable[[Path], dict[str, dict[str, Any]]]:
    """A function that returns the rows of a set's index, by source."""

    def read(folder: Path) -> dict[str, dict[str, Any]]:
        return {row["source"]: row for row in pq.read_table(folder / "index.parquet").to_pylist()}

    return read


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of six videos each, of different lengths, rates and containers."""
    folder = tmp_path_factory.mktemp("videos")
    kinds = [("mp4", "25"), ("avi", "30000/1001"), ("mkv", "15"), ("mp4", "50"), ("webm", "25"), ("mp4", "10")]
    for name in ("falling over", "jumping (high)"):
        for number, (extension, rate) in enumerate(kinds):
            path = folder / name / f"v_{name.split()[0]}_{number}.{extension}"
            make_video(path, rate=rate, seconds=0.6 + 0.3 * number, pattern="testsrc2" if name[0] == "f" else "testsrc")
    return folder


@pytest.fixture(scope="session")
def small_shards(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set of `videos`, in three shards. Tests that change it copy it first."""
    out = tmp_path_factory.mktemp("sets") / "small"
    done = run_vprep("shard", videos, "--out", out, "--shards", 3, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["videos"] == 12
    return out
