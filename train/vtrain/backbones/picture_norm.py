"""Batch norm of clips on a GPU, by torch's kernels for pictures.

torch's kernels for channels-last know maps of pictures. For half-precision maps of clips it takes its general kernels,
which convert the map to float32 first. Here a map of clips is viewed as a map of pictures that are T x H high.

B batch, C channels, T time, H W height and width
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def is_like_picture(x_BCTHW: Tensor) -> bool:
    """Return whether torch has slow kernels for this map of clips, and fast ones for the same map of pictures."""
    half_on_gpu = x_BCTHW.device.type == "cuda" and x_BCTHW.dtype in (torch.bfloat16, torch.float16)
    return half_on_gpu and x_BCTHW.ndim == 5 and x_BCTHW.is_contiguous(memory_format=torch.channels_last_3d)


def of_pictures(norm: nn.BatchNorm3d, x_BCTHW: Tensor) -> Tensor:
    """Return what torch's batch norm of two dimensions returns for pictures that are T x H high."""
    running = norm.running_mean, norm.running_var
    if norm.training or norm.running_mean is None:
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        y_BCTHW: Tensor = _PictureNorm.apply(  # type: ignore[no-untyped-call]
            x_BCTHW, norm.weight, norm.bias, *running, norm.momentum, norm.eps
        )
        return y_BCTHW
    y_BCPW = F.batch_norm(as_picture(x_BCTHW), *running, norm.weight, norm.bias, eps=norm.eps)
    return y_BCPW.view(x_BCTHW.shape)


class _PictureNorm(torch.autograd.Function):
    """Batch norm in training mode for clips that are viewed as pictures.

    The output is no view of a picture: for a ReLU that changes a view in place, autograd would copy it.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  what autograd gives
        x_BCTHW: Tensor,
        weight_C: Tensor | None,
        bias_C: Tensor | None,
        mean_C: Tensor | None,
        variance_C: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        y_BCTHW = torch.empty_like(x_BCTHW)
        saved = [torch.empty(x_BCTHW.shape[1], device=x_BCTHW.device) for _ in range(2)]
        torch.ops.aten.native_batch_norm.out(
            as_picture(x_BCTHW), weight_C, bias_C, mean_C, variance_C, True, momentum, eps,
            out=as_picture(y_BCTHW), save_mean=saved[0], save_invstd=saved[1],
        )  # fmt: skip
        ctx.save_for_backward(x_BCTHW, weight_C, *saved)
        ctx.eps = eps
        return y_BCTHW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_BCTHW: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x_BCTHW, weight_C, *saved = ctx.saved_tensors
        slope_BCTHW = slope_BCTHW.contiguous(memory_format=torch.channels_last_3d)
        of_x, *affine = torch.ops.aten.native_batch_norm_backward(
            as_picture(slope_BCTHW), as_picture(x_BCTHW), weight_C, None, None, *saved, True, ctx.eps,
            list(ctx.needs_input_grad[:3]),
        )  # fmt: skip
        return None if of_x is None else of_x.view(x_BCTHW.shape), *affine, None, None, None, None


def as_picture(x_BCTHW: Tensor) -> Tensor:
    """Return a view [B, C, T x H, W] of clips in channels-last."""
    return x_BCTHW.flatten(2, 3)
