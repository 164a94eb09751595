"""R3D: residual blocks of 3x3x3 convolutions behind a 3x7x7 stem, without a max-pool.

Tran et al.: A closer look at spatiotemporal convolutions for action recognition (CVPR 2018). Two depths are in use:
VCOP, PRP and Pace have one block a stage (Pace calls it R3D-18), torchvision has two.
"""

from torch import nn

from vtrain.backbones.conv import Conv3d, Residual, fan_out, sequence, stages, unit
from vtrain.backbones.stages import Backbone


def block(channels: int, dim: int, stride: int) -> Residual:
    shortcut = None
    if stride != 1 or channels != dim:
        shortcut = sequence(conv=Conv3d(channels, dim, 1, stride, bias=False), bn=nn.BatchNorm3d(dim))
    first = Conv3d(channels, dim, 3, stride, padding=1, bias=False)
    return Residual(dim, first, Conv3d(dim, dim, 3, padding=1, bias=False), shortcut)


def r3d(width: int = 64, blocks: tuple[int, ...] = (1, 1, 1, 1)) -> Backbone:
    """Return VCOP's R3D; blocks of (2, 2, 2, 2) make it torchvision's, except for the initialisation."""
    stem = Conv3d(3, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
    return Backbone(8 * width, conv1=unit(stem, nn.BatchNorm3d(width)), **stages(block, width, blocks))


def r3d18(width: int = 64) -> Backbone:
    """Return torchvision's r3d_18."""
    net = r3d(width, (2, 2, 2, 2))
    fan_out(net)
    return net


def tiny(width: int = 16) -> Backbone:
    """Return an R3D for a laptop, with a quarter of the channels and a sixteenth of the work."""
    return r3d(width)
