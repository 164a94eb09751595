"""Compute the outputs of a network for each clip of videos, in the order of the videos.

V videos, R clips and crops of a video, C channels, T time, S side, D feature
"""

from collections.abc import Callable, Iterator
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from veval.evaluation import Execution, Info
from veval.inputs import KINETICS
from veval.protocol import Protocol
from vprep.errors import UsageError
from vprep.memory import memory_with_swap
from vprep.text import byte_size
from vtrain.data.batch import Bad
from vtrain.data.buffers import FITTING, Buffers
from vtrain.data.dataset import Videos
from vtrain.data.loader import Loader
from vtrain.data.sampler import canvas_of
from vtrain.data.sampling import EvenClips, Plan
from vtrain.inference import outputs

CLIPS = 128  # per batch on a GPU
VIDEOS = 4  # per batch on a CPU, where the network gets the clips of one video at a time

Net = Callable[[Tensor], Tensor]


class Standardise(nn.Module):
    """Normalises clips before a network by a mean and deviation that the loader does not have."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, net: nn.Module, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1, 1))

    def forward(self, clips_RCTSS: Tensor) -> Any:  # noqa: ANN401  what the network returns
        return self.net((clips_RCTSS - self.mean) / self.deviation)


def for_clips(net: nn.Module, protocol: Protocol, device: torch.device | str) -> nn.Module:
    """Return the network on the device, for the clips of the protocol's loader."""
    return (Standardise(net, *KINETICS).eval() if protocol.normalise == "kinetics" else net).to(device)


def demand_memory(plan: Plan, videos: Videos) -> None:
    """Refuse clips of which a single one, or those of a single video, do not fit into memory."""
    side, room = plan.looks[0].size, memory_with_swap()
    needed = plan.looks[0].crops * 3 * plan.length * side**2 * torch.float32.itemsize
    if needed > room:
        share = FITTING * room / needed
        choices = {"size": int(side * sqrt(share)), "frames": int(plan.length * share)}
        fitting = " or ".join(f"{name}={number}" for name, number in choices.items() if number)
        raise UsageError(
            f"one clip of frames={plan.length} with size={side} needs at least {byte_size(needed)} of memory, and this "
            f"machine has {byte_size(room)}; {f'{fitting} would fit' if fitting else 'take smaller and shorter clips'}"
        )
    Buffers(1, (plan.views, plan.length, *canvas_of(plan, videos.frame_sizes), 3), 0).demand_memory()


def stream(
    net: Net, videos: Videos, plan: EvenClips, execution: Execution, bad: list[Info], *, of: int | None = None
) -> Iterator[tuple[int, list[int], Tensor]]:
    """Yield for each batch how many videos are finished, the rows of its videos, and the outputs [V, R, D].

    Videos that cannot be read are added to `bad` instead. Their budget is a share of `of` videos; None: of `videos`.
    """
    demand_memory(plan, videos)
    device = torch.device(execution.device)
    crops = plan.looks[0].crops
    size = execution.batch or (VIDEOS if device.type == "cpu" else max(1, CLIPS // (plan.clips * crops)))
    loader = Loader(
        videos,
        plan,
        batch=size,
        workers=execution.workers,
        epochs=1,
        shuffled=False,
        on_error=execution.on_error,
        budget=execution.budget * (of or len(videos)) / len(videos),
        device=device,
    )
    at = 0
    for batch, made in outputs(loader, net, looks=plan.looks, device=device, precision=execution.precision):
        rows = [row for row, valid in zip(range(at, at + len(batch)), batch.valid.tolist(), strict=True) if valid]
        bad += [_described(video) for video in batch.bad]
        at += len(batch)
        yield at, rows, made[batch.valid]


def _described(bad: Bad) -> Info:
    return {"key": bad.key, "shard": Path(bad.shard).name, "what": bad.what}
