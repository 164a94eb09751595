"""Communication between the processes of a training. In a single process, nothing is exchanged."""

import os
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

Item = TypeVar("Item")


def world() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, counted from 0."""
    return dist.get_rank() if world() > 1 else 0


def local_world() -> int:
    """Return how many processes of the training are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


@torch.no_grad()
def gather(part: Tensor) -> Tensor:
    """Return the parts of all ranks, concatenated in the order of the ranks, without gradient.

    All parts must have the same shape, as the loader's batches have.
    """
    if world() == 1:
        return part.detach()
    part = part.contiguous()
    gathered = part.new_empty(world() * len(part), *part.shape[1:])
    # As bytes: not every backend knows every type. Newer torch has another name for it, which 2.10 does not know.
    gather_all = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
    gather_all(gathered.view(torch.uint8), part.view(torch.uint8))
    return gathered


def gather_objects(item: Item) -> list[Item]:
    """Return the items of all ranks, in the order of the ranks."""
    if world() == 1:
        return [item]
    items: list[Item | None] = [None] * world()
    dist.all_gather_object(items, item)
    return cast(list[Item], items)


def own(gathered: Tensor) -> Tensor:
    """Return this rank's part of a gathered tensor."""
    return gathered.tensor_split(world())[rank()]
