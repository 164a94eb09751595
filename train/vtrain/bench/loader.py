"""Where the loader's time goes on this machine and these shards.

Stages are timed alone, in this process, on the same samples; then whole loaders with more and more workers.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import cv2
import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from vprep.errors import UsageError
from vtrain.data.augment.apply import Augment
from vtrain.data.batch import batch_of, facts_of
from vtrain.data.dataset import Videos
from vtrain.data.loader import Loader
from vtrain.data.order import Order
from vtrain.data.sampler import FLAGS, Sampler
from vtrain.data.sampling import EvenClips, OneClip, Plan
from vtrain.machine import processors
from vtrain.methods import METHODS, registry

OTHER_PLANS: dict[str, Callable[[], Plan]] = {"finetune": OneClip, "test": EvenClips}
STAGES = ("plan", "read", "decode", "assemble", "collate", "transfer", "augment")
ROUNDS = 9  # of the stages, as far as time allows; the median counts
ENOUGH = 0.95  # of the best rate: more workers than reach this are not worth their memory


def loader(
    videos: Videos, method: str, *, batch: int, workers: list[int], seconds: float, device: str
) -> dict[str, Any]:
    """Time the stages, and the loader with each number of `workers`."""
    plan, place = plan_of(method), device_of(device)
    stages = _stages(videos, plan, batch, place, seconds)
    sweep = [_rate(videos, plan, batch, number, seconds, place) for number in workers]
    facts = {
        "method": method,
        "videos": len(videos),
        "batch": batch,
        "clips": plan.views,
        "device": name_of(place),
        "processors": processors(),
        "stages_ms": {name: round(stages[name] * 1e3, 3) for name in STAGES if name in stages},
        "read_mb_per_s": round(stages["bytes"] / stages["read"] / 1e6),
        "first_read_ms": round(stages["first read"] * 1e3, 3),
        "frames_decoded": round(stages["frames"], 1),
        "sweep": sweep,
    }
    facts["bottleneck"] = _bottleneck(facts)
    return facts | {"advice": _advice(facts)}


def plan_of(word: str) -> Plan:
    """Return the plan of a method's default config, or the plan of fine-tuning or of a test."""
    if word in OTHER_PLANS:
        return OTHER_PLANS[word]()
    if ":" not in word and word not in registry.names():
        there = [name for name, entry in METHODS.items() if not entry.learns_from_labels]  # these clips are finetune's
        raise UsageError(f"no clips of '{word}'; there are {', '.join([*there, *OTHER_PLANS])}")
    return registry.named(word).config().plan()


def read_workers(text: str) -> list[int]:
    """The numbers of workers to try; by default 0, 1, 2, 4, ... up to the processors there are."""
    if text:
        try:
            return [int(word) for word in text.split(",")]
        except ValueError:
            raise UsageError(f"--workers is '{text}'; write numbers with commas, as in 0,1,4") from None
    most = processors()
    return sorted({0, most, *(1 << power for power in range(most.bit_length()))} - {1 << most.bit_length()})


def _stages(videos: Videos, plan: Plan, batch: int, device: torch.device, seconds: float) -> dict[str, float]:
    """Seconds a sample spends in each stage; also bytes that are read and frames that are decoded."""
    sampler, order, augment = Sampler(videos, plan, 0), Order(videos.shard, 0), Augment(plan.looks)
    shape = (batch, plan.views, plan.length, *sampler.canvas, 3)
    pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    taken: dict[str, list[float]] = {}
    end = time.perf_counter() + seconds
    for begin in range(ROUNDS):
        if begin and time.perf_counter() > end:
            break
        drawn = [order.at(begin * batch + number) for number in range(batch)]
        with _timed(taken, "plan"):
            samples = [sampler.plan(epoch, row) for epoch, row in drawn]
        for name in ("first read", "read"):
            with _timed(taken, name):
                located = [sampler.locate(planned) for planned in samples]
                for one in located:
                    sampler.read(one)
        jpegs = [[(frame, jpeg.copy()) for frame, jpeg in sampler.read(one)] for one in located]
        with _timed(taken, "decode"):
            for _, jpeg in (one for some in jpegs for one in some):
                cv2.imdecode(jpeg, FLAGS)
        with _timed(taken, "fill"):
            for planned, some, places in zip(samples, jpegs, pixels.numpy(), strict=True):
                sampler.fill(planned, some, places)
        with _timed(taken, "collate"):
            made = batch_of(pixels, [facts_of(samples, [True] * batch)], [], 0)
        with _timed(taken, "transfer", device):
            made = made.to(device)
        with _timed(taken, "augment", device):
            augment(made.clips, made.draws)
        taken.setdefault("bytes", []).append(sum(len(jpeg) for some in jpegs for _, jpeg in some))
        taken.setdefault("frames", []).append(sum(map(len, jpegs)))
    stages = {name: median(values) / batch for name, values in taken.items()}
    stages["assemble"] = max(0.0, stages.pop("fill") - stages["decode"])
    if device.type == "cpu":
        del stages["transfer"]
    return stages


