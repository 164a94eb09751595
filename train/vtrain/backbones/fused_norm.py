"""Batch norm, a sum and a ReLU of channels-last clips in one pass each way, by Triton's kernels on a GPU.

torch reads and writes a map 13 times for the forward and backward pass of batch norm and ReLU. Here it is 8 times: the
statistics and the output read the map, and the backward pass computes from it again which numbers the ReLU kept.

A map of P positions and C channels is viewed as rows of W = k * C numbers, k positions each, so that W is a multiple of
a block of columns. Sums are in float32, around the first number of each channel; no sum depends on the order in which
blocks run. Channels beyond those of the weight are padding: their output is 0.
"""

import os
import shutil
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from vtrain.backbones import norm_kernels

ROWS, COLUMNS = 32, 64  # of a block
PARTS, GROUP = 64, 16  # rows and columns of a block in which partial sums are added up
PROGRAMS = 2112  # sixteen for each processor of a large GPU
MOST_POSITIONS = 64  # in a row
BLOCK, PARTIAL = {"ROWS": ROWS, "COLUMNS": COLUMNS}, {"PARTS": PARTS, "GROUP": GROUP}


class Shape:
    """How a map of clips is divided among programs; each of the groups is normalised on its own."""

    def __init__(self, x_BCTHW: Tensor, groups: int) -> None:
        self.channels, self.groups = x_BCTHW.shape[1], groups
        self.positions = x_BCTHW.numel() // self.channels // groups
        together = together_of(self.positions, self.channels)
        self.width = together * self.channels
        rows = self.positions // together
        across = triton.cdiv(self.width, COLUMNS)
        parts = max(1, min(PROGRAMS // (across * groups), triton.cdiv(rows, ROWS)))
        per = triton.cdiv(triton.cdiv(rows, parts), ROWS) * ROWS
        self.parts = triton.cdiv(rows, per)
        self.grid = across, self.parts, groups
        self.sizes = rows, self.channels, self.width, per
        self.by_channel = triton.cdiv(self.channels, GROUP)

    def new_part(self, x_BCTHW: Tensor) -> Tensor:
        """Return room for two sums of each column by each program."""
        return x_BCTHW.new_empty(self.groups, self.parts, 2, self.width, dtype=torch.float32)


def together_of(positions: int, channels: int) -> int:
    """Return how many positions make a row: the fewest whose numbers fill whole blocks, where that divides them."""
    count = 1
    while count * channels % COLUMNS and count < MOST_POSITIONS and positions % (2 * count) == 0:
        count *= 2
    return count if count * channels % COLUMNS == 0 else 1


class FusedNorm(torch.autograd.Function):
    """Batch norm in training mode, then `added` if there is one, then a ReLU if asked for."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  what autograd gives
        x_BCTHW: Tensor,
        weight_K: Tensor,
        bias_K: Tensor,
        added_BCTHW: Tensor | None,
        mean_K: Tensor,
        variance_K: Tensor,
        momentum: float,
        eps: float,
        relu: bool,
        groups: int,
    ) -> Tensor:
        has_sum = added_BCTHW is not None
        with torch.cuda.device_of(x_BCTHW):  # type: ignore[no-untyped-call]
            shape = Shape(x_BCTHW, groups)
            numbers_G4C = statistics(shape, x_BCTHW, weight_K, bias_K, mean_K, variance_K, momentum, eps)
            y_BCTHW = torch.empty_like(x_BCTHW)
            norm_kernels.output[shape.grid](
                x_BCTHW, added_BCTHW if has_sum else x_BCTHW, numbers_G4C, y_BCTHW, *shape.sizes,
                ADDED=has_sum, RELU=relu, **BLOCK,
            )  # fmt: skip
        ctx.save_for_backward(x_BCTHW, numbers_G4C, *([y_BCTHW] if has_sum and relu else []))
        ctx.relu, ctx.has_sum, ctx.known, ctx.groups = relu, has_sum, len(weight_K), groups
        return y_BCTHW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_BCTHW: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x_BCTHW, numbers_G4C, *saved = ctx.saved_tensors
        slope_BCTHW = slope_BCTHW.contiguous(memory_format=torch.channels_last_3d)
        kept_BCTHW = torch.empty_like(slope_BCTHW) if saved else slope_BCTHW
        of_x_BCTHW = torch.empty_like(x_BCTHW)
        with torch.cuda.device_of(x_BCTHW):  # type: ignore[no-untyped-call]
            shape = Shape(x_BCTHW, ctx.groups)
            part = shape.new_part(x_BCTHW)
            norm_kernels.slopes[shape.grid](
                x_BCTHW, saved[0] if saved else x_BCTHW, slope_BCTHW, numbers_G4C, kept_BCTHW, part, *shape.sizes,
                ADDED=bool(saved), RELU=ctx.relu, **BLOCK,
            )  # fmt: skip
            affine_G2C = x_BCTHW.new_empty(ctx.groups, 2, shape.channels, dtype=torch.float32)
            norm_kernels.of_affine[(shape.by_channel, ctx.groups)](
                part, affine_G2C, shape.channels, shape.width, shape.parts, **PARTIAL
            )
            norm_kernels.gradient[shape.grid](
                x_BCTHW, kept_BCTHW, numbers_G4C, affine_G2C, of_x_BCTHW, shape.positions, *shape.sizes,
                RELU=ctx.relu and not saved, **BLOCK,
            )  # fmt: skip
        affine_2K = affine_G2C.sum(0)[:, : ctx.known]
        added = kept_BCTHW if ctx.has_sum else None
        return of_x_BCTHW, *affine_2K, added, None, None, None, None, None, None


def statistics(
    shape: Shape,
    x_BCTHW: Tensor,
    weight_K: Tensor,
    bias_K: Tensor,
    mean_K: Tensor,
    variance_K: Tensor,
    momentum: float,
    eps: float,
) -> Tensor:
    """Return mean, 1 / deviation, scale and offset of each channel; update the running mean and variance."""
    part = shape.new_part(x_BCTHW)
    norm_kernels.sums[shape.grid](x_BCTHW, part, *shape.sizes, **BLOCK)
    numbers_G4C = x_BCTHW.new_empty(shape.groups, 4, shape.channels, dtype=torch.float32)
    norm_kernels.statistics[(shape.by_channel,)](
        x_BCTHW, part, weight_K, bias_K, mean_K, variance_K, numbers_G4C, shape.positions, shape.channels, shape.width,
        len(weight_K), shape.parts, shape.groups, momentum, eps, **PARTIAL,
    )  # fmt: skip
    return numbers_G4C


@cache
def works(device: torch.device) -> str:
    """Return why the kernels cannot be used on this device; empty where they work. The first call compiles some."""
    names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    if not any(shutil.which(name) for name in names):
        return f"there is no C compiler ({' or '.join(names)})"
    try:
        x = torch.ones(2, 8, 2, 2, 2, dtype=torch.bfloat16, device=device)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        numbers_4C = torch.ones(4, 8, device=device)
        y = FusedNorm.apply(x, *numbers_4C[:2], None, *numbers_4C[2:], 0.1, 1e-5, True, 1)  # type: ignore[no-untyped-call]
        return "" if bool((y == 1).all()) else "they compute something else here"
    except Exception as error:  # whatever a compiler and a driver raise
        return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
