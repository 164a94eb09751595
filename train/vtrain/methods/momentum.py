"""State that changes without gradients: a momentum copy of a network, and a queue of recent entries.

He, Fan, Wu, Xie, Girshick: Momentum contrast for unsupervised visual representation learning (CVPR 2020).
"""

from collections.abc import Iterable
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def momentum_copy(module: Module) -> Module:
    """Return a copy that no gradient reaches."""
    copy = deepcopy(module)
    copy.requires_grad_(False)
    return copy


@torch.no_grad()
def ema_update(pairs: Iterable[tuple[nn.Module, nn.Module]], keep: float) -> None:
    """Update each pair (copy, module): copy = keep * copy + (1 - keep) * module.

    Only parameters are updated: the statistics of a copy's batch norm are its own.
    """
    copies: list[Tensor] = []
    modules: list[Tensor] = []
    for copy, module in pairs:
        copies += copy.parameters()
        modules += module.parameters()
    if copies:
        torch._foreach_lerp_(copies, modules, 1 - keep)


@torch.library.custom_op("vtrain::copied", mutates_args=())
def copied(entries: Tensor) -> Tensor:
    """Return a copy that torch.compile keeps for the backward pass.

    Of a clone it keeps nothing (torch 2.13): backward clones the queue again, which holds other entries by then, and
    RSPNet's gradients are wrong by 15 to 70 %.
    """
    return entries.clone()


@copied.register_fake
def _(entries: Tensor) -> Tensor:
    return torch.empty_like(entries)


class Queue(nn.Module):
    """A ring buffer of the last entries of each kind, saved with the checkpoint.

    It starts with the given entries, takes any number of entries at once, and never waits for the device.
    """

    cursor: Tensor

    def __init__(self, **kinds: Tensor) -> None:
        super().__init__()
        (self.size,) = {len(entries) for entries in kinds.values()}
        for name, entries in kinds.items():
            self.register_buffer(name, entries)
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def before_push(self, name: str) -> Tensor:
        """Return a copy of the entries, from which gradients can be computed after the next push."""
        found: Tensor = copied(self[name])
        return found

    @torch.no_grad()
    def push(self, **kinds: Tensor) -> None:
        """Replace the oldest entries of every kind by new ones. If these are more than it holds, the last ones stay."""
        (count,) = {len(entries) for entries in kinds.values()}
        new = torch.arange(count, device=self.cursor.device)[-self.size :]
        where = (self.cursor + new) % self.size
        for name, entries in kinds.items():
            held = self[name]
            held.index_copy_(0, where, entries[-self.size :].to(held.dtype))
        self.cursor.add_(count).remainder_(self.size)

    @torch.no_grad()
    def put(self, slots: Tensor, **kinds: Tensor) -> None:
        """Replace the entries `slots` by new ones. Of several new ones for a slot, the last stays, on any device."""
        order = torch.arange(len(slots), device=slots.device)
        last = order.new_zeros(self.size).scatter_reduce(0, slots, order, "amax").index_select(0, slots)
        for name, entries in kinds.items():
            held = self[name]
            held.index_copy_(0, slots, entries.index_select(0, last).to(held.dtype))


def unit_noise(count: int, dim: int) -> Tensor:
    """Return random directions [count, dim], the same in every process."""
    noise = torch.randn(count, dim, generator=torch.Generator().manual_seed(0))
    return nn.functional.normalize(noise, dim=1)