@contextmanager
def _timed(taken: dict[str, list[float]], name: str, device: torch.device | None = None) -> Iterator[None]:
    wait_for(device)
    began = time.perf_counter()
    yield
    wait_for(device)
    taken.setdefault(name, []).append(time.perf_counter() - began)


def wait_for(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def _rate(
    videos: Videos, plan: Plan, batch: int, workers: int, seconds: float, device: torch.device
) -> dict[str, float]:
    """Samples a second of a whole loader, from its second batch on."""
    made, began, first = 0, time.perf_counter(), None
    for one in Loader(videos, plan, batch=batch, workers=workers, device=device):
        now = time.perf_counter()
        if first is None:
            first, began = now - began, now
            continue
        made += len(one)
        if now - began > seconds:
            break
    rate = made / (now - began)
    return {
        "workers": workers,
        "samples_per_s": round(rate, 1),
        "clips_per_s": round(rate * plan.views, 1),
        "per_core": round(rate / max(1, workers), 1),
        "first_batch_s": round(first or 0.0, 2),
    }


def _bottleneck(facts: dict[str, Any]) -> str:
    """The stage that takes most of a worker's time, or the device's part when that is slower than all workers."""
    stages = facts["stages_ms"]
    here = {name: stages[name] for name in ("plan", "read", "decode", "assemble", "collate")}
    best = max(row["samples_per_s"] for row in facts["sweep"])
    beyond = {name: stages[name] for name in ("transfer", "augment") if name in stages}
    slow = [name for name, cost in beyond.items() if cost * best > 1e3]
    return slow[0] if slow else max(here, key=lambda name: here[name])


def _advice(facts: dict[str, Any]) -> list[str]:
    rows, stages = facts["sweep"], facts["stages_ms"]
    best = max(row["samples_per_s"] for row in rows)
    fewest = next(row for row in rows if row["samples_per_s"] >= ENOUGH * best)
    said = f"workers={fewest['workers']} gives {fewest['clips_per_s']} clips/s"
    most = max(row["workers"] for row in rows)
    if fewest["workers"] < most:
        lines = [f"{said}; more do not add to it here"]
    elif most < facts["processors"]:
        lines = [f"{said}, and more may give more: try them with --workers"]
    else:
        lines = [f"{said}, with all processors"]
    if facts["bottleneck"] == "decode":
        lines.append(f"decoding is {stages['decode'] / _work(stages):.0%} of a worker's time: only processors help")
    if facts["bottleneck"] == "read":
        lines.append(f"reading is slowest, at {facts['read_mb_per_s']} MB/s: move the shards to a faster disk")
    if facts["first_read_ms"] > 3 * stages["read"]:
        lines.append("the first read of a video takes much longer than the next: the disk is slower than memory")
    if facts["bottleneck"] in ("transfer", "augment"):
        lines.append(f"the device's {facts['bottleneck']} is slower than the workers: more of them do not help")
    if "transfer" not in stages:
        lines.append("there is no GPU in this run: augmentation takes processors from the workers")
    return lines


def _work(stages: dict[str, float]) -> float:
    return sum(stages[name] for name in ("plan", "read", "decode", "assemble", "collate"))


def device_of(word: str) -> torch.device:
    try:
        device = torch.device(word or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise UsageError(f"--device is '{word}'; there are cpu and cuda") from None
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise UsageError(f"--device is '{word}', and this machine has none that torch {torch.__version__} can use")
    return device


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def as_table(facts: dict[str, Any]) -> Group:
    """The same for people."""
    stages = Table("stage", "ms per sample", "share", title=f"{facts['method']}, batches of {facts['batch']}")
    whole = sum(facts["stages_ms"].values())
    for name, cost in facts["stages_ms"].items():
        stages.add_row(name, f"{cost:.3f}", f"{cost / whole:.0%}")
    sweep = Table("workers", "samples/s", "clips/s", "samples/s per worker", "first batch")
    for row in facts["sweep"]:
        rate, clips, core = (f"{row[name]:.1f}" for name in ("samples_per_s", "clips_per_s", "per_core"))
        sweep.add_row(str(row["workers"]), rate, clips, core, f"{row['first_batch_s']:.2f} s")
    frames, speed = facts["frames_decoded"], facts["read_mb_per_s"]
    where = f"{facts['processors']} processors, {facts['device']}; {frames} frames a sample, read at {speed} MB/s"
    said = [f"bottleneck: {facts['bottleneck']}", *facts["advice"]]
    return Group(Text(where), stages, sweep, *map(Text, said))
