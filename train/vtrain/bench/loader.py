"""Measure the time of the loader's stages on this machine and these shards.

Each stage is timed alone, in this process and on the same samples. Then complete loaders are timed with more and more
workers.
"""

from collections.abc import Iterator
from itertools import count
from statistics import median
from typing import Any

import cv2
import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from vtrain.bench.options import plan_of
from vtrain.bench.timing import time_loader, time_parts
from vtrain.data.augment.apply import Augment
from vtrain.data.batch import batch_of, sample_info
from vtrain.data.buffers import Buffers
from vtrain.data.dataset import Videos
from vtrain.data.loader import Loader
from vtrain.data.order import Order
from vtrain.data.sampler import FLAGS, Sampler, canvas_of
from vtrain.data.sampling import Plan
from vtrain.machine import device_named, name_of, processors

IN_WORKERS = ("plan", "read", "decode", "assemble", "collate")  # stages that run in the workers
ON_DEVICE = ("transfer", "augment")
ROUNDS = 9  # of the stages, if time allows; the median counts
ENOUGH = 0.95  # of the best rate: more workers than this needs are not worth their memory
Measured = dict[str, Any]  # numbers by name, as --json prints them


def loader(videos: Videos, method: str, *, batch: int, workers: list[int], seconds: float, device: str) -> Measured:
    """Time the stages, and the loader with each number of `workers`."""
    plan, target = plan_of(method), device_named(device)
    Buffers(batch, (plan.views, plan.length, *canvas_of(plan, videos.frame_sizes), 3), 0).demand_memory()
    stages, extra = _stages(videos, plan, batch, target, seconds)
    measured: Measured = {
        "method": method,
        "videos": len(videos),
        "batch": batch,
        "clips": plan.views,
        "device": name_of(target),
        "processors": processors(),
        "stages_ms": {name: round(ms, 3) for name, ms in stages.items()},
        **extra,
        "sweep": [_rate(videos, plan, batch, number, seconds, target) for number in workers],
    }
    measured["bottleneck"] = _bottleneck(measured)
    return measured | {"advice": _advice(measured)}


def _stages(
    videos: Videos, plan: Plan, batch: int, device: torch.device, seconds: float
) -> tuple[dict[str, float], Measured]:
    """Return the milliseconds of a sample in each stage; and the speed of reading and the number of decoded frames."""
    sampler, order, augment = Sampler(videos, plan, 0), Order(videos.shard, 0), Augment(plan.looks)
    shape = (batch, plan.views, plan.length, *sampler.canvas, 3)
    pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    first = count(step=batch)  # number of the first sample of each round
    size: list[tuple[int, int]] = []  # bytes and frames of each round

    def in_parts() -> Iterator[str]:
        begin = next(first)
        drawn = [order.at(begin + number) for number in range(batch)]
        yield "order"
        samples = [sampler.plan(epoch, row) for epoch, row in drawn]
        yield "plan"
        for name in ("first read", "read"):
            located = [sampler.locate(planned) for planned in samples]
            for where in located:
                sampler.read(where)
            yield name
        jpegs = [[(frame, jpeg.copy()) for frame, jpeg in sampler.read(where)] for where in located]
        size.append((sum(len(jpeg) for frames in jpegs for _, jpeg in frames), sum(map(len, jpegs))))
        yield "copy"
        for _, jpeg in (frame for frames in jpegs for frame in frames):
            cv2.imdecode(jpeg, FLAGS)
        yield "decode"
        for planned, frames, clips in zip(samples, jpegs, pixels.numpy(), strict=True):
            sampler.fill(planned, frames, clips)
        yield "fill"
        collated = batch_of(pixels, [sample_info(samples, [True] * batch)], [], 0)
        yield "collate"
        sent = collated.to(device)
        yield "transfer"
        augment(sent.clips, sent.augmentation)
        yield "augment"

    ms = {name: spent / batch for name, spent in time_parts(in_parts, device, ROUNDS, seconds).items()}
    ms["assemble"] = max(0.0, ms["fill"] - ms["decode"])
    stages = [*IN_WORKERS, *(name for name in ON_DEVICE if name != "transfer" or device.type != "cpu")]
    bytes_read, frames_decoded = (median(numbers) / batch for numbers in zip(*size, strict=True))
    return {name: ms[name] for name in stages}, {
        "read_mb_per_s": round(bytes_read / ms["read"] / 1e3),
        "first_read_ms": round(ms["first read"], 3),
        "frames_decoded": round(frames_decoded, 1),
    }


