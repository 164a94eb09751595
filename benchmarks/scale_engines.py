"""Measure what Ray costs: the same plan by the local pool and by tasks of a Ray cluster, on as many processors.

    .venv/bin/python benchmarks/scale_engines.py [--videos 320] [--shards 16] [--workers 2] [--rounds 3]

Each round runs all engines in turns, and a ratio is the median of the ratios of the rounds, so a slower phase of the
machine affects all of them. The cluster runs before the work begins, as a cluster does. CPU is that of the command and
of its workers on the cluster; what the cluster's own processes take is not in it.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self

from vprep.video.ffmpeg import bundled

CLIPS = 16  # different clips; the others are copies under other names
WORKERS = ("ray::IDLE", "ray::fault_of", "ray::make_shard")  # by what they do
SECONDS = 11  # of a clip, as in Kinetics


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took, in seconds."""

    wall: float
    cpu: float


Runs = dict[str, list[Run]]  # by engine, one for each round


def measure(folder: Path, *, videos: int = 320, shards: int = 16, workers: int = 2, rounds: int = 3) -> Runs:
    """Return the runs of each engine; those of one video show what an engine takes to begin."""
    source = make_videos(folder / "videos", videos)
    one = make_videos(folder / "one", 1)
    runs: Runs = {}
    with cluster(workers) as address:
        ray = ["--engine", "ray", "--ray-address", address]
        engines = {
            "local": [source, "--shards", shards, "--workers", workers],
            "ray": [source, "--shards", shards, *ray],
            f"ray, {workers} videos at once": [source, "--shards", shards, "--workers", workers, *ray],
            "one video, local": [one, "--shards", 1, "--workers", 1],
            "one video, ray": [one, "--shards", 1, *ray],
        }
        names = list(engines)
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                runs.setdefault(name, []).append(_run(folder / "out", engines[name]))
    return runs


def report(runs: Runs) -> list[str]:
    """Return the lines to print: medians, and ratios to the local pool."""
    lines = ["| engine | wall, s | of local | CPU, s | of local |", "|---|---|---|---|---|"]
    for name, spent in runs.items():
        base = runs["one video, local" if name.startswith("one") else "local"]
        wall, cpu = median(run.wall for run in spent), median(run.cpu for run in spent)
        of_wall = median(run.wall / other.wall for run, other in zip(spent, base, strict=True))
        of_cpu = median(run.cpu / other.cpu for run, other in zip(spent, base, strict=True))
        lines.append(f"| {name} | {wall:.1f} | {of_wall:.2f} | {cpu:.1f} | {of_cpu:.2f} |")
    return lines


def make_videos(folder: Path, count: int) -> Path:
    """Make `count` videos, of which CLIPS differ."""
    folder.mkdir(parents=True)
    for number in range(count):
        path = folder / f"v{number:04}.mp4"
        if number < CLIPS:
            pattern = f"mandelbrot=size=340x256:rate=25:start_x={-0.7 + number / 100}"
            words = ["-f", "lavfi", "-i", pattern, "-t", str(SECONDS), "-g", "25", "-crf", "28", "-preset", "veryfast"]
            subprocess.run([bundled(), "-v", "error", *words, path], check=True, stdin=subprocess.DEVNULL)
        else:
            os.link(folder / f"v{number % CLIPS:04}.mp4", path)
    return folder


@contextlib.contextmanager
def cluster(processors: int) -> Iterator[str]:
    """Start a Ray cluster of one node, and yield its address. Its tasks have the priority of other processes."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    from ray.cluster_utils import Cluster

    size = {"num_cpus": processors, "include_dashboard": False, "object_store_memory": 80 << 20}
    started = Cluster(initialize_head=True, head_node_args=size)
    try:
        yield started.address
    finally:
        started.shutdown()


def _run(out: Path, words: list[object]) -> Run:
    argv = [sys.executable, "-m", "vprep", "shard", *map(str, words), "--out", str(out)]
    with Tasks() as tasks:
        before, began = os.times(), time.perf_counter()
        subprocess.run(argv, check=True, capture_output=True)
        wall, after = time.perf_counter() - began, os.times()
    shutil.rmtree(out)
    return Run(wall, sum(after[2:4]) - sum(before[2:4]) + tasks.seconds)


class Tasks:
    """Adds up the CPU time of Ray's workers. Ray does not wait for them when they end, so they are looked at before."""

    def __init__(self) -> None:
        self._ticks: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        return sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK")

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            for folder in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if (folder / "comm").read_text().startswith(WORKERS):
                        words = (folder / "stat").read_text().rpartition(")")[2].split()
                        self._ticks[int(folder.name)] = sum(map(int, words[11:15]))  # with the ffmpegs that have ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("videos", 320), ("shards", 16), ("workers", 2), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = measure(
            Path(folder), videos=asked.videos, shards=asked.shards, workers=asked.workers, rounds=asked.rounds
        )
    print("\n".join(report(runs)))


if __name__ == "__main__":
    main()
