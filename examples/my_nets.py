"""A backbone of your own: any function that returns a module from clips to a feature map or a vector.

    cp .../examples/my_nets.py .        # into an empty folder
    vprep synth --out videos
    vprep shard videos --out data_shards
    vtrain rspnet --backbone my_nets:build --shards data_shards --recipe tiny steps=100

The module turns clips [B, 3, T, H, W] into a map [B, D, T', H', W'] or into a vector [B, D]. The arguments of the
function are the backbone's settings. An installed package can give the function a plain name in its pyproject.toml:

    [project.entry-points."playspeed.backbones"]
    mobile3d = "my_nets:build"
"""

import torch
from torch import Tensor, nn


def unit(channels: int, dim: int, kernel: tuple[int, int, int], stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; the stride is over space."""
    pad = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    conv = nn.Conv3d(channels, dim, kernel, (1, stride, stride), pad, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(dim), nn.ReLU())


class Block(nn.Module):
    """An inverted residual block: widen, convolve over space and then over time channel by channel, narrow."""

    def __init__(self, channels: int, dim: int, stride: int, widen: int = 3) -> None:
        super().__init__()
        inner = widen * channels
        self.convolve = nn.Sequential(
            unit(channels, inner, (1, 1, 1)),
            unit(inner, inner, (1, 3, 3), stride, groups=inner),
            unit(inner, inner, (3, 1, 1), groups=inner),
        )
        self.narrow = nn.Sequential(nn.Conv3d(inner, dim, 1, bias=False), nn.BatchNorm3d(dim))
        self.is_residual = stride == 1 and channels == dim

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.narrow(self.convolve(x))
        return x + y if self.is_residual else y


def build(width: int = 16) -> nn.Module:
    """Return a small (2+1)D MobileNet: 3 x 16 x 112 x 112 becomes a map of 8 * width x 8 x 7 x 7."""
    dims = [width, 2 * width, 2 * width, 4 * width, 4 * width, 8 * width]
    strides = [2, 1, 2, 1, 2]
    blocks = [Block(*step) for step in zip(dims, dims[1:], strides, strict=False)]
    return nn.Sequential(unit(3, width, (3, 3, 3), stride=2), nn.AvgPool3d((2, 1, 1)), *blocks)


def torchvision_mvit() -> nn.Module:
    """Return torchvision's MViT-v1-B without its head: a vector of 768 numbers for clips of 16 x 224 x 224."""
    from torchvision.models.video import mvit_v1_b

    net: nn.Module = mvit_v1_b()
    net.head = nn.Identity()
    return net


def torchvision_r3d() -> nn.Module:
    """Return torchvision's R3D-18 without pool and head: a feature map with 512 channels."""
    from torchvision.models.video import r3d_18

    net = r3d_18()
    return nn.Sequential(net.stem, net.layer1, net.layer2, net.layer3, net.layer4)


if __name__ == "__main__":
    print(tuple(build()(torch.zeros(1, 3, 16, 112, 112)).shape))
