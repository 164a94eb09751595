"""Measure a training step on this machine: on clips that are on the device already, and fed from shards.

Complete steps are timed in the trainer's own loop. `step` needs no shards; `all` finds which side is the slower one.

M clips   C channels   T frames   H height   W width
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vtrain.backbones import Backbone
from vtrain.backbones.batch_norm import use_fused
from vtrain.backbones.conv import use_kernels
from vtrain.bench.loader import Measured
from vtrain.bench.report import advice_on_both, advice_on_model, bottleneck
from vtrain.bench.report import as_table as as_table
from vtrain.bench.timing import step_in_parts, time_loader, time_parts, time_training
from vtrain.data.augment.apply import Augment
from vtrain.data.batch import Batch, batch_of, sample_info
from vtrain.data.dataset import Videos
from vtrain.data.sampler import Sampler
from vtrain.data.sampling import Plan
from vtrain.machine import device_named, name_of, processors
from vtrain.recipes.recipe import Recipe, for_classes
from vtrain.training.log import note
from vtrain.training.memory_estimate import demand_memory
from vtrain.training.monitor import memory_mb
from vtrain.training.processes import training_settings
from vtrain.training.run import Place, Run
from vtrain.training.train import make, module_of
from vtrain.training.training import feed_of, place_of

CLASSES = 400  # when there are no videos to count them
FRAMES = 300  # of an imagined video: enough for the clips of every recipe
STORED = (128, 171)  # least height and width of a frame in pixels
MARGIN = 128 / 112  # height of a frame / side of a clip
LEAST_ROUNDS, MOST_ROUNDS = 3, 50  # of a step in parts; the median counts


def step(recipe: Recipe, *, seconds: float, device: str) -> Measured:
    """Time the model on random pixels, beside its backbone alone. On a GPU, time it as published code runs it, too."""
    place = _place(recipe, device, 0)
    recipe = for_classes(recipe, CLASSES)
    note(demand_memory(recipe, _imagined(recipe.method.plan(), 1), place, 1, module_of))
    with training_settings(place.device):
        batch = random_batch(recipe, place.device)
        run = made(recipe, place)
        clips_MCTHW, operations = _counted(run, batch, recipe, place)
        model = _model(run, batch, recipe, place, seconds)
        bare = _bare(run, clips_MCTHW, recipe, place, _rounds(seconds, model["step_ms"]))
        measured = _heading(recipe, place) | {
            "model": model,
            "tflop_per_s": round(operations / model["step_ms"] / 1e9, 4),
            "bare": bare,
            "over_bare": round(model["step_ms"] / bare["ms"], 3),
        }
        del run, clips_MCTHW
        if place.device.type == "cuda":
            torch.cuda.empty_cache()
            measured["as_authors"] = _as_authors(recipe, batch, place, seconds, model["videos_per_s"])
    return measured | {"advice": advice_on_model(measured)}


def all(recipe: Recipe, videos: Videos, *, workers: int | None, seconds: float, device: str) -> Measured:
    """Time the model alone, the loader alone, and both together. `workers` None: as many as in training."""
    place = _place(recipe, device, workers)
    recipe = for_classes(recipe, len(videos.classes or ()))
    note(demand_memory(recipe, videos, place, 1, module_of))
    batch = next(iter(feed_of(recipe, videos, None, replace(place, workers=0)).loader))
    with training_settings(place.device):
        run = made(recipe, place)
        model = _model(run, batch, recipe, place, seconds)
        del batch
        loader, _ = time_loader(feed_of(recipe, videos, None, place).loader, place.device, place.workers, seconds)
        feed = feed_of(recipe, videos, run, place)
        together, waited = time_training(run, feed.loader, recipe, place, seconds)
    rates = {"loader": recipe.at_a_time(1) / loader, "together": recipe.batch / together}
    measured = _heading(recipe, place) | {"videos": len(videos), "workers": place.workers, "processors": processors()}
    measured |= {"model": model} | {name: _rates(recipe, rate) for name, rate in rates.items()}
    measured["together"]["waited"] = round(waited, 3)
    measured["ratio"] = round(rates["together"] / min(model["videos_per_s"], rates["loader"]), 3)
    measured["bottleneck"] = bottleneck(measured)
    return measured | {"advice": advice_on_both(measured)}


def random_batch(recipe: Recipe, device: torch.device) -> Batch:
    """Return a batch like the loader's, with noise for pixels."""
    return _noise(recipe.method.plan(), recipe, device)


