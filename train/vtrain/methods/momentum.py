"""What changes without gradients: a network that follows another one, and a memory of what came last.

He, Fan, Wu, Xie, Girshick: Momentum contrast for unsupervised visual representation learning (CVPR 2020).
"""

from collections.abc import Iterable
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def twin(module: Module) -> Module:
    """A copy that no gradient reaches."""
    copy = deepcopy(module)
    copy.requires_grad_(False)
    return copy


@torch.no_grad()
def follow(pairs: Iterable[tuple[nn.Module, nn.Module]], keep: float) -> None:
    """Each (twin, module): the twin's parameters keep the share `keep` of themselves and take the rest from the module.

    Of parameters only: the statistics of a twin's batch norm are its own.
    """
    twins: list[Tensor] = []
    modules: list[Tensor] = []
    for follower, module in pairs:
        twins += follower.parameters()
        modules += module.parameters()
    if twins:
        torch._foreach_lerp_(twins, modules, 1 - keep)


class Queue(nn.Module):
    """The last entries of one or several kinds, the oldest overwritten first; saved with the checkpoint.

    It begins as it is given, takes any number of entries at once, and never asks the device where it stands.
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

    @torch.no_grad()
    def push(self, **kinds: Tensor) -> None:
        """Take new entries of every kind. Of more than it holds, the last stay."""
        (count,) = {len(entries) for entries in kinds.values()}
        new = torch.arange(count, device=self.cursor.device)[-self.size :]
        where = (self.cursor + new) % self.size
        for name, entries in kinds.items():
            held = self[name]
            held.index_copy_(0, where, entries[-self.size :].to(held.dtype))
        self.cursor.add_(count).remainder_(self.size)


def unit_noise(count: int, dim: int) -> Tensor:
    """Random directions [count, dim], the same in every process."""
    noise = torch.randn(count, dim, generator=torch.Generator().manual_seed(0))
    return nn.functional.normalize(noise, dim=1)
