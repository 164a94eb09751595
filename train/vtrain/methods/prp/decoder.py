"""PRP's modules after conv5: a decoder that reconstructs the clip at a slower pace, and a head that predicts the pace.

Yao et al.: Video playback rate perception for self-supervised spatio-temporal representation learning (CVPR 2020).
Sizes are for a map of 2 x 7 x 7; the first convolution of each is in the authors' code, not in the paper.
"""

from torch import Tensor, nn

from vtrain.backbones.conv import Conv3d, unit


def conv(channels: int, dim: int) -> nn.Sequential:
    """Return a convolution of 3 x 3 x 3 with batch norm and ReLU."""
    return unit(Conv3d(channels, dim, 3, padding=1), nn.BatchNorm3d(dim))


class Up(nn.Module):
    """Doubles the size along each axis and halves the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(channels, channels, 2, stride=2)
        self.conv = conv(channels, channels // 2)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        y: Tensor = self.conv(self.up(x_BCTHW))
        return y


class Decoder(nn.Module):
    """[B, dim, 2, 7, 7] -> [B, 3, 16 * slower, 112, 112], never negative: the last step is a ReLU."""

    def __init__(self, dim: int = 512, slower: int = 2) -> None:
        super().__init__()
        self.conv6 = conv(dim, dim)
        self.up1 = Up(dim)
        self.up2 = Up(dim // 2)
        self.up3 = Up(dim // 4)
        size = (slower, 2, 2)
        self.up4 = nn.ConvTranspose3d(dim // 8, dim // 8, size, stride=size)
        self.out = conv(dim // 8, 3)

    def forward(self, map_BCTHW: Tensor) -> Tensor:
        x = map_BCTHW
        for step in self.children():
            x = step(x)
        return x


class RateHead(nn.Module):
    """[B, dim, T, H, W] -> logits of the playback rates."""

    def __init__(self, dim: int = 512, rates: int = 4) -> None:
        super().__init__()
        self.conv6 = conv(dim, dim)
        self.fc = nn.Linear(dim, rates)

    def forward(self, map_BCTHW: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.conv6(map_BCTHW).mean((2, 3, 4)))
        return logits
