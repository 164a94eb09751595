"""TSM: a 2D ResNet-18 in which neighbouring frames exchange channels. Lin, Gan, Han: TSM (ICCV 2019).

The network of RSPNet's ablation: the shift comes before the first convolution of each block, and an eighth of the
channels goes each way. The 2D network is written as a 3D one with kernels of one frame, so that time stays an axis of
its own and any number of frames fits. The authors' release instead reshapes [B, C, T, H, W] to
[B * T, 3, H, W] as it lies in memory, which mixes time with colour.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.backbones.conv import Conv3d, Residual, fan_out, sequence, stages, unit
from vtrain.backbones.stages import Backbone


class Shift(nn.Module):
    """Take an eighth of the channels from the next frame and an eighth from the previous one; zeros at the ends."""

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        channels = x_BCTHW.shape[1]
        fold = channels // 8
        # Writing into a map of zeros takes three times as long forward and backward, and its gradient is not in
        # channels-last. Neither is the gradient of three slices.
        ahead, behind, stay = x_BCTHW.split_with_sizes([fold, fold, channels - 2 * fold], dim=1)
        return torch.cat([F.pad(ahead, (0, 0, 0, 0, -1, 1)), F.pad(behind, (0, 0, 0, 0, 1, -1)), stay], dim=1)


def conv(channels: int, dim: int, side: int, stride: int = 1) -> Conv3d:
    return Conv3d(channels, dim, (1, side, side), (1, stride, stride), (0, side // 2, side // 2), bias=False)


def block(channels: int, dim: int, stride: int) -> Residual:
    shortcut = None
    if stride != 1 or channels != dim:
        shortcut = sequence(conv=conv(channels, dim, 1, stride), bn=nn.BatchNorm3d(dim))
    return Residual(dim, sequence(shift=Shift(), conv=conv(channels, dim, 3, stride)), conv(dim, dim, 3), shortcut)


def tsm18(width: int = 64) -> Backbone:
    pool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
    stem = unit(conv(3, width, 7, 2), nn.BatchNorm3d(width))
    net = Backbone(8 * width, conv1=stem, **stages(block, width, (2, 2, 2, 2), pool))
    fan_out(net)
    return net