def _imagined(plan: Plan, count: int) -> Videos:
    """Return so many videos that cannot be read, with frames as large as the plan's clips need."""
    height = max(STORED[0], round(MARGIN * max(config.crop_size or config.size for config in plan.looks)))
    numbers = {"shard": 0, "offset": 0, "frames": FRAMES, "label": 0, "fps": 25}
    numbers |= {"height": height, "width": round(height / STORED[0] * STORED[1])}
    columns = {name: np.full(count, number) for name, number in numbers.items()}
    keys = pa.array([str(row) for row in range(count)])
    return Videos(paths=[], sizes=[], keys=keys, classes=None, frame_index=None, remote=None, **columns)


def _noise(plan: Plan, recipe: Recipe, device: torch.device) -> Batch:
    count = recipe.at_a_time(1)
    videos = _imagined(plan, count)
    sampler = Sampler(videos, plan, recipe.seed)
    samples = [sampler.plan(0, row) for row in range(count)]
    shape = (count, plan.views, plan.length, *sampler.canvas, 3)
    pixels = torch.randint(256, shape, dtype=torch.uint8, device=device)
    return batch_of(pixels, [sample_info(samples, [True] * count)], [], 0).to(device)


class NoiseFetch:
    """Gives noise for the clips that a method asks for within a step, and augments it as clips are augmented."""

    def __init__(self, plan: Plan, recipe: Recipe, device: torch.device) -> None:
        self.videos = recipe.at_a_time(1)
        self._batch, self._augment = _noise(plan, recipe, device), Augment(plan.looks)

    def __call__(self, row_B: Tensor, speed_B: Tensor) -> "NoiseFetch":
        return self

    def clips(self) -> tuple[Tensor, Tensor]:
        return self._augment(self._batch.clips, self._batch.augmentation), self._batch.valid


def made(recipe: Recipe, place: Place) -> Run:
    """Return the training's run, which reads nothing within a step."""
    run = make(recipe, place)
    for plan in list(getattr(run.module, "fetched", {}).values())[:1]:
        cast(Any, run.module).fetch = NoiseFetch(plan, recipe, place.device)
    return run


def _model(run: Run, batch: Batch, recipe: Recipe, place: Place, seconds: float) -> Measured:
    """Time the trainer's loop on the same batch again and again, and the parts of its step."""
    if place.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place.device)
    per_step, _ = time_training(run, repeat(batch), recipe, place, seconds)
    model = {
        **_rates(recipe, recipe.batch / per_step),
        "step_ms": round(per_step * 1e3, 3),
        "memory_mb": memory_mb(place.device),
    }
    parts = time_parts(
        partial(step_in_parts, run, batch, recipe, place), place.device, _rounds(seconds, per_step * 1e3)
    )
    return model | {"parts_ms": {name: round(ms, 3) for name, ms in parts.items()}}


def _counted(run: Run, batch: Batch, recipe: Recipe, place: Place) -> tuple[Tensor, int]:
    """Return noise like the clips of one part of a step that gradients come from, and the operations of a step.

    The noise is [M, C, T, H, W]. A multiplication with its addition counts as two operations.
    """
    shapes: list[torch.Size] = []

    def note(net: nn.Module, args: tuple[Tensor]) -> None:
        if torch.is_grad_enabled():
            shapes.append(args[0].shape)

    hook = run.method.backbone.register_forward_pre_hook(note)
    run.module.train()
    use_fused(run.module, False)  # its padding would count as operations
    eager = torch.compiler.set_stance("force_eager") if recipe.compile == "yes" else nullcontext()
    with eager, FlopCounterMode(display=False) as counter:
        for _ in step_in_parts(run, batch, recipe, place):
            pass
    hook.remove()
    use_fused(run.module, True)
    count = sum(shape[0] for shape in shapes) // recipe.accumulate
    clips_MCTHW = torch.randn(count, *shapes[0][1:], device=place.device)
    return clips_MCTHW.contiguous(memory_format=torch.channels_last_3d), counter.get_total_flops()


