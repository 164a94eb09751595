"""Phase `fed` of gpu.py: how fast RSPNet with R(2+1)D trains from shards, and what it waits for.

Beside it: the same steps on a batch that stays on the device, and the steps as published code computes them. Then the
loader alone with more and more workers, which says how many processors one GPU needs; and how long the GPU is idle.
"""

from dataclasses import replace

import torch
from torch.autograd.profiler_util import FunctionEvent

from gpu_fast import kind_of
from gpu_results import Results, words_of_phase
from gpu_videos import made_set
from prep import Row
from train import of_shards, of_step
from vtrain.bench import step
from vtrain.bench.loader import Measured
from vtrain.bench.timing import time_loader, time_training
from vtrain.data.dataset import Videos
from vtrain.data.shard_set import ShardSet
from vtrain.machine import default_workers, processors
from vtrain.overrides import change
from vtrain.recipes import find
from vtrain.recipes.recipe import Recipe
from vtrain.training.processes import training_settings
from vtrain.training.train import make
from vtrain.training.training import feed_of, place_of

SECONDS, TURNS = 3.0, 1
IDLE_SECONDS = 1.5


def recipe_of(small: bool) -> Recipe:
    if small:
        return change(find("rspnet", "tiny", None), ["batch=4", "frames=4", "size=16", "queue=16"])
    return change(find("rspnet", "released", "r2plus1d"), ["batch=64"])


def sweep(recipe: Recipe, videos: Videos, device: torch.device, seconds: float) -> list[tuple[int, float]]:
    """Return the videos per second of the loader alone, by its number of workers."""
    rates = []
    for workers in sorted({max(1, default_workers(device) // part) for part in (4, 2, 1)}):
        place = place_of(replace(recipe, workers=workers), device)
        per_batch, _ = time_loader(feed_of(recipe, videos, None, place).loader, device, workers, seconds)
        rates.append((workers, recipe.batch / per_batch))
    return rates


def on_workers(rates: list[tuple[int, float]], model: float) -> list[Row]:
    """Return the rows about workers; `model` is how many videos per second the model alone takes."""
    rows = [Row(f"loader alone, workers={workers}", rate, "videos/s") for workers, rate in rates]
    needed = model / max(rate / workers for workers, rate in rates)
    return [*rows, Row("workers that keep up with the model", needed), Row("processors here", processors())]


def on_gpu(recipe: Recipe, videos: Videos, device: torch.device, seconds: float) -> list[FunctionEvent]:
    """Return what the GPU computes and copies in a training from shards."""
    place = place_of(recipe, device)
    with training_settings(device):
        run, feed = make(recipe, place), feed_of(recipe, videos, None, place)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
            time_training(run, feed.loader, recipe, place, seconds)
    return [event for event in found.events() if event.device_type == torch.autograd.DeviceType.CUDA]


def by_kind(events: list[FunctionEvent]) -> dict[str, float]:
    """Return the share of each kind of kernel in the time of all kernels."""
    spent: dict[str, float] = {}
    for event in events:
        kind = kind_of(event.name)
        spent[kind] = spent.get(kind, 0.0) + event.time_range.elapsed_us()
    return {kind: time / sum(spent.values()) for kind, time in sorted(spent.items(), key=lambda one: -one[1])}


def busy(events: list[FunctionEvent]) -> float:
    """Return the share of the time, in the second half of the events' span, in which at least one of them lasts."""
    spans = sorted((event.time_range.start, event.time_range.end) for event in events)
    half = (spans[0][0] + spans[-1][1]) / 2  # before it, kernels are chosen
    covered, at = 0.0, half
    for begin, end in spans:
        covered += max(0.0, end - max(begin, at))
        at = max(at, end)
    return covered / (at - half)


def add(results: Results, rows: list[Row]) -> None:
    for row in rows:
        goal = "" if row.least is None else f">= {row.least:g}"
        results.add("fed", measured=row.what, value=row.value, unit=row.unit, goal=goal, met=row.met)


def main() -> None:
    words = words_of_phase()
    results, device = Results(words.out), torch.device(words.device)
    results.forget("fed")
    seconds, turns = (0.1, 1) if words.small else (SECONDS, TURNS)
    recipe = recipe_of(words.small)
    videos = ShardSet.open(str(made_set(words.work, words.small, words.clips))).select()
    measured: list[Measured] = []
    for _ in range(turns):
        measured.append(step.all(recipe, videos, workers=None, seconds=seconds, device=words.device))
        print(measured[-1])
    add(results, of_shards(measured))
    if device.type == "cuda":
        events = on_gpu(recipe, videos, device, IDLE_SECONDS)
        add(results, [Row("the GPU is idle, share of the time", 1 - busy(events), most=0.05)])
        add(results, [Row(f"share of the kernels: {kind}", share) for kind, share in by_kind(events).items()])
    add(results, on_workers(sweep(recipe, videos, device, seconds / 2), measured[-1]["model"]["videos_per_s"]))
    alone = step.step(recipe, seconds=seconds, device=words.device)
    print(alone)
    add(results, of_step(alone))


if __name__ == "__main__":
    main()
