"""3D ResNet. Hara, Kataoka, Satoh: Can spatiotemporal 3D CNNs retrace the history of 2D CNNs? (CVPR 2018).

The "ResNet-18" of RSPNet and ASCNet: a 7x7x7 stem and a max-pool that halves the time too, so the last map
of 16 frames has one step of time; the blocks are R3D's, with shortcuts of type B.
"""

from torch import nn

from vtrain.backbones.conv import Conv3d, fan_out, stages, unit
from vtrain.backbones.r3d import block
from vtrain.backbones.stages import Backbone


def resnet3d(blocks: tuple[int, ...], width: int) -> Backbone:
    stem = Conv3d(3, width, 7, (1, 2, 2), 3, bias=False)
    pool = nn.MaxPool3d(3, stride=2, padding=1)
    net = Backbone(8 * width, conv1=unit(stem, nn.BatchNorm3d(width)), **stages(block, width, blocks, pool))
    fan_out(net)
    return net


def resnet3d18(width: int = 64) -> Backbone:
    return resnet3d((2, 2, 2, 2), width)


def resnet3d34(width: int = 64) -> Backbone:
    return resnet3d((3, 4, 6, 3), width)
