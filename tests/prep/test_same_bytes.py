"""The same videos and settings give the same bytes, however they were made."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vprep.video.ffmpeg import bundled

Content = Callable[[Path], dict[str, bytes]]


def command(videos: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "vprep.cli", "shard", str(videos), "--out", str(out), "--shards", "3", *more]


@pytest.mark.parametrize("workers", ["1", "2", "4"])
def test_any_number_of_workers_makes_the_same_bytes(
    workers: str, videos: Path, small_shards: Path, tmp_path: Path, content: Content
) -> None:
    subprocess.run(command(videos, tmp_path / "out", "--workers", workers), check=True, capture_output=True)
    assert content(tmp_path / "out") == content(small_shards)


@pytest.fixture(scope="module")
def undisturbed_seconds(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds that a run takes when nothing disturbs it."""
    began = time.monotonic()
    subprocess.run(command(videos, tmp_path_factory.mktemp("timed")), check=True, capture_output=True)
    return time.monotonic() - began


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_a_run_killed_at_random_moments_and_resumed_makes_the_same_bytes(
    seed: int, videos: Path, small_shards: Path, tmp_path: Path, content: Content, undisturbed_seconds: float
) -> None:
    rng, out, kills, seconds = random.Random(seed), tmp_path / "out", 0, undisturbed_seconds
    for _ in range(8):
        process = subprocess.Popen(
            command(videos, out, "--workers", rng.choice("124")), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.3, 0.95) * seconds)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        elif not kills:  # the machine is less busy than when the run was timed
            seconds /= 2
            shutil.rmtree(out)
        process.wait()
        for shard in out.glob("*.tar"):
            assert shard.read_bytes() == (small_shards / shard.name).read_bytes()
    assert kills > 0
    subprocess.run(command(videos, out), check=True, capture_output=True)
    assert content(out) == content(small_shards)


def test_a_finished_set_is_not_changed(videos: Path, small_shards: Path, content: Content) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_shards.iterdir()}
    done = subprocess.run(command(videos, small_shards, "--json"), check=True, capture_output=True)
    assert json.loads(done.stdout)["videos"] == 12
    assert {path: path.stat().st_mtime_ns for path in small_shards.iterdir()} == before


def test_the_processors_instruction_set_does_not_change_a_byte(
    videos: Path, small_shards: Path, tmp_path: Path, content: Content
) -> None:
    # SSE2 is what every x86-64 processor has; on others the flag is unknown and there is nothing to compare.
    older = tmp_path / "ffmpeg"
    older.write_text(
        f'#!/bin/sh\ncase "$1" in -version) exec "{bundled()}" "$@";; esac\nexec "{bundled()}" -cpuflags sse2 "$@"\n'
    )
    older.chmod(0o755)
    if subprocess.run([older, "-v", "quiet", "-f", "lavfi", "-i", "nullsrc", "-t", "0", "-f", "null", "-"]).returncode:
        pytest.skip("this processor has no SSE2 to fall back to")
    subprocess.run(
        command(videos, tmp_path / "out"),
        check=True,
        capture_output=True,
        env=os.environ | {"VPREP_FFMPEG": str(older)},
    )
    assert content(tmp_path / "out") == content(small_shards)


def test_another_seed_stores_the_same_videos_in_another_order(videos: Path, small_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    subprocess.run(command(videos, out, "--seed", "1"), check=True, capture_output=True)
    orders = []
    for folder in (small_shards, out):
        listing = subprocess.run(["tar", "tf", folder / "000.tar"], check=True, capture_output=True, text=True).stdout
        orders.append(listing.split())
    assert orders[0] != orders[1]
