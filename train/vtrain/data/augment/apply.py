"""Turn stored clips into the input of a network, in batches and on their device, with parameters drawn by `config`.

B samples, N views, M = B x N clips, K boxes a clip, R = M x K rows, T time, C channels, H W stored, S side.
The parameters are on the host, which decides by them which op applies to which clip. So no step draws or waits.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vprep.errors import UsageError
from vtrain.data.augment import colour
from vtrain.data.augment.colour import WHITE
from vtrain.data.augment.config import Array, AugmentConfig, Normalise
from vtrain.data.augment.crop import crop
from vtrain.data.augment.to_device import send

# Fields that must be the same in the configs of all views.
SHARED = ("size", "order", "normalise", "crops", "blur_kernel", "solarise_threshold", "jitter_per")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet

# The number of floats that are processed at a time. On a CPU that is one clip of 16 x 112 x 112, or several small ones,
# which stay in the cache. On other devices it bounds the memory, which is several times as much: 4 bytes x 2**27 are
# 222 clips of 16 x 112 x 112.
AT_A_TIME = {"cpu": 2**19}
AT_A_TIME_ELSEWHERE = 2**27


class Augment:
    """Augments batches by `looks`: one config for all views, or one config for each group of views."""

    def __init__(self, looks: Sequence[AugmentConfig]) -> None:
        self.config = looks[0]  # for the fields that all configs share
        for name in SHARED:
            values = list(dict.fromkeys(getattr(config, name) for config in looks))
            if len(values) > 1:
                raise UsageError(
                    f"looks.{name} is {' and '.join(map(str, values))} for the views of one batch, which are augmented "
                    "together: write the same value for all"
                )

    @torch.no_grad()
    def __call__(
        self, clips_BNTHWC: Tensor, augmentation: dict[str, Tensor], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Return clips [B, N x K, C, T, S, S]; with the first two dimensions flattened they are channels_last_3d.

        The stored clips are uint8 RGB on any device. `augmentation` holds their drawn parameters as tensors on the
        CPU, as `Batch.augmentation` does.
        """
        samples, views, frames, _, _, channels = clips_BNTHWC.shape
        crops, size = self.config.crops, self.config.size
        rows = _per_box(self.config, clips_BNTHWC, augmentation)
        clips_MTHWC = clips_BNTHWC.flatten(0, 1)
        out_RCTSS = torch.empty(
            (len(clips_MTHWC) * crops, channels, frames, size, size),
            dtype=dtype,
            device=clips_BNTHWC.device,
            memory_format=torch.channels_last_3d,
        )
        at_a_time = AT_A_TIME.get(clips_BNTHWC.device.type, AT_A_TIME_ELSEWHERE)
        step = max(1, at_a_time // (crops * channels * frames * size**2))
        for start in range(0, len(clips_MTHWC), step):
            part = slice(start * crops, (start + step) * crops)
            rows_of_part = {name: array[part] for name, array in rows.items()}
            pixels_RTCSS = self._augmented(clips_MTHWC[start : start + step], rows_of_part)
            _normalise(pixels_RTCSS, out_RCTSS[part], self.config.normalise)
        return out_RCTSS.view(samples, views * crops, *out_RCTSS.shape[1:])

    def _augmented(self, clips_MTHWC: Tensor, rows: dict[str, Array]) -> Tensor:
        """Return cropped, flipped and coloured pixels [R, T, C, S, S], from 0 to 255."""
        # A flip commutes with every op, so at any position in the order it is part of the crop, at no cost.
        pixels = crop(clips_MTHWC, rows["box"], rows["flip"], self.config.size)
        if self.config.normalise == "bgr255":
            pixels = pixels.flip(2)
        for name in self.config.order:
            if name == "jitter":
                per_frame = self.config.jitter_per == "frame"
                items = pixels.flatten(0, 1).unsqueeze(1) if per_frame else pixels
                colour.jitter(items, rows["jitter"].reshape(-1, 4), rows["jitter_order"].reshape(-1, 4))
            elif name != "flip":
                self._apply(name, pixels, rows)
        return pixels

    def _apply(self, name: str, pixels_RTCSS: Tensor, rows: dict[str, Array]) -> None:
        """Apply grey, blur or solarise to the rows for which it was drawn."""
        wanted = np.flatnonzero(rows["sigma" if name == "blur" else name])
        if not len(wanted):
            return
        index = None if len(wanted) == len(pixels_RTCSS) else send(wanted, pixels_RTCSS.device)
        chosen_RTCSS = pixels_RTCSS if index is None else pixels_RTCSS.index_select(0, index)
        if name == "grey":
            colour.grey(chosen_RTCSS)
        elif name == "solarise":
            colour.solarise(chosen_RTCSS, self.config.solarise_threshold)
        else:
            colour.blur(chosen_RTCSS, send(rows["sigma"][wanted], pixels_RTCSS.device), self.config.blur_kernel)
        if index is not None:
            pixels_RTCSS.index_copy_(0, index, chosen_RTCSS)


def _per_box(config: AugmentConfig, clips_BNTHWC: Tensor, augmentation: dict[str, Tensor]) -> dict[str, Array]:
    """Return the parameters with a row for each box of each clip; raise a ValueError if they do not fit the clips."""
    samples, views, frames, height, width, _ = clips_BNTHWC.shape
    if clips_BNTHWC.dtype != torch.uint8:
        raise ValueError(f"clips are {clips_BNTHWC.dtype}; they must be torch.uint8, as the loader decodes them")
    per_clip = {name: drawn.numpy() for name, drawn in augmentation.items()}
    boxes, jitters = per_clip["box"].shape, per_clip["jitter"].shape
    needed = (samples, views, config.crops, 4), (samples, views, frames if config.jitter_per == "frame" else 1, 4)
    if boxes != needed[0] or jitters[2] != needed[1][2]:
        raise ValueError(
            f"boxes are {boxes} and jitters {jitters}; these clips and this config need "
            f"{needed[0]} and {needed[1]}: draw with the config that is applied"
        )
    rows = {name: drawn.reshape(samples * views, *drawn.shape[2:]) for name, drawn in per_clip.items()}
    repeated = {name: np.repeat(drawn, config.crops, axis=0) for name, drawn in rows.items()}
    repeated |= {name: rows[name].reshape(-1, *rows[name].shape[2:]) for name in ("box", "flip")}
    far = (repeated["box"][:, :2] + repeated["box"][:, 2:]).max(0, initial=0)
    if repeated["box"].min(initial=0) < 0 or far[0] > height or far[1] > width:
        raise ValueError(
            f"a box ends at {far[0]:g} x {far[1]:g} in frames of {height} x {width}; "
            "draw boxes for the size of the clips"
        )
    return repeated


def _normalise(pixels_RTCSS: Tensor, out_RCTSS: Tensor, normalise: Normalise) -> None:
    """Write normalised pixels into `out`, in its layout and type; channel by channel takes half as long on a CPU."""
    for channel, (mean, deviation) in enumerate(zip(MEAN, DEVIATION, strict=True)):
        pixels_RTSS, out_RTSS = pixels_RTCSS[:, :, channel], out_RCTSS[:, channel]
        if normalise == "bgr255":
            out_RTSS.copy_(pixels_RTSS)
        elif normalise == "unit":
            torch.div(pixels_RTSS, WHITE, out=out_RTSS)
        else:
            torch.sub(pixels_RTSS.mul_(1 / (WHITE * deviation)), mean / deviation, out=out_RTSS)
