"""Batch norm with the statistics of the whole batch, over all processes.

B batch, C channels, P positions (time, height and width, as many as there are)
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vprep.errors import UsageError
from vtrain.backbones.batch_norm import ExactNorm
from vtrain.distributed import world
from vtrain.methods.rspnet.network import RSPNet


def synced(module: nn.Module, device: torch.device) -> nn.Module:
    """Return the module with all its batch norm over all processes; with a single process, nothing changes.

    Parameters and buffers stay the same objects and keep their names.
    """
    if isinstance(module, RSPNet):
        raise UsageError(
            "batch_norm is sync with rspnet, which shuffles its keys over the processes and lets each process "
            "normalise on its own: set batch_norm=own"
        )
    if world() == 1:
        return module
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call, no-any-return]
    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            norm.__class__ = SyncNorm  # its tensors, and references to it, stay as they are
    return module


class SyncNorm(ExactNorm):
    """Batch norm over all processes in float32, for the CPU: torch's SyncBatchNorm is for GPUs only.

    As there, evaluation is not shared, and losses are those of each rank.
    """

    def forward(self, x_BCP: Tensor) -> Tensor:
        if not self.training or world() == 1:
            return super().forward(x_BCP)
        values_BCP = x_BCP.float()
        dims = [dim for dim in range(x_BCP.ndim) if dim != 1]
        count = _total(values_BCP.new_tensor(x_BCP.numel() // x_BCP.shape[1]))
        mean_C = _total(values_BCP.sum(dims, keepdim=True)) / count
        # The sum of squares would lose all digits where the mean is large.
        centred_BCP = values_BCP - mean_C
        variance_C = _total(centred_BCP.square().sum(dims, keepdim=True)) / count
        self.remember(mean_C.flatten(), (variance_C * count / (count - 1)).flatten())
        normal_BCP = centred_BCP * torch.rsqrt(variance_C + self.eps)
        if self.affine:
            normal_BCP = normal_BCP * self.weight.view_as(mean_C) + self.bias.view_as(mean_C)
        return normal_BCP.to(x_BCP.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept every input, as this class replaces batch norm of 1, 2 and 3 dimensions."""


class _Total(torch.autograd.Function):
    """A sum over all ranks. Each rank's loss depends on it, so its gradient is a sum over the ranks, too."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:  # noqa: ANN401  what autograd gives
        total = part.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        return _total(gradient)


def _total(part: Tensor) -> Tensor:
    total: Tensor = _Total.apply(part)  # type: ignore[no-untyped-call]
    return total
