"""What a training step takes here: the model alone, on clips that are on the device already, and fed from shards.

What is timed as a whole is the trainer's own loop. `step` needs no shards, and `all` tells who waits for whom.

M clips   C channels   T frames   H height   W width
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vtrain.backbones import Backbone
from vtrain.backbones.conv import use_kernels
from vtrain.bench.loader import device_of, name_of
from vtrain.bench.report import advice_on_both, advice_on_model, bottleneck
from vtrain.bench.report import as_table as as_table
from vtrain.bench.timing import in_parts, loader_alone, speed, timed
from vtrain.data.batch import Batch, batch_of, sample_info
from vtrain.data.dataset import Videos
from vtrain.data.sampler import Sampler
from vtrain.machine import default_workers, processors
from vtrain.recipes.recipe import Recipe, for_classes
from vtrain.training.monitor import memory_mb
from vtrain.training.run import Place, Run
from vtrain.training.train import make
from vtrain.training.training import feed_of, precision_of

Facts = dict[str, Any]
CLASSES = 400  # of labels, where there are no videos to tell
FRAMES = 300  # of the videos that are made up: enough for the clips of every recipe
STORED = (128, 171)  # pixels of a frame, at least
MARGIN = 128 / 112  # height of a frame to side of a clip
LEAST_ROUNDS, MOST_ROUNDS = 3, 50  # of a step taken apart; the median counts


def step(recipe: Recipe, *, seconds: float, device: str) -> Facts:
    """Time the model alone, on random pixels, against its backbone alone; on a GPU also without what makes it fast."""
    place = _place(recipe, device, 0)
    recipe = for_classes(recipe, CLASSES)
    batch = random_batch(recipe, place.device)
    run = make(recipe, place)
    clips_MCTHW, operations = _counted(run, batch, recipe, place)
    model = _model(run, batch, recipe, place, seconds)
    bare = _bare(run, clips_MCTHW, recipe, place, _rounds(seconds, model))
    facts = _heading(recipe, place) | {
        "model": model,
        "tflop_per_s": round(operations / model["step_ms"] / 1e9, 4),
        "bare": bare,
        "over_bare": round(model["step_ms"] / bare["ms"], 3),
    }
    del run, clips_MCTHW
    if place.device.type == "cuda":
        torch.cuda.empty_cache()
        facts["as_authors"] = _as_authors(recipe, batch, place, seconds, model["videos_per_s"])
    return facts | {"advice": advice_on_model(facts)}


def all(recipe: Recipe, videos: Videos, *, workers: int | None, seconds: float, device: str) -> Facts:
    """Time the model alone, the loader alone, and both together; without `workers` there are as many as in training."""
    place = _place(recipe, device, workers)
    recipe = for_classes(recipe, len(videos.classes or ()))
    at_a_time = recipe.at_a_time(1)
    batch = next(iter(feed_of(recipe, videos, None, replace(place, workers=0)).loader))
    run = make(recipe, place)
    model = _model(run, batch, recipe, place, seconds)
    del batch
    loader = loader_alone(feed_of(recipe, videos, None, place).loader, place, seconds)
    together, waited = speed(run, feed_of(recipe, videos, None, place).loader, recipe, place, seconds)
    rates = {"loader": at_a_time / loader, "together": recipe.batch / together}
    facts = _heading(recipe, place) | {"videos": len(videos), "workers": place.workers, "processors": processors()}
    facts |= {"model": model} | {name: _rates(recipe, rate) for name, rate in rates.items()}
    facts["together"]["waited"] = round(waited, 3)
    facts["ratio"] = round(rates["together"] / min(model["videos_per_s"], rates["loader"]), 3)
    facts["bottleneck"] = bottleneck(facts)
    return facts | {"advice": advice_on_both(facts)}


def random_batch(recipe: Recipe, device: torch.device) -> Batch:
    """What the loader would hand over at a time, with noise for pixels."""
    plan, count = recipe.method.plan(), recipe.at_a_time(1)
    height = max(STORED[0], round(MARGIN * max(look.crop_size or look.size for look in plan.looks)))
    numbers = {"shard": 0, "offset": 0, "frames": FRAMES, "label": 0, "fps": 25}
    numbers |= {"height": height, "width": round(height / STORED[0] * STORED[1])}
    columns = {name: np.full(count, number) for name, number in numbers.items()}
    keys = pa.array([str(row) for row in range(count)])
    videos = Videos(paths=[], sizes=[], keys=keys, classes=None, frame_index=None, **columns)
    sampler = Sampler(videos, plan, recipe.seed)
    samples = [sampler.plan(0, row) for row in range(count)]
    shape = (count, plan.views, plan.length, *sampler.canvas, 3)
    pixels = torch.randint(256, shape, dtype=torch.uint8, device=device)
    return batch_of(pixels, [sample_info(samples, [True] * count)], [], 0).to(device)


def _model(run: Run, batch: Batch, recipe: Recipe, place: Place, seconds: float) -> Facts:
    """The trainer's loop on one batch again and again, and what its step consists of."""
    if place.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place.device)
    taken, _ = speed(run, repeat(batch), recipe, place, seconds)
    facts = {**_rates(recipe, recipe.batch / taken), "step_ms": taken * 1e3, "memory_mb": memory_mb(place.device)}
    parts = timed(partial(in_parts, run, batch, recipe, place), _rounds(seconds, facts), place.device)
    return {**facts, "step_ms": round(taken * 1e3, 3), "parts_ms": {name: round(ms, 3) for name, ms in parts.items()}}


