"""Cut the boxes out of stored frames, resize them to the network's square, and flip them.

M clips, K boxes a clip, R = M x K rows, T time, C channels, H W stored, S side of the square. The result is that of
F.interpolate (bilinear, no antialias) on each box alone: no pixel outside of a box has an effect.
A box of S x S pixels is copied bit by bit.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vtrain.data.augment.config import Array
from vtrain.data.augment.to_device import send


def crop(clips_MTHWC: Tensor, box_R4: Array, flip_R: Array, size: int) -> Tensor:
    """Return float pixels [R, T, C, S, S] from 0 to 255, contiguous; the rows of a clip are contiguous."""
    # Launches limit an accelerator, and memory limits a CPU: there, grid_sample takes twice as long as F.interpolate,
    # and an index for each pixel takes 80 times as long as a slice.
    cropped = crop_each if clips_MTHWC.device.type == "cpu" else crop_at_once
    return cropped(clips_MTHWC, box_R4, flip_R, size)


def crop_each(clips_MTHWC: Tensor, box_R4: Array, flip_R: Array, size: int) -> Tensor:
    """Crop box by box, for CPUs."""
    clips, frames, _, _, channels = clips_MTHWC.shape
    out_RTCSS = clips_MTHWC.new_empty((len(box_R4), frames, channels, size, size), dtype=torch.float32)
    boxes, per_clip = box_R4.astype(int).tolist(), len(box_R4) // clips
    for row, ((top, left, height, width), flipped) in enumerate(zip(boxes, flip_R, strict=True)):
        box_THWC = clips_MTHWC[row // per_clip, :, top : top + height, left : left + width]
        # Moving bytes first and then converting them takes a third of the time of both at once.
        pixels_TCHW = box_THWC.permute(0, 3, 1, 2).contiguous().float()
        if (height, width) != (size, size):
            # With the frames as channels: for three channels, torch takes a slower path when it has one thread.
            folded_1NHW = pixels_TCHW.flatten(0, 1)[None]
            resized_1NSS = F.interpolate(folded_1NHW, (size, size), mode="bilinear", align_corners=False)
            pixels_TCHW = resized_1NSS.view(frames, channels, size, size)
        out_RTCSS[row] = pixels_TCHW.flip(-1) if flipped else pixels_TCHW
    return out_RTCSS


def crop_at_once(clips_MTHWC: Tensor, box_R4: Array, flip_R: Array, size: int) -> Tensor:
    """Crop all boxes in a fixed number of launches, for accelerators."""
    box_R5 = np.column_stack((box_R4, flip_R)).astype(np.float32)
    clip_R = np.arange(len(box_R4)) // (len(box_R4) // len(clips_MTHWC))
    exact = np.flatnonzero((box_R4[:, 2:] == size).all(1))
    if len(exact) == len(box_R4):
        return _copied(clips_MTHWC, clip_R, box_R5, size)
    out_RTCSS = _resized(clips_MTHWC, box_R5, size)
    if len(exact):
        pixels = _copied(clips_MTHWC, clip_R[exact], box_R5[exact], size)
        out_RTCSS.index_copy_(0, send(exact, out_RTCSS.device), pixels)
    return out_RTCSS


def _copied(clips_MTHWC: Tensor, clip_R: Array, box_R5: Array, size: int) -> Tensor:
    """Return the pixels of boxes that are S x S."""
    device = clips_MTHWC.device
    row_R6 = send(np.column_stack((clip_R, box_R5)).astype(np.int64), device).view(-1, 6, 1, 1, 1)
    clip, top, left, _, _, flipped = row_R6.unbind(1)
    steps = torch.arange(size, device=device)
    rows, columns = (top + steps.view(-1, 1)), left + torch.where(flipped > 0, size - 1 - steps, steps)
    frames = torch.arange(clips_MTHWC.shape[1], device=device).view(-1, 1, 1)
    pixels_RTSSC = clips_MTHWC[clip, frames, rows, columns]
    return pixels_RTSSC.permute(0, 1, 4, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)


def _resized(clips_MTHWC: Tensor, box_R5: Array, size: int) -> Tensor:
    """Resize all boxes by one grid_sample, with the frames as channels and the boxes of a clip below each other."""
    clips, frames, height, width, channels = clips_MTHWC.shape
    pixels_MTCHW = clips_MTHWC.permute(0, 1, 4, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)
    top, left, tall, wide, flipped = send(box_R5, clips_MTHWC.device).view(-1, 5, 1).unbind(1)
    steps = torch.arange(size, device=clips_MTHWC.device)
    y_RS = _coordinates(steps, top, tall, size, height)
    x_RS = _coordinates(torch.where(flipped > 0, size - 1 - steps, steps), left, wide, size, width)
    square = (-1, size, size)
    grid_RSS2 = torch.stack((x_RS[:, None, :].expand(square), y_RS[:, :, None].expand(square)), dim=-1)
    boxes_MYS2 = grid_RSS2.view(clips, -1, size, 2)
    sampled = F.grid_sample(pixels_MTCHW.flatten(1, 2), boxes_MYS2, padding_mode="border", align_corners=True)
    boxes_MTCKSS = sampled.view(clips, frames, channels, -1, size, size)
    return boxes_MTCKSS.movedim(3, 1).reshape(-1, frames, channels, size, size)


def _coordinates(steps: Tensor, start: Tensor, length: Tensor, size: int, full: int) -> Tensor:
    """Return coordinates from -1 to 1 in an axis of `full` pixels, for steps in [start, start + length)."""
    inside = torch.minimum(((steps + 0.5) * (length / size) - 0.5).clamp_min(0), length - 1)
    return (start + inside) * (2 / max(full - 1, 1)) - 1