def _bare(run: Run, clips_MCTHW: Tensor, recipe: Recipe, place: Place, rounds: int) -> Measured:
    """Time forward and backward of the backbone alone, on as many clips as the method learns from in a step."""
    backbone = run.method.backbone
    net = torch.compile(backbone, dynamic=False) if recipe.compile == "yes" else backbone

    def in_parts() -> Iterator[str]:
        for _ in range(recipe.accumulate):
            with place.autocast():
                map_MCTHW = net(clips_MCTHW)
            yield "forward"
            map_MCTHW.float().mean().backward()
            yield "backward"
        backbone.zero_grad(set_to_none=True)

    time_parts(in_parts, place.device, 1)  # kernels are chosen or compiled
    ms = sum(time_parts(in_parts, place.device, rounds).values())
    return {"clips": len(clips_MCTHW) * recipe.accumulate, "ms": round(ms, 3)}


def _as_authors(recipe: Recipe, batch: Batch, place: Place, seconds: float, ours: float) -> Measured | None:
    """Time the method as published code runs it, and how many times as fast `ours` is; None when memory is too small.

    Published code runs in float32 (TF32 where torch uses it by default), channels first, not compiled and with 3D
    kernels. It is timed once with cuDNN's choice of kernels and once with its search.
    """
    plain, before = Place(place.device, torch.float32, 0), torch.backends.cudnn.benchmark
    measured: Measured = {}
    try:
        run = channels_first(made(replace(recipe, compile="no"), plain))
        for name, search in (("cudnn_default", False), ("cudnn_benchmark", True)):
            torch.backends.cudnn.benchmark = search
            per_step, _ = time_training(run, repeat(batch), recipe, plain, seconds)
            times = {"times": round(ours * per_step / recipe.batch, 2)}
            measured[name] = _rates(recipe, recipe.batch / per_step) | times
    except torch.OutOfMemoryError:
        return measured or None
    finally:
        torch.backends.cudnn.benchmark = before
    return measured


def channels_first(run: Run) -> Run:
    """Give weights and clips torch's default layout, and convolutions their 3D kernels; return the same run."""
    run.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    use_kernels(run.module, "3d")
    for module in run.module.modules():
        if isinstance(module, Backbone):  # methods pass their clips in channels-last
            module.register_forward_pre_hook(lambda net, args: (args[0].contiguous(),))
    return run


def _place(recipe: Recipe, device: str, workers: int | None) -> Place:
    """Return device, precision and workers of a training by this recipe; `workers` None: the recipe's."""
    return place_of(recipe if workers is None else replace(recipe, workers=workers), device_named(device))


def _rounds(seconds: float, step_ms: float) -> int:
    return max(LEAST_ROUNDS, min(MOST_ROUNDS, int(seconds * 1e3 / step_ms)))


def _rates(recipe: Recipe, videos_per_s: float) -> Measured:
    plan = recipe.method.plan()
    clips_per_s = videos_per_s * plan.views * plan.looks[0].crops
    return {"videos_per_s": round(videos_per_s, 3), "clips_per_s": round(clips_per_s, 3)}


def _heading(recipe: Recipe, place: Place) -> Measured:
    return {
        "recipe": recipe.name,
        "method": recipe.method_name,
        "backbone": recipe.backbone,
        "clip": list(recipe.clip),
        "batch": recipe.batch,
        "accumulate": recipe.accumulate,
        "device": name_of(place.device),
        "precision": "float32" if place.precision == torch.float32 else "bf16",
        "compile": recipe.compile,
    }
