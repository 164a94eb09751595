"""Convolutions that 2D kernels can compute, and the blocks and stages that are built from them.

B batch, C channels, T time, H W height and width, S = H * W
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.backbones.batch_norm import normalised

MOST_STAGES, MOST_BLOCKS = 16, 200
Kernels = Literal["3d", "2d"]
Size = tuple[int, int, int]  # over time, height, width
Norm = Callable[[int], nn.Module]


class Conv3d(nn.Conv3d):
    """nn.Conv3d whose factorised kernels can be computed in 2D: the same sums, and the same names in a state dict.

    A kernel (k, 1, 1) is a 2D convolution of the T x S plane with a kernel k high; (1, k, k) is one of each frame.
    Both planes are views, the frames only in channels_last_3d. A convolution whose planes would be copies stays 3D.

    On a CPU, two kinds of convolution never reach oneDNN, since its weight gradient writes outside its memory for some
    sizes (benchmarks/kernel_safety.py finds them; torch 2.13 has oneDNN 3.12):
    - A stride along an axis on which the kernel has one tap, as in the shortcuts of R(2+1)D and TSM (AVX2, AVX-512).
      The positions that the stride skips are sliced away first, and the kernel then takes every position.
    - A 3D kernel that steps over time and has more padding there than one step, as in S3D's stem (AVX-512). The clip
      is padded first.
    """

    # One thread of a CPU, channels_last_3d, 2 clips of 8 x 64 x 64: S3D-G takes 39 ms instead of 76, R(2+1)D 140
    # instead of 195, also because torch's 3D kernels return (k, 1, 1) in the other layout there.
    kernels: Kernels = "2d"

    def forward(self, x_BCTHW: Tensor, more_in: int = 0, more_out: int = 0) -> Tensor:
        """Return the convolution, of `more_in` further channels that are ignored and with `more_out` that are 0."""
        on_cpu = x_BCTHW.device.type == "cpu"
        if self.kernels == "3d" and not (on_cpu and torch.is_grad_enabled()):
            return super().forward(x_BCTHW)
        weight = self.weight
        if more_in or more_out:
            weight = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, more_in, 0, more_out))
        stride = cast(Size, self.stride)
        if on_cpu:
            x_BCTHW, stride = self._sliced(x_BCTHW)
        (depth, *plane), (step, *steps) = self.kernel_size, stride
        pad, *pads = map(int, self.padding)
        if self.kernels == "2d" and (plane, steps, pads) == ([1, 1], [1, 1], [0, 0]):
            return self._over_time(x_BCTHW, weight, step, pad)
        last = torch.channels_last_3d
        if self.kernels == "2d" and (depth, step, pad) == (1, 1, 0) and x_BCTHW.is_contiguous(memory_format=last):
            return self._over_frames(x_BCTHW, weight, steps, pads)
        if on_cpu and pad > step > 1:
            x_BCTHW, pad = F.pad(x_BCTHW, (0, 0, 0, 0, pad, pad)), 0
        return F.conv3d(x_BCTHW, weight, self.bias, stride, (pad, *pads))

    def _sliced(self, x_BCTHW: Tensor) -> tuple[Tensor, Size]:
        """Return the positions that a stride does not skip on the axes with one tap, and the strides that are left."""
        axes = zip(self.kernel_size, self.stride, self.padding, strict=True)
        skips = [stride if (size, pad) == (1, 0) else 1 for size, stride, pad in axes]
        if max(skips) == 1:
            return x_BCTHW, cast(Size, self.stride)
        time, height, width = (step // skip for step, skip in zip(self.stride, skips, strict=True))
        if x_BCTHW.is_contiguous(memory_format=torch.channels_last_3d):
            # Slices of [B, T, H, W, C] keep the layout, in the gradient too.
            kept = x_BCTHW.movedim(1, 4)[:, :: skips[0], :: skips[1], :: skips[2]].contiguous().movedim(4, 1)
        else:
            kept = x_BCTHW[:, :, :: skips[0], :: skips[1], :: skips[2]].contiguous()
        return kept, (time, height, width)

    def _over_frames(self, x_BCTHW: Tensor, weight: Tensor, steps: list[int], pads: list[int]) -> Tensor:
        frames = x_BCTHW.transpose(1, 2)
        y = F.conv2d(frames.flatten(0, 1), weight.squeeze(2), self.bias, steps, pads)
        return y.view(*frames.shape[:2], *y.shape[1:]).transpose(1, 2)

    def _over_time(self, x_BCTHW: Tensor, weight: Tensor, step: int, pad: int) -> Tensor:
        y_BCTS = F.conv2d(x_BCTHW.flatten(3), weight.squeeze(4), self.bias, (step, 1), (pad, 0))
        return y_BCTS.view(*y_BCTS.shape[:3], *x_BCTHW.shape[3:])


def use_kernels(net: nn.Module, kernels: Kernels) -> None:
    """Choose how the factorised convolutions of `net` are computed."""
    for module in net.modules():
        if isinstance(module, Conv3d):
            module.kernels = kernels


def sequence(**steps: nn.Module | None) -> nn.Sequential:
    """Return the modules one after another, by name, without those that are None."""
    return nn.Sequential(OrderedDict((name, step) for name, step in steps.items() if step is not None))


class Unit(nn.Sequential):
    """A convolution, its batch norm and a ReLU."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__(OrderedDict(conv=conv, bn=norm, relu=nn.ReLU(inplace=True)))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        conv, norm, _ = self
        return normalised(norm, conv(x_BCTHW))


def unit(conv: nn.Module, norm: nn.Module) -> nn.Sequential:
    """Return a convolution, its batch norm and a ReLU."""
    return Unit(conv, norm)


class Residual(nn.Module):
    """The basic residual block: two convolutions, and the input added before the last ReLU."""

    def __init__(self, dim: int, conv1: nn.Module, conv2: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = conv1
        self.bn1 = nn.BatchNorm3d(dim)
        self.conv2 = conv2
        self.bn2 = nn.BatchNorm3d(dim)
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        y = normalised(self.bn1, self.conv1(x_BCTHW))
        return normalised(self.bn2, self.conv2(y), self.shortcut(x_BCTHW))


Block = Callable[[int, int, int], Residual]  # channels in, channels out, stride


def stages(block: Block, width: int, blocks: tuple[int, ...], pool: nn.Module | None = None) -> dict[str, nn.Module]:
    """Return conv2 to conv5 of a residual network; each has twice the channels and half the size of its predecessor."""
    if len(blocks) > MOST_STAGES or not all(1 <= count <= MOST_BLOCKS for count in blocks):
        raise ValueError(f"blocks are {blocks}; at most {MOST_STAGES} numbers from 1 to {MOST_BLOCKS} are needed")
    made: dict[str, nn.Module] = {}
    before = width
    for index, count in enumerate(blocks):
        after = width << index
        ins, strides = [before, *[after] * (count - 1)], [2 if index else 1, *[1] * (count - 1)]
        steps = {str(n): block(ins[n], after, strides[n]) for n in range(count)}
        made[f"conv{index + 2}"] = sequence(pool=pool if index == 0 else None, **steps)
        before = after
    return made


def fan_out(net: nn.Module) -> None:
    """Initialise by the number of outputs of each convolution (He et al., 2015), as torchvision and Hara do."""
    for module in net.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
