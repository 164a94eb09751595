"""The arithmetic of the maps, from the feature map of one clip to a number for each of its positions.

D outputs of a head, C channels, T time, H W height and width
"""

import torch
from torch import Tensor


def similarity(map_CTHW: Tensor, own_DC: Tensor, other_DC: Tensor, other_map_CTHW: Tensor) -> Tensor:
    """Return RSPNet's similarity activation map [T, H, W] of a clip (equation 4): ((W_j x_j)' W_i) F_i.

    `own` and `other` are the weights W of the linear heads of the clip and of the clip that it is compared with,
    without bias, and x is the mean of F. The mean of the map is the product (W_j x_j)' (W_i x_i), which is a cosine
    once both vectors are scaled to length 1.
    """
    compared_D = other_DC @ mean_of(other_map_CTHW)
    weight_C = own_DC.T @ compared_D
    return torch.einsum("c,cthw->thw", weight_C, map_CTHW)


def cosine(map_CTHW: Tensor, own_DC: Tensor, other_DC: Tensor, other_map_CTHW: Tensor) -> float:
    """Return the cosine of what the maps of `similarity` explain."""
    own_D, other_D = own_DC @ mean_of(map_CTHW), other_DC @ mean_of(other_map_CTHW)
    return float(torch.nn.functional.cosine_similarity(own_D, other_D, dim=0))


def attention(map_CTHW: Tensor) -> Tensor:
    """Return Pace's attention map [T, H, W]: the mean of the channels' squares (attention transfer)."""
    return map_CTHW.square().mean(0)


def activation(map_CTHW: Tensor) -> Tensor:
    """Return PRP's activation map [T, H, W]: the sum of the channels' absolute values; after a ReLU, of the values."""
    return map_CTHW.abs().sum(0)


def mean_of(map_CTHW: Tensor) -> Tensor:
    """Return the mean of each channel [C]."""
    return map_CTHW.mean((1, 2, 3))
