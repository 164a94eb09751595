"""PRP's motion attention (section 3.2): where there is much motion, the reconstruction counts up to 2.5 times as much.

The window of a clip is divided into `speed` segments, each as long as the clip. Each segment has a map of its motion,
which weights the reconstructed frames of the segment's time.

released   4 frames of a segment are compared (of 16: 0, 5, 10, 15), in each colour on its own; the least and the most
           motion of each colour in each segment become 0.8 and 2. A segment without any motion has weight 1, a colour
           without any motion weight 2. Frames have the map of their segment.
paper      All neighbours in a segment are compared, in all colours together; the least and the most motion of a whole
           sample become 0.8 and 2, and the map of frames between two segments is interpolated.
none       All weights are 1.

Maps are means over squares of 28 x 28 pixels of 112, 7 apart: here a quarter of the side, a sixteenth apart.

B batch   S segments   T frames   C channels   H W height and width, h w of the maps
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vtrain.methods.prp import Mask, compared

LEAST, MOST = 0.8, 2.0  # lambda_1 and lambda_2 of section 4.1
EPSILON = 1e-6  # of the authors' code


def interpolated(frames_BTCHW: Tensor, position_BT: Tensor) -> Tensor:
    """Return the frames at these positions, which may lie between two frames."""
    before_BT = position_BT.floor()
    rows, last = torch.arange(len(position_BT), device=position_BT.device)[:, None], frames_BTCHW.shape[1] - 1
    share_BT111 = (position_BT - before_BT).to(frames_BTCHW.dtype)[:, :, None, None, None]
    before_BT = before_BT.long()
    return torch.lerp(frames_BTCHW[rows, before_BT], frames_BTCHW[rows, (before_BT + 1).clamp(max=last)], share_BT111)


def motion_mask(motion_BTCHW: Tensor, speed_B: Tensor, mask: Mask, frames: int, reconstructed: int) -> Tensor:
    """Return the weights [B, reconstructed, C or 1, H, W] of the reconstruction, for all speeds at once.

    `motion_BTCHW` holds the compared frames of all segments; a sample has as many segments as its speed.
    """
    shape = motion_BTCHW.shape
    motion_BSTCHW = motion_BTCHW.reshape(shape[0], -1, len(compared(mask, frames)), *shape[2:])
    moved_BSCHW = motion_BSTCHW.diff(dim=2).square().mean(2)
    if mask == "paper":
        moved_BSCHW = moved_BSCHW.sum(2, keepdim=True)
    height, width = shape[3:]
    kernel, stride = (height // 4, width // 4), (max(1, height // 16), max(1, width // 16))
    maps_BSChw = _each(moved_BSCHW, lambda maps: F.avg_pool2d(maps, kernel, stride))
    levels_BSChw = _by_segment(maps_BSChw) if mask == "released" else _by_sample(maps_BSChw, speed_B)
    size = (height, width)
    large_BSCHW = _each(levels_BSChw, lambda maps: F.interpolate(maps, size, mode="bilinear", align_corners=False))
    number_T = torch.arange(reconstructed, device=speed_B.device)
    if mask == "released":
        position_BT = (number_T * speed_B[:, None] / reconstructed).floor()
    else:
        # As trilinear interpolation does from segments to frames (align_corners off).
        position_BT = (
            ((number_T + 0.5) * speed_B[:, None] / reconstructed - 0.5).clamp_min(0).minimum(speed_B[:, None] - 1)
        )
    return interpolated(large_BSCHW, position_BT)


def _each(maps_BSCHW: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the maps, each changed by a function for batches of pictures."""
    changed = change(maps_BSCHW.flatten(0, 1))
    return changed.view(*maps_BSCHW.shape[:2], *changed.shape[1:])


def _by_segment(maps_BSChw: Tensor) -> Tensor:
    least, most = maps_BSChw.amin((3, 4), keepdim=True), maps_BSChw.amax((3, 4), keepdim=True)
    share = (maps_BSChw - least + EPSILON) / (most - least + EPSILON)
    return torch.where((most == least).all(2, keepdim=True), 1.0, LEAST + (MOST - LEAST) * share)


def _by_sample(maps_BSChw: Tensor, speed_B: Tensor) -> Tensor:
    number_S = torch.arange(maps_BSChw.shape[1], device=speed_B.device)
    empty = (number_S >= speed_B[:, None])[:, :, None, None, None]
    least = maps_BSChw.masked_fill(empty, torch.inf).amin((1, 2, 3, 4), keepdim=True)
    most = maps_BSChw.masked_fill(empty, -torch.inf).amax((1, 2, 3, 4), keepdim=True)
    share = (maps_BSChw - least) / (most - least)
    return torch.where(most == least, 1.0, LEAST + (MOST - LEAST) * share)
