"""What a training step keeps in memory, found by its shapes alone: on the device "meta" tensors have no content.

B batch   N views   C channels   T frames   S side
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.data.sampling import Plan, TooShortError, Video
from vtrain.distributed import world
from vtrain.recipes.recipe import Recipe

META = torch.device("meta")
FEW, MORE = 2, 4  # videos of the two batches from whose difference a video's share follows
MOST_NUMBERS = 1 << 55  # of a tensor: far more would not fit into 64 bits
LONG = 1 << 30  # frames of a video
MOST_FRAMES = 100_000  # of a sample; a plan lists the number of each
# What the code of a method may raise where there are shapes alone.
ERRORS = (
    TooShortError, RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError, LookupError, AssertionError
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Bytes that forward keeps for backward, besides weights and clips: of a step as such, and of each video."""

    fixed: int = 0
    per_video: int = 0


class NoClips:
    """Answers a method that reads clips within a step."""

    def __init__(self, clips_B1CTSS: Tensor) -> None:
        self.videos, self._clips = 1, clips_B1CTSS

    def __call__(self, row_B: Tensor, speed_B: Tensor) -> "NoClips":
        return self

    def clips(self) -> tuple[Tensor, Tensor]:
        return self._clips, torch.ones(len(self._clips), dtype=torch.bool, device=META)


def kept_by(module: nn.Module, recipe: Recipe, video: Video) -> Kept | None:
    """Return what a step of the module, which is on `META`, keeps; None where its shapes cannot be followed."""
    plan, groups = (
        recipe.method.plan(),
        min(getattr(module, "groups", 1), recipe.at_a_time(world())),
    )
    numbers = plan.views * plan.looks[0].crops * 3 * plan.length * plan.looks[0].size ** 2
    if numbers * MORE * groups > MOST_NUMBERS or plan.length * plan.views > MOST_FRAMES:
        return None
    counts = FEW * groups, MORE * groups
    try:
        # Several processes would exchange what has no content: then only the backbone is followed.
        step = partial(_of_step, module, plan, video) if world() == 1 else partial(_of_backbone, module, recipe.clip)
        few, more = (step(count) for count in counts)
    except ERRORS:
        return None
    per_video = (more - few) // (counts[1] - counts[0])
    return Kept(fixed=max(0, few - per_video * counts[0]), per_video=per_video)


def _of_step(module: nn.Module, plan: Plan, video: Video, count: int) -> int:
    """Return the bytes that the method keeps of `count` videos."""
    size = plan.looks[0].size
    clips = torch.empty(count, plan.views * plan.looks[0].crops, 3, plan.length, size, size, device=META)
    if getattr(module, "fetched", None):
        cast(Any, module).fetch = NoClips(clips[:, :1])
    return _kept(module, clips, targets_like(plan, video, count))


def _of_backbone(module: nn.Module, clip: tuple[int, int, int], count: int) -> int:
    """Return the bytes that the backbone keeps of one clip of each of `count` videos: each method keeps so much."""
    return _kept(cast(Any, module).backbone, torch.empty(count, 3, *clip, device=META))


def _kept(net: nn.Module, clips: Tensor, *others: object) -> int:
    """Return the bytes that the forward pass of `net` keeps, besides weights and clips."""
    known = {storage_of(tensor) for tensor in (clips, *net.parameters(), *net.buffers())}
    found: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if storage_of(tensor) not in known:
            found[storage_of(tensor)] = tensor  # held, so that no other storage gets its number
        return tensor

    with no_autocast(), quick_batch_norm(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = net(clips, *others)
    del outputs
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


def storage_of(tensor: Tensor) -> int:
    """Return the number of a tensor's storage, which views share."""
    return cast(int, tensor.untyped_storage()._cdata)


def targets_like(plan: Plan, video: Video, count: int) -> dict[str, Tensor]:
    """Return targets of the shapes that the loader gives for `count` videos."""
    long = replace(video, frames=LONG)  # so that no clip is too long for it
    drawn = {name: np.array(value) for name, value in plan(long, Random(0)).targets.items()}
    kinds = {name: torch.float32 if value.dtype.kind == "f" else torch.int64 for name, value in drawn.items()}
    numbers = {name: torch.zeros(count, *drawn[name].shape, dtype=kind, device=META) for name, kind in kinds.items()}
    ids = {name: torch.zeros(count, dtype=torch.int64, device=META) for name in ("row", "label")}
    valid = torch.ones(count, dtype=torch.bool, device=META)
    return {"speed": torch.ones(count, plan.views, device=META), "valid": valid, **ids, **numbers}


@contextmanager
def no_autocast() -> Iterator[None]:
    """Let `torch.autocast` do nothing in the block: it does not know the device "meta"."""
    before = torch.autocast
    torch.autocast = lambda *args, **options: nullcontext()  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        torch.autocast = before  # type: ignore[misc]


@contextmanager
def quick_batch_norm() -> Iterator[None]:
    """Let batch norm without gradients give its shape alone in the block: on "meta" torch takes 10 ms for each."""
    before = F.batch_norm

    def batch_norm(x: Tensor, *args: Any, **options: Any) -> Tensor:  # noqa: ANN401
        return before(x, *args, **options) if torch.is_grad_enabled() else torch.empty_like(x)

    F.batch_norm = batch_norm  # type: ignore[assignment]
    try:
        yield
    finally:
        F.batch_norm = before