def _rate(videos: Videos, plan: Plan, batch: int, workers: int, seconds: float, device: torch.device) -> Measured:
    """Return the speed of a complete loader."""
    opened = Loader(videos, plan, batch=batch, workers=workers, device=device)
    per_batch, first = time_loader(opened, device, workers, seconds)
    rate = batch / per_batch
    return {
        "workers": workers,
        "samples_per_s": round(rate, 1),
        "clips_per_s": round(rate * plan.views, 1),
        "per_core": round(rate / max(1, workers), 1),
        "first_batch_s": round(first, 2),
    }


def _bottleneck(measured: Measured) -> str:
    """Return the slowest stage of a worker, or the device's stage when that is slower than all workers together."""
    stages = measured["stages_ms"]
    best = max(row["samples_per_s"] for row in measured["sweep"])
    slow = [name for name in ON_DEVICE if stages.get(name, 0.0) * best > 1e3]
    return slow[0] if slow else max(IN_WORKERS, key=lambda name: float(stages[name]))


def _advice(measured: Measured) -> list[str]:
    stages, slowest = measured["stages_ms"], measured["bottleneck"]
    lines = [_on_workers(measured["sweep"], measured["processors"])]
    if slowest == "decode":
        share = stages["decode"] / sum(stages[name] for name in IN_WORKERS)
        lines.append(f"decoding takes {share:.0%} of a worker's time: only more processors help")
    if slowest == "read":
        lines.append(f"reading is the slowest stage, at {measured['read_mb_per_s']} MB/s: use a faster disk")
    if measured["first_read_ms"] > 3 * stages["read"]:
        lines.append("the first read of a video takes much longer than the second: the disk is slower than memory")
    if slowest in ON_DEVICE:
        lines.append(f"the device's {slowest} is slower than the workers: more workers do not help")
    if "transfer" not in stages:
        lines.append("this run has no GPU: augmentation takes processors from the workers")
    return lines


def _on_workers(sweep: list[Measured], most: int) -> str:
    """Return how many workers to use; `most` is the number of processors."""
    best = max(row["samples_per_s"] for row in sweep)
    fewest = next(row for row in sweep if row["samples_per_s"] >= ENOUGH * best)
    found = f"workers={fewest['workers']} gives {fewest['clips_per_s']} clips/s"
    tried = max(row["workers"] for row in sweep)
    if fewest["workers"] < tried:
        return f"{found}; more workers are not faster here"
    if tried < most:
        return f"{found}; more workers may be faster: try them with --workers"
    return f"{found}, with a worker for every processor"


def as_table(measured: Measured) -> Group:
    """Return the measurements of `loader` as tables and sentences for people."""
    stages = Table("stage", "ms per sample", "share", title=f"{measured['method']}, batches of {measured['batch']}")
    total = sum(measured["stages_ms"].values())
    for name, cost in measured["stages_ms"].items():
        stages.add_row(name, f"{cost:.3f}", f"{cost / total:.0%}")
    sweep = Table("workers", "samples/s", "clips/s", "samples/s per worker", "first batch")
    for row in measured["sweep"]:
        rate, clips, core = (f"{row[name]:.1f}" for name in ("samples_per_s", "clips_per_s", "per_core"))
        sweep.add_row(str(row["workers"]), rate, clips, core, f"{row['first_batch_s']:.2f} s")
    frames, speed = measured["frames_decoded"], measured["read_mb_per_s"]
    here = (
        f"{measured['processors']} processors, {measured['device']}; {frames} frames per sample, read at {speed} MB/s"
    )
    lines = [f"bottleneck: {measured['bottleneck']}", *measured["advice"]]
    return Group(Text(here), stages, sweep, *map(Text, lines))
