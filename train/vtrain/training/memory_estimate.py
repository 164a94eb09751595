"""Whether a training fits into memory, estimated before its first step and without allocating anything.

A refusal is about a lower bound: what all at once is certainly needed, beyond the memory of the machine or of the GPU.
The estimate for the warning adds what is usual; benchmarks/LOG.md compares both with trainings.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import sqrt
from typing import Any

import torch
from torch import nn

from vprep.errors import UsageError
from vprep.memory import free_memory, memory_with_swap
from vprep.text import byte_size
from vtrain.backbones import settings_of
from vtrain.backbones.batch_norm import make_exact
from vtrain.data.buffers import FITTING, Buffers
from vtrain.data.dataset import Videos
from vtrain.data.sampler import canvas_of
from vtrain.distributed import local_world, world
from vtrain.recipes.recipe import Recipe
from vtrain.training.run import Place
from vtrain.training.shapes import META, Kept, kept_by

Build = Callable[[Recipe], nn.Module]

STATES = {"sgd": 1, "lars": 1, "adamw": 2}  # numbers that an optimiser keeps for each weight
SMALL = 1 / 8  # of the memory: below it, what a step keeps is not looked at
MOST_PARTS = 257  # of a batch that are still proposed
GUESS = 130  # times the bytes of its clips are what R(2+1)D keeps of them
USUAL = 16 << 10  # bytes that a network keeps for backward of each pixel, at most: ten times those of the papers'
PROCESS = 600 << 20  # bytes of a process that has imported everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The bytes that a process of a training needs. Those of a batch are of `videos`, what goes through at once."""

    videos: int
    clips: int  # input of the network
    stored: int  # pixels of the batch as they are stored, in the host's memory
    workers: int  # shared buffers of the loader's workers, in the host's memory
    weights: int = 0  # with those of momentum copies
    learning: int = 0  # gradients, and what the optimiser keeps
    held: int = 0  # other tensors of the method, such as a queue
    fixed: int = 0  # kept for backward, whatever the batch
    kept: int = 0  # kept for backward of the batch

    @property
    def device(self) -> int:
        """Bytes that are certainly needed at once where the network is."""
        return self.weights + self.held + max(self.clips + self.fixed + self.kept, self.learning)

    @property
    def host(self) -> int:
        """Bytes that are certainly needed at once for loading."""
        return self.stored + self.workers

    @property
    def of_batch(self) -> int:
        return self.clips + self.stored + self.kept

    @property
    def usual(self) -> int:
        """Bytes that such a training usually takes on a CPU in all."""
        return sum(getattr(self, field.name) for field in fields(self) if field.name != "videos")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The memory of a machine or a GPU, and its name in messages."""

    bytes: int
    name: str


def demand_memory(recipe: Recipe, videos: Videos, place: Place, steps: int, build: Build) -> str:
    """Refuse a training that cannot fit into memory. Return a warning where it may not; empty otherwise.

    `build` makes the method's module, whose weights take no memory here.
    """
    need = loading(recipe, videos, place, steps)
    memory, share = memory_with_swap(), local_world()
    need = with_network(need, recipe, videos, place, build, memory)
    name = "this machine" if share == 1 else f"each of the {share} processes on this machine"
    of_rank = Capacity(bytes=memory // share, name=name)
    if place.device.type == "cpu":
        demand(recipe, need, need.device + need.host, of_rank)
        return warning((need.usual + PROCESS) * share)
    demand(recipe, need, need.host, of_rank)
    gpu = torch.cuda.get_device_properties(place.device)
    demand(recipe, need, need.device, Capacity(bytes=gpu.total_memory, name=f"the GPU ({gpu.name})"))
    return ""


def loading(recipe: Recipe, videos: Videos, place: Place, steps: int) -> Need:
    """Return what the clips of a training need."""
    plan, count = recipe.method.plan(), recipe.at_a_time(world()) // world()
    pixels = plan.length * plan.looks[0].size ** 2 * 3 * plan.views * plan.looks[0].crops
    shape = (plan.views, plan.length, *canvas_of(plan, videos.frame_sizes), 3)
    buffers = Buffers(count, shape, place.workers)
    return Need(
        videos=count,
        clips=4 * pixels * count,
        stored=buffers.of_batch,
        workers=buffers.of_workers(steps * recipe.accumulate),
    )


def with_network(need: Need, recipe: Recipe, videos: Videos, place: Place, build: Build, memory: int) -> Need:
    """Return the need, with that of the network and of a step."""
    module = on_meta(recipe, build).train()
    if place.device.type == "cpu" or recipe.batch_norm == "own":
        make_exact(module)
    weights = sum(weight.nbytes for weight in module.parameters())
    learned = sum(weight.nbytes for weight in module.parameters() if weight.requires_grad)
    held = sum(buffer.nbytes for buffer in module.buffers())
    states = STATES[recipe.optim.name] if recipe.optim.momentum or recipe.optim.name != "sgd" else 0
    need = replace(need, weights=weights, learning=learned * (1 + states), held=held)
    if need.clips // 4 * USUAL + 16 * need.usual < SMALL * memory:
        return need
    longest = videos[int(videos.frames.argmax())]
    kept = kept_by(module, recipe, longest) or Kept()
    half = 2 if place.precision != torch.float32 else 1  # of float32, which shapes are followed in
    return replace(need, fixed=kept.fixed // half, kept=kept.per_video // half * need.videos)


def on_meta(recipe: Recipe, build: Build) -> nn.Module:
    """Return the module of a method, whose weights take no memory; refuse sizes that cannot even be counted."""
    try:
        with META:
            return build(recipe)
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        name, value, _ = largest_setting(recipe)
        raise UsageError(f"{name}={value} needs tensors of more than 2**63 bytes; set it far lower") from None


def demand(recipe: Recipe, need: Need, bytes_needed: int, capacity: Capacity) -> None:
    """Refuse what needs more than there is, in a sentence with the number that would fit."""
    if bytes_needed <= capacity.bytes:
        return
    parts = {
        about_batch: need.of_batch,
        about_workers: need.workers,
        about_method: need.held,
        about_network: need.weights + need.learning,
    }
    about = max(parts, key=lambda part: parts[part])
    free = int(FITTING * capacity.bytes) - need.usual
    subject, advice = about(recipe, need, free + parts[about])
    there = byte_size(capacity.bytes)
    raise UsageError(
        f"{subject} needs at least {byte_size(bytes_needed)} of memory, and {capacity.name} has {there}; {advice}"
    )


def about_batch(recipe: Recipe, need: Need, left: int) -> tuple[str, str]:
    """Return what needs the memory, and what would fit into the bytes that are `left` for it."""
    parts = world() * recipe.accumulate
    # Of clips whose size is absurd, what is kept of them is not known.
    each = (need.workers + (need.of_batch if need.kept else GUESS * need.clips)) / need.videos
    share = max(0.0, (left + need.workers) / each)
    fitting, shape = int(share), f"clips of {' x '.join(map(str, recipe.clip))}"
    if fitting >= 1:
        further = accumulate(recipe, fitting)
        more = f", or accumulate={further}" if further else ""
        return f"batch={recipe.batch} with {shape}", f"batch={fitting * parts} would fit{more}"
    frames, side, _ = recipe.clip
    smaller = {"looks.size": int(side * sqrt(share)), "frames": int(frames * share)}
    choices = [f"method.sampling.{name}={number}" for name, number in smaller.items() if number >= 1]
    advice = f"with batch={parts}, {' or '.join(choices)} would fit" if choices else "take smaller and shorter clips"
    return f"even one video with {shape}", advice


def accumulate(recipe: Recipe, fitting: int) -> int:
    """Return the least number of parts with at most `fitting` videos each; 0 where there is none."""
    share = recipe.batch // world()
    first = -(-share // fitting)
    return next((parts for parts in range(first, MOST_PARTS) if share % parts == 0), 0)


def about_workers(recipe: Recipe, need: Need, left: int) -> tuple[str, str]:
    fitting = left * (recipe.workers or 1) // need.workers
    return f"loading with workers={recipe.workers}", f"workers={max(0, fitting)} would fit"


def about_method(recipe: Recipe, need: Need, left: int) -> tuple[str, str]:
    """Return the sentence about a queue or the like; what is kept for backward may grow with it."""
    name, value, usual = largest_setting(recipe)
    if value <= usual:
        return f"method '{recipe.method_name}'", "make it smaller"
    others = need.fixed + need.kept + need.weights + need.learning
    fitting = max(usual, int(value * (left + others) / (need.held + others)))
    return f"{name}={value}", f"{name}={fitting} would fit"


def about_network(recipe: Recipe, need: Need, left: int) -> tuple[str, str]:
    """Return the sentence about weights: a network of half the width has a quarter of them."""
    name, value, usual = largest_setting(recipe)
    steep, flat = need.weights + need.learning, need.fixed + need.kept + need.held
    left = max(0, left + flat)
    if name.startswith("backbone_settings"):  # weights grow with the square of the width, all else with the width
        share = (sqrt(flat**2 + 4 * steep * left) - flat) / (2 * steep)
    else:
        share = left / (steep + flat)
    fitting = int(value * share)
    advice = f"{name}={max(usual, fitting)} would fit" if value > usual else "take a smaller backbone"
    return f"a network of {need.weights / 4:.3g} weights, with gradients and optimiser,", advice


def largest_setting(recipe: Recipe) -> tuple[str, int, int]:
    """Return the setting of the method or of its backbone that is most above its default, its value and the default."""
    config: Any = recipe.method
    usual = {field.name: field.default for field in fields(config)}
    found = [(f"method.{name}", getattr(config, name), default) for name, default in usual.items()]
    defaults = settings_of(recipe.backbone)
    found += [
        (f"backbone_settings.{name}", value, defaults.get(name)) for name, value in recipe.backbone_settings.items()
    ]
    numbers = [(name, value, default) for name, value, default in found if type(value) is type(default) is int]
    return max(numbers, key=lambda item: item[1] / max(1, item[2]), default=("", 0, 0))


def warning(usual: int) -> str:
    """Return a warning where a training may need more memory than is free; empty otherwise."""
    free = free_memory()
    if free is None or usual <= free:
        return ""
    return (
        f"this training may need about {byte_size(usual)} of memory, and {byte_size(free)} are free: if it is stopped "
        "for want of memory, take a smaller batch or a larger accumulate"
    )
