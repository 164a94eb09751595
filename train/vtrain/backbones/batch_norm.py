"""Batch norm in channels-last: as exact as in the contiguous layout on a CPU, and fast on a GPU.

On a CPU, torch's batch norm adds up each channel of a channels-last map in float32, one number after the other. For
eight clips of 16 x 112 x 112 the variance is then 1e-3 off (benchmarks/batch_norm.py). Here each channel has many short
sums in float32, which are added up in float64. That takes the same time.

On a GPU, half-precision clips take the kernels of fused_norm.py, which also add and apply the ReLU, and where those do
not work torch's kernels for pictures (picture_norm.py).

C channels, P positions (of all samples), S short sums of each channel, R positions in a short sum: P = R x S
B batch, T time, H W height and width
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import inf, isfinite
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from vtrain.backbones.picture_norm import is_like_picture, of_pictures

LONGEST = 8192  # numbers that are added up in float32: the variance is 1e-6 off
TRIAL = (4, 2, 16, 112, 112)  # of `worst_error`: few channels, because only the number of positions counts


class ExactNorm(_BatchNorm):
    """Batch norm that computes what torch's does. Its class alone is new, so any batch norm can become one."""

    groups = 1  # of the batch, which are normalised one after the other, each on its own

    def forward(self, x_BCP: Tensor) -> Tensor:
        if self.training and self.groups > 1:
            return torch.cat([self.of_group(part_BCP) for part_BCP in x_BCP.chunk(self.groups)])
        return self.of_group(x_BCP)

    def of_group(self, x_BCP: Tensor) -> Tensor:
        """Return the batch norm of one group."""
        # A compiled batch norm is torch's own decomposition, which is exact.
        if not (self.training and is_inexact(x_BCP)) or torch.compiler.is_compiling():
            return super().forward(x_BCP)
        y_BCP, mean_C, variance_C = _ExactNorm.apply(x_BCP, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        count = x_BCP.numel() // x_BCP.shape[1]
        self.remember(mean_C, variance_C * count / (count - 1))
        return y_BCP  # type: ignore[no-any-return]

    @torch.no_grad()
    def remember(self, mean_C: Tensor, variance_C: Tensor) -> None:
        """Add mean and variance to the running statistics; without a momentum these are the mean of all batches."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C, share)
        self.running_var.lerp_(variance_C, share)


class ExactNorm1d(ExactNorm, nn.BatchNorm1d):
    """Exact batch norm of one dimension."""


class ExactNorm2d(ExactNorm, nn.BatchNorm2d):
    """Exact batch norm of two dimensions."""


class ExactNorm3d(ExactNorm, nn.BatchNorm3d):
    """Exact batch norm of three dimensions, and the fast one of a GPU."""

    fused = True  # whether Triton's kernels are used where they can be

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return self.fuse(x_BCTHW, None, relu=False) if self.is_fused(x_BCTHW) else super().forward(x_BCTHW)

    def of_group(self, x_BCTHW: Tensor) -> Tensor:
        if self.momentum is None or torch.compiler.is_compiling() or not is_like_picture(x_BCTHW):
            return super().of_group(x_BCTHW)
        return of_pictures(self, x_BCTHW)

    def is_fused(self, x_BCTHW: Tensor) -> bool:
        """Return whether this step is computed by Triton's kernels."""
        if not is_like_picture(x_BCTHW):
            return False
        positions, rest = divmod(x_BCTHW.numel() // x_BCTHW.shape[1], self.groups)
        whole = rest == 0 and len(x_BCTHW) % self.groups == 0 and positions > 1
        return whole and self.can_fuse(x_BCTHW.device)

    def can_fuse(self, device: torch.device) -> bool:
        """Return whether Triton's kernels know these settings, and work on the device."""
        complete = self.weight is not None and self.running_mean is not None and self.momentum is not None
        learns = self.fused and self.training and not torch.compiler.is_compiling()
        return complete and learns and not why_not_fused(device)

    def fuse(self, x_BCTHW: Tensor, added_BCTHW: Tensor | None, *, relu: bool) -> Tensor:
        """Return the normalised clips, plus `added`, after a ReLU if asked for, in one pass.

        The clips may have more channels than this batch norm: those become 0.
        """
        from vtrain.backbones.fused_norm import FusedNorm

        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(self.groups)
        if added_BCTHW is not None:
            added_BCTHW = added_BCTHW.to(x_BCTHW.dtype).contiguous(memory_format=torch.channels_last_3d)
        y_BCTHW: Tensor = FusedNorm.apply(  # type: ignore[no-untyped-call]
            x_BCTHW, self.weight, self.bias, added_BCTHW, self.running_mean, self.running_var, self.momentum, self.eps,
            relu, self.groups,
        )  # fmt: skip
        return y_BCTHW


def normalised(norm: nn.Module, x_BCTHW: Tensor, added_BCTHW: Tensor | None = None) -> Tensor:
    """Return ReLU(norm(x) + added)."""
    if isinstance(norm, ExactNorm3d) and norm.is_fused(x_BCTHW):
        return norm.fuse(x_BCTHW, added_BCTHW, relu=True)
    y_BCTHW: Tensor = norm(x_BCTHW)
    if added_BCTHW is not None:
        y_BCTHW += added_BCTHW
    return F.relu(y_BCTHW, inplace=True)


def padding(norm: nn.Module, x_BCTHW: Tensor) -> int:
    """Return how many channels are added to those of `norm`, whose input a convolution makes of x.

    cuDNN's half-precision kernels take multiples of 8 channels; it copies other maps before and after each of them.
    """
    last = x_BCTHW.device.type == "cuda" and x_BCTHW.is_contiguous(memory_format=torch.channels_last_3d)
    if not (last and isinstance(norm, ExactNorm3d) and norm.can_fuse(x_BCTHW.device)):
        return 0
    kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x_BCTHW.dtype
    return -norm.num_features % 8 if kind in (torch.bfloat16, torch.float16) else 0


def is_groupable(net: nn.Module, device: torch.device) -> bool:
    """Return whether groups of a batch can go through `net` together, faster than one after the other.

    They can where all batch norm is Triton's, and no code from outside may look at the batch as a whole.
    """
    half = device.type == "cuda" and torch.is_autocast_enabled("cuda")
    return half and all(_is_groupable(module, device) for module in net.modules())


def _is_groupable(module: nn.Module, device: torch.device) -> bool:
    if isinstance(module, _BatchNorm):
        return isinstance(module, ExactNorm3d) and module.can_fuse(device)
    return type(module).__module__.startswith(("torch.nn.", "vtrain."))


@contextmanager
def grouped(net: nn.Module, groups: int) -> Iterator[None]:
    """Let the batch norm of `net` normalise each of so many groups of a batch on its own, in the block."""
    norms = [module for module in net.modules() if isinstance(module, ExactNorm)]
    for norm in norms:
        norm.groups = groups
    try:
        yield
    finally:
        for norm in norms:
            norm.groups = 1


def use_fused(net: nn.Module, wanted: bool) -> None:
    """Choose whether the batch norm of `net` takes Triton's kernels where they work."""
    for module in net.modules():
        if isinstance(module, ExactNorm3d):
            module.fused = wanted


@cache
def why_not_fused(device: torch.device) -> str:
    """Return why Triton's kernels cannot be used on this device; empty where they work."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    from vtrain.backbones.fused_norm import works

    return works(device)


EXACT: dict[type, type] = {
    nn.BatchNorm1d: ExactNorm1d,
    nn.BatchNorm2d: ExactNorm2d,
    nn.BatchNorm3d: ExactNorm3d,
}


def make_exact(module: nn.Module) -> None:
    """Make all torch's batch norm in the module exact on a CPU and fast on a GPU, also of code from outside.

    Parameters and buffers stay the same objects and keep their names.
    """
    for norm in module.modules():
        norm.__class__ = EXACT.get(type(norm), type(norm))


def is_inexact(x_BCP: Tensor) -> bool:
    """Return whether torch would add up too many numbers one after the other."""
    on_cpu = x_BCP.device.type == "cpu" and x_BCP.dtype == torch.float32
    return on_cpu and x_BCP.numel() // x_BCP.shape[1] > LONGEST and x_BCP.movedim(1, -1).is_contiguous()


def worst_error(norm: nn.Module, device: torch.device, layout: torch.memory_format = torch.channels_last_3d) -> float:
    """Return how far one training step of `norm`, a new one of `TRIAL[1]` channels, is off from float64.

    That is the largest relative error of output, running statistics and gradients, in the norm.
    """
    draw = torch.Generator().manual_seed(0)
    x_BCP, noise_BCP = (torch.randn(TRIAL, generator=draw).mul_(2).add_(1).to(device) for _ in range(2))
    slope_BCP = x_BCP + noise_BCP  # else the gradient of the weight would be a small difference of large sums
    found = _trained(norm.to(device), *(x.to(memory_format=layout) for x in (x_BCP, slope_BCP)))
    wanted = _trained(nn.BatchNorm3d(TRIAL[1]).to(device).double(), x_BCP.double(), slope_BCP.double())
    ratios = [((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, wanted, strict=False)]
    return max(ratio if isfinite(ratio) else inf for ratio in ratios)


def _trained(norm: nn.Module, x_BCP: Tensor, slope_BCP: Tensor) -> list[Tensor]:
    y_BCP = norm(x_BCP.requires_grad_())
    gradients = torch.autograd.grad(y_BCP, [x_BCP, *norm.parameters()], slope_BCP)
    return [y_BCP.detach(), *gradients, *(buffer for buffer in norm.buffers() if buffer.is_floating_point())]


class _ExactNorm(torch.autograd.Function):
    """Batch norm in training mode, for channels-last: output, mean, variance (not corrected for the sample)."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  what autograd gives
        x_BCP: Tensor,
        weight_C: Tensor | None,
        bias_C: Tensor | None,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        x_RSC = short_sums(x_BCP)
        mean_C, variance_C = statistics(x_RSC, x_BCP.shape[1])
        scale_C = torch.rsqrt(variance_C + eps)
        scale_C = scale_C if weight_C is None else scale_C * weight_C
        shift_C = -mean_C * scale_C if bias_C is None else bias_C - mean_C * scale_C
        y_BCP = torch.empty_like(x_BCP)
        torch.addcmul(repeated(shift_C, x_RSC), x_RSC, repeated(scale_C, x_RSC), out=short_sums(y_BCP))
        ctx.save_for_backward(x_BCP, weight_C, mean_C, variance_C)
        ctx.eps = eps
        mean, variance = mean_C.float(), variance_C.float()
        ctx.mark_non_differentiable(mean, variance)
        return y_BCP, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_BCP: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x_BCP, weight_C, mean_C, variance_C = ctx.saved_tensors
        x_RSC = short_sums(x_BCP)
        slope_RSC = short_sums(slope_BCP.movedim(1, -1).contiguous().movedim(-1, 1))
        of_weight_C, of_bias_C = gradients(x_RSC, slope_RSC, mean_C, variance_C, ctx.eps)
        # With n = (x - mean) / deviation: gradient = weight / deviation * (slope - mean(slope) - n * mean(slope * n)).
        inverse_C = torch.rsqrt(variance_C + ctx.eps)
        scale_C = inverse_C if weight_C is None else inverse_C * weight_C
        count = x_BCP.numel() // len(mean_C)
        of_x_C = -scale_C * inverse_C * of_weight_C / count
        of_one_C = -scale_C * of_bias_C / count - mean_C * of_x_C
        gradient_BCP = torch.empty_like(x_BCP)
        gradient_RSC = short_sums(gradient_BCP)
        torch.addcmul(repeated(of_one_C, x_RSC), x_RSC, repeated(of_x_C, x_RSC), out=gradient_RSC)
        gradient_RSC.addcmul_(slope_RSC, repeated(scale_C, x_RSC))
        affine = zip((of_weight_C, of_bias_C), ctx.needs_input_grad[1:], strict=False)
        return gradient_BCP, *(part.float() if needed else None for part, needed in affine), None


def short_sums(x_BCP: Tensor) -> Tensor:
    """Return a view [R, S x C] of a tensor in channels-last: a column holds the numbers of a short sum."""
    channels = x_BCP.shape[1]
    return x_BCP.movedim(1, -1).view(-1, channels * splits(x_BCP.numel() // channels))


@cache
def splits(positions: int) -> int:
    """Return the least number of equal sums of the positions of which none is longer than LONGEST."""
    return next(count for count in range(1, positions + 1) if positions % count == 0 and positions <= LONGEST * count)


def repeated(numbers_C: Tensor, x_RSC: Tensor) -> Tensor:
    return numbers_C.float().repeat(x_RSC.shape[1] // len(numbers_C))


def statistics(x_RSC: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Return the mean and the variance of each channel, in float64."""
    means, variances = torch.batch_norm_update_stats(x_RSC, None, None, 0.0)
    means_SC, variances_SC = means.view(-1, channels).double(), variances.view(-1, channels).double()
    mean_C = means_SC.mean(0)
    return mean_C, variances_SC.mean(0) + (means_SC - mean_C).square().mean(0)


def gradients(
    x_RSC: Tensor, slope_RSC: Tensor, mean_C: Tensor, variance_C: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of weight and bias, in float64."""
    statistics_SC = [repeated(numbers_C, x_RSC) for numbers_C in (mean_C, variance_C)]
    _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
        slope_RSC, x_RSC, None, *statistics_SC, None, None, False, eps, [False, True, True]
    )
    of_weight_SC, of_bias_SC = (part.view(-1, len(mean_C)).double() for part in (of_weight, of_bias))
    return of_weight_SC.sum(0), of_bias_SC.sum(0)