def _counted(run: Run, batch: Batch, recipe: Recipe, place: Place) -> tuple[Tensor, int]:
    """The clips that the backbone gets gradients of in one part of a step, as noise [M, C, T, H, W]; and how many
    operations a step has, a multiplication with its addition counting as two."""
    shapes: list[torch.Size] = []

    def note(net: nn.Module, args: tuple[Tensor]) -> None:
        if torch.is_grad_enabled():
            shapes.append(args[0].shape)

    hook = run.method.backbone.register_forward_pre_hook(note)
    run.module.train()
    eager = torch.compiler.set_stance("force_eager") if recipe.compile == "yes" else nullcontext()
    with eager, FlopCounterMode(display=False) as counter:
        for _ in in_parts(run, batch, recipe, place):
            pass
    hook.remove()
    count = sum(shape[0] for shape in shapes) // recipe.accumulate
    clips_MCTHW = torch.randn(count, *shapes[0][1:], device=place.device)
    return clips_MCTHW.contiguous(memory_format=torch.channels_last_3d), counter.get_total_flops()


def _bare(run: Run, clips_MCTHW: Tensor, recipe: Recipe, place: Place, rounds: int) -> Facts:
    """Forward and backward of the backbone without a method, on as many clips as the method learns from in a step."""
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

    timed(in_parts, 1, place.device)
    spent = sum(timed(in_parts, rounds, place.device).values())
    return {"clips": len(clips_MCTHW) * recipe.accumulate, "ms": round(spent, 3)}


def _as_authors(recipe: Recipe, batch: Batch, place: Place, seconds: float, ours: float) -> Facts | None:
    """The same method as published code runs it: float32 (TF32 where torch has it so by itself), channels first,
    nothing compiled, 3D kernels; with cuDNN's choice of kernels, and with its search. None: memory is too small."""
    plain = Place(place.device, torch.float32, 0)
    facts: Facts = {}
    try:
        run = channels_first(make(replace(recipe, compile="no"), plain))
        for name, search in (("cudnn_default", False), ("cudnn_benchmark", True)):
            torch.backends.cudnn.benchmark = search
            taken, _ = speed(run, repeat(batch), recipe, plain, seconds)
            facts[name] = _rates(recipe, recipe.batch / taken) | {"times": round(ours * taken / recipe.batch, 2)}
    except torch.OutOfMemoryError:
        return facts or None
    finally:
        torch.backends.cudnn.benchmark = True
    return facts


def channels_first(run: Run) -> Run:
    """The same with weights and clips in torch's own layout, and no kernel through another one."""
    run.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    use_kernels(run.module, "3d")
    for module in run.module.modules():
        if isinstance(module, Backbone):  # methods hand over their clips in channels-last
            module.register_forward_pre_hook(lambda net, args: (args[0].contiguous(),))
    return run


def _place(recipe: Recipe, device: str, workers: int | None) -> Place:
    where = device_of(device)
    workers = recipe.workers if workers is None else workers
    return Place(where, precision_of(recipe, where), default_workers(where) if workers is None else workers)


def _rounds(seconds: float, model: Facts) -> int:
    return max(LEAST_ROUNDS, min(MOST_ROUNDS, int(seconds * 1e3 / model["step_ms"])))


def _rates(recipe: Recipe, videos_per_s: float) -> Facts:
    plan = recipe.method.plan()
    clips_per_s = videos_per_s * plan.views * plan.looks[0].crops
    return {"videos_per_s": round(videos_per_s, 3), "clips_per_s": round(clips_per_s, 3)}


def _heading(recipe: Recipe, place: Place) -> Facts:
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
