"""C3D with batch norm. Tran et al.: Learning spatiotemporal features with 3D convolutional networks (ICCV 2015).

The form in which VCOP, PRP, Pace and RSPNet use it: eight convolutions with bias, no pool5, no fc6 and fc7.
"""

from torch import nn

from vtrain.backbones.conv import Conv3d, sequence, unit
from vtrain.backbones.stages import Backbone


def c3d(width: int = 64) -> Backbone:
    def conv(channels: int, dim: int) -> nn.Sequential:
        return unit(Conv3d(channels, dim, 3, padding=1), nn.BatchNorm3d(dim))

    w = width
    return Backbone(
        8 * w,
        conv1=sequence(a=conv(3, w)),
        conv2=sequence(pool=nn.MaxPool3d((1, 2, 2)), a=conv(w, 2 * w)),
        conv3=sequence(pool=nn.MaxPool3d(2), a=conv(2 * w, 4 * w), b=conv(4 * w, 4 * w)),
        conv4=sequence(pool=nn.MaxPool3d(2), a=conv(4 * w, 8 * w), b=conv(8 * w, 8 * w)),
        conv5=sequence(pool=nn.MaxPool3d(2), a=conv(8 * w, 8 * w), b=conv(8 * w, 8 * w)),
    )
