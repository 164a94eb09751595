"""R(2+1)D: R3D with each convolution split into one over space and one over time.

Tran et al.: A closer look at spatiotemporal convolutions for action recognition (CVPR 2018). VCOP's version, which
PRP, Pace and RSPNet share, has one block a stage, splits the shortcuts too, and computes the number of channels in
between for each convolution; torchvision's has two blocks, plain shortcuts, and one such number a block. Weights fit
only one of them.
"""

from torch import Tensor, nn

from vtrain.backbones.batch_norm import normalised, padding
from vtrain.backbones.conv import Conv3d, Residual, fan_out, sequence, stages, unit
from vtrain.backbones.stages import Backbone


def between(channels: int, dim: int, time: int, side: int) -> int:
    """Return how many channels in between keep the number of weights of a `time` x `side` x `side` kernel."""
    return time * side * side * channels * dim // (side * side * channels + time * dim)


class Factorised(nn.Module):
    """1 x k x k convolution, batch norm, ReLU, k x 1 x 1 convolution."""

    def __init__(
        self, channels: int, dim: int, *, time: int = 3, side: int = 3, stride: tuple[int, int] = (1, 1), mid: int = 0
    ) -> None:
        super().__init__()
        mid = mid or between(channels, dim, time, side)
        over_time, across = stride
        size, pad = (1, side, side), (0, side // 2, side // 2)
        self.spatial = Conv3d(channels, mid, size, (1, across, across), pad, bias=False)
        self.bn = nn.BatchNorm3d(mid)
        self.relu = nn.ReLU(inplace=True)
        self.temporal = Conv3d(mid, dim, (time, 1, 1), (over_time, 1, 1), (time // 2, 0, 0), bias=False)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        more = padding(self.bn, x_BCTHW) if self.spatial.kernels == "2d" else 0
        y: Tensor = self.temporal(normalised(self.bn, self.spatial(x_BCTHW, more_out=more)), more_in=more)
        return y


def block(channels: int, dim: int, stride: int) -> Residual:
    shortcut = None
    if stride != 1 or channels != dim:
        split = Factorised(channels, dim, time=1, side=1, stride=(stride, stride))
        shortcut = sequence(conv=split, bn=nn.BatchNorm3d(dim))
    first = Factorised(channels, dim, stride=(stride, stride))
    return Residual(dim, first, Factorised(dim, dim), shortcut)


def r2plus1d(width: int = 64, blocks: tuple[int, ...] = (1, 1, 1, 1)) -> Backbone:
    """Return VCOP's R(2+1)D."""
    stem = Factorised(3, width, side=7, stride=(1, 2))
    return Backbone(8 * width, conv1=unit(stem, nn.BatchNorm3d(width)), **stages(block, width, blocks))


def block18(channels: int, dim: int, stride: int) -> Residual:
    mid = between(channels, dim, 3, 3)
    shortcut = None
    if stride != 1 or channels != dim:
        shortcut = sequence(conv=Conv3d(channels, dim, 1, stride, bias=False), bn=nn.BatchNorm3d(dim))
    first = Factorised(channels, dim, stride=(stride, stride), mid=mid)
    return Residual(dim, first, Factorised(dim, dim, mid=mid), shortcut)


def r2plus1d18(width: int = 64) -> Backbone:
    """Return torchvision's r2plus1d_18."""
    # torchvision has 45 channels in between for a width of 64; `between` would give 83.
    stem = Factorised(3, width, side=7, stride=(1, 2), mid=45 * width // 64)
    net = Backbone(8 * width, conv1=unit(stem, nn.BatchNorm3d(width)), **stages(block18, width, (2, 2, 2, 2)))
    fan_out(net)
    return net
