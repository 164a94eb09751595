"""The cost of retrieval on random features, on the CPU: time beside one matrix product, and memory. Part of eval.py.

    .venv/bin/python benchmarks/eval_search.py ROWS

is the process whose memory is measured, with a gallery of ROWS rows. Linux only.
"""

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prep import Row, Section
from turns import Jobs, in_turns, middle, ratio
from veval.features.table import PART, Features
from veval.tasks.retrieval import SHOWN, retrieve

TIMED = (4000, 10_000, 9216)  # queries, gallery, numbers of a feature: those of pool5
LARGE = (4096, 250_000, 512)
CLASSES = 101
CLOSE = 3.0  # added to features of deviation 1: their cosines are then 0.9, as those of trained networks can be
PARTS = 20  # of PART bytes: the most memory that neighbours.py promises to use


def features(rng: np.random.Generator, videos: int, width: int, name: str, mean: float = 0.0) -> Features:
    table = rng.standard_normal((videos, width), dtype=np.float32)
    table += np.float32(mean)
    keys = [f"{name} {number}" for number in range(videos)]
    return Features(keys=keys, label=rng.integers(0, CLASSES, videos), features=table)


def time_section(rounds: int) -> Section:
    queries, gallery, width = TIMED
    rng = np.random.default_rng(0)
    plain, close = (
        (features(rng, queries, width, "query", mean), features(rng, gallery, width, "row", mean))
        for mean in (0.0, CLOSE)
    )
    left, right = (torch.from_numpy(some.features) for some in plain)
    jobs: Jobs = {
        "matrix product": lambda: left @ right.T,
        "retrieval": partial(retrieve, *plain),
        "retrieval, all close": partial(retrieve, *close),
    }
    _ = left[:512] @ right[:512].T  # the first one is slower
    spent = in_turns(jobs, rounds, torch.device("cpu"))
    product, found, among_close = spent.values()
    return f"C. Retrieval of {queries:,} queries in {gallery:,} rows of {width:,} numbers", [
        Row("retrieval / one matrix product of that size", ratio(found, product), "x", most=2),
        Row("the same, CPU", ratio(found, product, "cpu"), "x"),
        Row("the same where all features have cosines of 0.9", ratio(among_close, product), "x"),
        Row("the same, CPU", ratio(among_close, product, "cpu"), "x"),
        Row("retrieval", middle(found), "s"),
        Row("one matrix product", middle(product), "s"),
        Row("one matrix product", 2e-9 * queries * gallery * width / middle(product), "GFLOP/s"),
    ]


def memory_section() -> Section:
    queries, gallery, width = LARGE
    few = gallery // 10
    small, large = measured(few), measured(gallery)
    # Beside the parts, the keys and rows of each query's candidates.
    bound = PARTS * PART + 24 * queries * SHOWN
    return f"D. Memory of retrieval of {queries:,} queries in {gallery:,} rows of {width} numbers", [
        Row("peak of memory beside features and names", (large["peak"] - large["before"]) / 1e6, "MB",
            most=bound // 10**6),
        Row(f"the same, {few:,} rows", (small["peak"] - small["before"]) / 1e6, "MB"),
        Row("features", large["features"] / 1e6, "MB"),
        Row("Python, torch and names", (large["before"] - large["features"]) / 1e6, "MB"),
        Row("peak of the process", large["peak"] / 1e6, "MB"),
        Row("time", large["seconds"], "s"),
    ]  # fmt: skip


def measured(gallery: int) -> dict[str, Any]:
    """Return what a process that searches a gallery of this size measures."""
    print(f"memory with {gallery} rows", file=sys.stderr)
    done = subprocess.run([sys.executable, __file__, str(gallery)], check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def measure(gallery: int) -> None:
    queries, _, width = LARGE
    rng = np.random.default_rng(0)
    sides = features(rng, queries, width, "query"), features(rng, gallery, width, "row")
    before, began = held("VmRSS"), time.perf_counter()
    retrieve(*sides)
    seconds = time.perf_counter() - began
    size = sum(some.features.nbytes for some in sides)
    print(json.dumps({"before": before, "peak": held("VmHWM"), "features": size, "seconds": seconds}))


def held(what: str) -> int:
    """Return the memory of this process in bytes: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))


if __name__ == "__main__":
    measure(int(sys.argv[1]))
