"""S3D and S3D-G. Xie et al.: Rethinking spatiotemporal feature learning for video understanding (ECCV 2018).

Three networks that share the Inception stages and differ in the rest:
s3dg       RSPNet's: a gate after each separable convolution; the stem halves the time in its 1x7x7 kernel, so every
           second frame is dropped before any kernel reads it (S3D strides in the 7x1x1 kernel)
s3dg_pace  Pace's, from S3D_HowTo100M: a full 3x7x7 stem, TensorFlow's "SAME" max-pools, a gate on every branch
s3d        torchvision's: no gates
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.backbones.conv import Conv3d, Norm, Size, sequence, unit
from vtrain.backbones.stages import Backbone

Gates = Literal["none", "separable", "all"]
Channels = tuple[int, int, int, int, int, int]  # of the 1x1 branch; reduced and out of two branches; after the pool

STAGES: dict[str, dict[str, Channels]] = {
    "conv3": {"b": (64, 96, 128, 16, 32, 32), "c": (128, 128, 192, 32, 96, 64)},
    "conv4": {
        "b": (192, 96, 208, 16, 48, 64),
        "c": (160, 112, 224, 24, 64, 64),
        "d": (128, 128, 256, 24, 64, 64),
        "e": (112, 144, 288, 32, 64, 64),
        "f": (256, 160, 320, 32, 128, 128),
    },
    "conv5": {"b": (256, 160, 320, 32, 128, 128), "c": (384, 192, 384, 48, 128, 128)},
}
slow_norm: Norm = partial(nn.BatchNorm3d, eps=1e-3, momentum=1e-3)  # as in RSPNet and torchvision


class Gate(nn.Linear):
    """Multiply each channel by a number in (0, 1) that depends on the means of all channels: the G of S3D-G."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        gate_BC = torch.sigmoid(super().forward(x_BCTHW.mean((2, 3, 4))))
        return x_BCTHW * gate_BC[:, :, None, None, None]


class SamePool(nn.Module):
    """TensorFlow's "SAME" max-pool, for maps without negative numbers: zeros pad the edges, the far edge more."""

    def __init__(self, size: Size, stride: Size) -> None:
        super().__init__()
        self.size = size
        self.stride = stride

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        pads: list[int] = []
        # While a graph is traced, sizes are symbols. The graph must fit every size, so no padding is skipped.
        known = all(type(length) is int for length in x_BCTHW.shape)
        for length, size, stride in zip(x_BCTHW.shape[2:], self.size, self.stride, strict=True):
            near, far = max(size - stride, 0) // 2, (max(size - stride, 0) + 1) // 2
            # Where a window that reaches over the end gives as many outputs, padding would only copy the map.
            needless = known and near == 0 and -((size - length) // stride) == -((size - length - far) // stride)
            pads = [near, 0 if needless else far, *pads]  # F.pad counts from the last axis
        x = F.pad(x_BCTHW, pads) if any(pads) else x_BCTHW
        return F.max_pool3d(x, self.size, self.stride, ceil_mode=True)


def point(channels: int, dim: int, norm: Norm) -> nn.Sequential:
    return unit(Conv3d(channels, dim, 1, bias=False), norm(dim))


def separable(
    channels: int, dim: int, norm: Norm, *, gate: bool, size: int = 3, strides: tuple[Size, Size] | None = None
) -> nn.Sequential:
    """Return a 1 x k x k unit, a k x 1 x 1 unit and, if asked for, a gate; `strides` are those of the two units."""
    across, along = strides or ((1, 1, 1), (1, 1, 1))
    half = size // 2
    return sequence(
        spatial=unit(Conv3d(channels, dim, (1, size, size), across, (0, half, half), bias=False), norm(dim)),
        temporal=unit(Conv3d(dim, dim, (size, 1, 1), along, (half, 0, 0), bias=False), norm(dim)),
        gate=Gate(dim) if gate else None,
    )


class Inception(nn.Module):
    """Four branches side by side, whose channels are joined."""

    def __init__(self, channels: int, dims: Channels, norm: Norm, gates: Gates) -> None:
        super().__init__()
        alone, in1, out1, in2, out2, pooled = dims
        gate = gates != "none"

        def last(dim: int) -> Gate | None:
            return Gate(dim) if gates == "all" else None

        self.branch0 = sequence(point=point(channels, alone, norm), gate=last(alone))
        self.branch1 = sequence(reduce=point(channels, in1, norm), separable=separable(in1, out1, norm, gate=gate))
        self.branch2 = sequence(reduce=point(channels, in2, norm), separable=separable(in2, out2, norm, gate=gate))
        pool = nn.MaxPool3d(3, stride=1, padding=1)
        self.branch3 = sequence(pool=pool, point=point(channels, pooled, norm), gate=last(pooled))
        self.dim = alone + out1 + out2 + pooled

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return torch.cat([branch(x_BCTHW) for branch in self.children()], dim=1)


def assemble(stem: nn.Module, pools: list[nn.Module], norm: Norm, gates: Gates) -> Backbone:
    """Return the backbone whose conv1 is the stem and whose other stages each begin with a pool."""
    gate, channels = gates != "none", 192
    stages: dict[str, nn.Module] = {
        "conv1": stem,
        "conv2": sequence(pool=pools[0], b=point(64, 64, norm), c=separable(64, channels, norm, gate=gate)),
    }
    for pool, (name, mixed) in zip(pools[1:], STAGES.items(), strict=True):
        made: dict[str, nn.Module] = {"pool": pool}
        for letter, dims in mixed.items():
            inception = Inception(channels, dims, norm, gates)
            made[letter], channels = inception, inception.dim
        stages[name] = sequence(**made)
    return Backbone(channels, **stages)


def padded_pools() -> list[nn.Module]:
    flat = [nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)) for _ in range(2)]
    return [*flat, nn.MaxPool3d(3, 2, 1), nn.MaxPool3d(2, 2)]


def s3dg(gates: Literal["none", "separable"] = "separable") -> Backbone:
    """Return RSPNet's S3D-G; without gates it is RSPNet's S3D."""
    strides = ((2, 2, 2), (1, 1, 1))
    stem = separable(3, 64, slow_norm, gate=gates != "none", size=7, strides=strides)
    return assemble(stem, padded_pools(), slow_norm, gates)


def s3dg_pace() -> Backbone:
    """Return Pace's S3D-G."""
    stem = unit(Conv3d(3, 64, (3, 7, 7), 2, (1, 3, 3), bias=False), nn.BatchNorm3d(64))
    flat: list[nn.Module] = [SamePool((1, 3, 3), (1, 2, 2)) for _ in range(2)]
    pools = [*flat, SamePool((3, 3, 3), (2, 2, 2)), SamePool((2, 2, 2), (2, 2, 2))]
    return assemble(stem, pools, nn.BatchNorm3d, "all")


def s3d() -> Backbone:
    """Return torchvision's s3d."""
    stem = separable(3, 64, slow_norm, gate=False, size=7, strides=((1, 2, 2), (2, 1, 1)))
    return assemble(stem, padded_pools(), slow_norm, "none")
