"""What a training says about itself: how it computes, and whether it waits for data and what to change."""

import time
from collections.abc import Callable

import torch
from torch import nn

from vtrain.backbones.batch_norm import ExactNorm3d, why_not_fused
from vtrain.backbones.conv import Conv3d
from vtrain.machine import name_of, processors
from vtrain.training.run import Place

FIRST = 10  # steps that do not count: kernels are chosen or compiled in them
AFTER = 20.0  # seconds, from then on, over which the wait is measured
MUCH = 0.05  # of the time spent waiting: more is worth a change


def computing(module: nn.Module, place: Place, compiled: bool) -> str:
    """Return device, precision, layout and kernels of a training, and the number of its loader's workers."""
    convolutions = [conv for conv in module.modules() if isinstance(conv, nn.Conv3d)]
    last = any(
        conv.weight.is_contiguous(memory_format=torch.channels_last_3d) and not conv.weight.is_contiguous()
        for conv in convolutions
    )
    split = {conv.kernels for conv in convolutions if isinstance(conv, Conv3d) and 1 in conv.kernel_size}
    parts = (
        "float32" if place.precision == torch.float32 else "bf16",
        "channels_last_3d" if last else "contiguous weights",
        "2D kernels for factorised convolutions" if "2d" in split else "3D kernels",
        *batch_norm(module, place, compiled),
        *(["compiled"] if compiled else []),
    )
    several = f"{place.workers} workers read" if place.workers > 1 else "1 worker reads"
    read = several if place.workers else "this process reads"
    return f"computing on {name_of(place.device)}: {', '.join(parts)}; {read} the clips, with {processors()} processors"


def batch_norm(module: nn.Module, place: Place, compiled: bool) -> list[str]:
    """Return what computes the batch norm of half-precision clips on a GPU; nothing elsewhere."""
    ours = any(isinstance(norm, ExactNorm3d) for norm in module.modules())
    if place.device.type != "cuda" or place.precision == torch.float32 or compiled or not ours:
        return []
    why_not = why_not_fused(place.device)
    return [f"batch norm by torch, because {why_not}" if why_not else "batch norm and ReLU in one kernel"]


def epochs_in_a_step(batch: int, videos: int) -> str:
    """Return a sentence about a step that shows videos more than once; empty where none does.

    No method learns wrongly from it: none takes two clips of a video for a negative pair.
    """
    if batch <= videos:
        return ""
    least, most = batch // videos, -(-batch // videos)
    times = f"{least} times" if least == most else f"{least} or {most} times"
    return f"batch={batch} of {videos} videos: a step is {batch / videos:.1f} epochs, and shows each video {times}"


class Waiting:
    """Measures once, in the first minute, how much of its time a training waits for its loader."""

    def __init__(
        self, place: Place, waited: Callable[[], float], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._place, self._waited, self._clock = place, waited, clock
        self._steps, self._since, self._before = 0, 0.0, 0.0

    def after_step(self) -> str:
        """Return the sentence when it is due, and otherwise an empty one."""
        self._steps += 1
        if self._steps == FIRST:
            self._since, self._before = self._clock(), self._waited()
        spent = self._clock() - self._since
        if self._steps <= FIRST or self._since < 0 or spent < AFTER:
            return ""
        self._since = -1.0  # said
        return waiting((self._waited() - self._before) / spent, self._place.workers, processors(), self._place.device)


def waiting(share: float, workers: int, most: int, device: torch.device) -> str:
    """Return a sentence about a training that waits for `share` of its time, with `workers` on `most` processors."""
    found = f"the training waits for data {share:.0%} of the time"
    if share <= MUCH:
        return f"{found}: the loader keeps up"
    needed = max(workers + 1, round(max(1, workers) / (1 - min(share, 0.9))))
    if device.type == "cpu":
        return f"{found}; network and workers share {most} processors: use a GPU, or a smaller network"
    if workers < most - 1:
        return f"{found}: set workers={min(needed, most - 1)} (now {workers}, of {most} processors)"
    return f"{found}, and all {most} processors read: use smaller frames (vprep shard --size) or more processors"
