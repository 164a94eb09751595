"""Phase `learned` of gpu.py: train Pace and RSPNet for some time, then compare them with the same network from scratch.

By retrieval in the training videos, and by fine-tuning on labels and a test with ten clips of each video. The classes
of the made videos differ in motion alone.
"""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Never

from gpu_results import Results, words_of_phase
from gpu_videos import made_set
from veval import cli as veval
from vtrain import cli as vtrain

ADAMW = ("optim.name=adamw", "optim.weight_decay=0.01", "schedule.kind=constant", "schedule.lr=0.0005", "steps=1000000")
TRAINED = {
    "pace": (*ADAMW, "method.sampling.paces=1,2,4,8", "method.sampling.clips=4", "batch=32"),
    "rspnet": (*ADAMW, "method.queue=2048", "method.momentum=0.99", "batch=64"),
}
TUNED = ("--recipe", "finetune-tiny", "batch=64", "steps=200")
FEW = ("frames=4", "size=16", "steps=2", "batch=4")
EVALUATION = 25.0  # seconds of the limit that are left for each network that is evaluated


def run(main: Callable[[list[str]], Never], *words: object, may_stop: bool = False) -> None:
    """Run a command in this process; `may_stop`: it may be one that `stopped_after` stops."""
    print("$", *words, file=sys.stderr)
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        if end.code not in ((0, 128 + signal.SIGTERM) if may_stop else (0,)):
            raise


@contextmanager
def stopped_after(seconds: float) -> Iterator[None]:
    """Stop a training in the block after `seconds`, as a scheduler does; it is saved."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def pretrain(method: str, shards: Path, folder: Path, seconds: float, small: bool) -> dict[str, Any]:
    """Train and return the last line of metrics."""
    network = ("--recipe", "tiny", *FEW) if small else ("--backbone", "r3d", *TRAINED[method])
    words = (method, "--shards", shards, "--out", folder, *network, "log_every=20", "save_every=1000000")
    with stopped_after(seconds):
        run(vtrain.main, *words, may_stop=True)
    if not (folder / "last.pt").exists():
        raise SystemExit(f"the training of {method} ended without {folder / 'last.pt'}")
    found: dict[str, Any] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return found


def evaluate(weights: str, shards: Path, folder: Path, small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names and results of retrieval and fine-tuning."""
    folder.mkdir(parents=True)
    tasks = {
        "retrieval": ("--protocol", "vcop"),
        "finetune": ("--into", folder / "tuned", *TUNED, *(FEW if small else ())),
    }
    for task, words in tasks.items():
        out = folder / f"{task}.json"
        run(veval.main, task, "--weights", weights, "--shards", shards, "--out", out, *words)
        yield task, json.loads(out.read_text())


def learn(name: str, shards: Path, seconds: float, words: argparse.Namespace, results: Results) -> None:
    """Train the methods on a set for `seconds` together, and write how they and scratch do."""
    work, small = words.work, words.small
    runs = {method: work / f"{name}-{method}" for method in words.methods}
    for method, folder in runs.items():
        last = pretrain(method, shards, folder, seconds / len(runs), small)
        kept = {key: value for key, value in last.items() if key in ("step", "epoch", "loss", "clips_per_s", "wait")}
        results.add("trained", videos=name, method=method, **kept)
    for network, weights in {**runs, "scratch": f"random:{next(iter(runs.values()))}"}.items():
        for task, found in evaluate(str(weights), shards, work / f"{name}-{network}-evaluated", small):
            low, high = found["intervals"]["top1"]
            row = {"top1": found["top1"], "low": low, "high": high, "seconds": found["seconds"]}
            results.add("learned", videos=name, network=network, task=task, **row)


def main() -> None:
    began, words = monotonic(), words_of_phase()
    results = Results(words.out)
    shards = made_set(words.work, words.small, words.clips)
    results.forget("trained", "learned")
    evaluation = EVALUATION * (len(words.methods) + 1)
    seconds = max(1.0, words.limit - evaluation - (monotonic() - began))
    learn("real" if words.clips else "made", shards, seconds, words, results)


if __name__ == "__main__":
    main()
