"""Augmentation the slow way: formulas for one clip, one frame and one pixel. Pixels are from 0 to 1."""

import colorsys
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from vtrain.data.augment.config import AugmentConfig

Drawn = dict[str, Tensor]
Frames = list[Tensor]  # [C, H, W]


def slow_grey(frame: Tensor) -> Tensor:
    red, green, blue = frame
    return (0.2989 * red + 0.587 * green + 0.114 * blue).expand(3, -1, -1)


def slow_hue(frame: Tensor, turns: float) -> Tensor:
    out = torch.empty_like(frame)
    for y in range(frame.shape[1]):
        for x in range(frame.shape[2]):
            hue, saturation, value = colorsys.rgb_to_hsv(*frame[:, y, x].double().tolist())
            out[:, y, x] = torch.tensor(colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value))
    return out


def slow_jitter(frames: Frames, factors: list[float], order: list[int]) -> Frames:
    """Apply the same factors to all frames; contrast is around the mean of all of them."""
    for op in order:
        factor = factors[op]
        if op == 0:
            frames = [(factor * frame).clamp(0, 1) for frame in frames]
        elif op == 1:
            mean = torch.stack([slow_grey(frame).mean() for frame in frames]).mean()
            frames = [(factor * frame + (1 - factor) * mean).clamp(0, 1) for frame in frames]
        elif op == 2:
            frames = [(factor * frame + (1 - factor) * slow_grey(frame)).clamp(0, 1) for frame in frames]
        else:
            frames = [slow_hue(frame, factor) for frame in frames]
    return frames


def slow_blur(frame: Tensor, sigma: float, kernel: int) -> Tensor:
    half = kernel // 2
    line = torch.tensor([np.exp(-((x / sigma) ** 2) / 2) for x in range(-half, half + 1)])
    window = (line[:, None] * line[None, :] / line.sum() ** 2).float()
    padded = pad(frame[None], (half, half, half, half), mode="reflect")[0]
    out = torch.zeros_like(frame)
    for y in range(kernel):
        for x in range(kernel):
            out += window[y, x] * padded[:, y : y + frame.shape[1], x : x + frame.shape[2]]
    return out


def slow_solarise(frame: Tensor, threshold: float) -> Tensor:
    return torch.where(frame >= threshold, 1 - frame, frame)


def slow(config: AugmentConfig, clip: Tensor, drawn: dict[str, Any], box: list[float], flipped: bool) -> Tensor:
    """Return one box of one clip, [C, T, S, S], from 0 to 1."""
    top, left, height, width = map(int, box)
    cut = clip[:, top : top + height, left : left + width].permute(0, 3, 1, 2) / 255
    frames = list(interpolate(cut, (config.size, config.size), mode="bilinear", align_corners=False))
    for op in config.order:
        if op == "grey" and drawn["grey"]:
            frames = [slow_grey(frame) for frame in frames]
        elif op == "jitter" and config.jitter_per == "clip":
            frames = slow_jitter(frames, drawn["jitter"][0].tolist(), drawn["jitter_order"][0].tolist())
        elif op == "jitter":
            numbers = zip(frames, drawn["jitter"].tolist(), drawn["jitter_order"].tolist(), strict=True)
            frames = [slow_jitter([frame], factors, order)[0] for frame, factors, order in numbers]
        elif op == "blur" and drawn["sigma"] > 0:
            frames = [slow_blur(frame, float(drawn["sigma"]), config.blur_kernel) for frame in frames]
        elif op == "solarise" and drawn["solarise"]:
            frames = [slow_solarise(frame, config.solarise_threshold) for frame in frames]
        elif op == "flip" and flipped:
            frames = [frame.flip(-1) for frame in frames]
    return torch.stack(frames, dim=1)


def slow_batch(config: AugmentConfig, pixels: Tensor, batch: Drawn) -> Tensor:
    """Return all boxes of all clips of a batch, [B, N x K, C, T, S, S]."""
    out = []
    for sample in range(pixels.shape[0]):
        for view in range(pixels.shape[1]):
            drawn = {name: array[sample, view] for name, array in batch.items()}
            boxes = zip(drawn["box"].tolist(), drawn["flip"].tolist(), strict=True)
            out += [slow(config, pixels[sample, view], drawn, box, flipped) for box, flipped in boxes]
    return torch.stack(out).unflatten(0, (len(pixels), -1))
