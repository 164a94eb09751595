"""Makes of stored clips what the network sees, on their device and in batch; what is done was drawn before (`config`).

B samples, N views, M = B x N clips, K boxes a clip, R = M x K rows, T time, C channels, H W stored, S side.
Everything that decides which op meets which clip is on the host, so a step neither draws nor waits.
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

# What all views of a batch share.
SHARED = ("size", "order", "normalise", "crops", "blur_kernel", "solarise_threshold", "jitter_per")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet

# How many floats are worked on at a time. On a CPU one clip after another stays in its cache; elsewhere it is a
# bound on memory, of which several times as much is taken: 4 bytes x 2**27 are 222 clips of 16 x 112 x 112.
AT_A_TIME = {"cpu": 1}
AT_A_TIME_ELSEWHERE = 2**27


class Augment:
    """Applies what the looks drew: one look for all views, or one for each group of them."""

    def __init__(self, looks: Sequence[AugmentConfig]) -> None:
        self.look = looks[0]
        for name in SHARED:
            values = list(dict.fromkeys(getattr(look, name) for look in looks))
            if len(values) > 1:
                raise UsageError(
                    f"{name} is {' and '.join(map(str, values))} in the looks of one batch; "
                    "its clips are worked on together: write one value in all looks"
                )

    @torch.no_grad()
    def __call__(self, clips_BNTHWC: Tensor, draws: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
        """Clips [B, N x K, C, T, S, S]; with B, N and K as one they are channels_last_3d.

        The clips are uint8 RGB and may be anywhere; the draws (`look.stack`, as tensors) are on the CPU.
        """
        samples, views, frames, _, _, channels = clips_BNTHWC.shape
        crops, size = self.look.crops, self.look.size
        rows = _by_row(self.look, clips_BNTHWC, draws)
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
            some = {name: array[part] for name, array in rows.items()}
            pixels_RTCSS = self._looked(clips_MTHWC[start : start + step], some)
            _normalise(pixels_RTCSS, out_RCTSS[part], self.look.normalise)
        return out_RCTSS.view(samples, views * crops, *out_RCTSS.shape[1:])

    def _looked(self, clips_MTHWC: Tensor, rows: dict[str, Array]) -> Tensor:
        """Cropped, flipped and coloured pixels [R, T, C, S, S], from 0 to 255."""
        # A flip changes place with every op, so it costs nothing here.
        pixels = crop(clips_MTHWC, rows["box"], rows["flip"], self.look.size)
        if self.look.normalise == "bgr255":
            pixels = pixels.flip(2)
        for name in self.look.order:
            if name == "jitter":
                alone = self.look.jitter_per == "frame"
                items = pixels.flatten(0, 1).unsqueeze(1) if alone else pixels
                colour.jitter(items, rows["jitter"].reshape(-1, 4), rows["jitter_order"].reshape(-1, 4))
            elif name != "flip":
                self._apply(name, pixels, rows)
        return pixels

    def _apply(self, name: str, pixels_RTCSS: Tensor, rows: dict[str, Array]) -> None:
        """Grey, blur or solarise those rows for which it was drawn."""
        wanted = np.flatnonzero(rows["sigma" if name == "blur" else name])
        if not len(wanted):
            return
        index = None if len(wanted) == len(pixels_RTCSS) else send(wanted, pixels_RTCSS.device)
        chosen_RTCSS = pixels_RTCSS if index is None else pixels_RTCSS.index_select(0, index)
        if name == "grey":
            colour.grey(chosen_RTCSS)
        elif name == "solarise":
            colour.solarise(chosen_RTCSS, self.look.solarise_threshold)
        else:
            colour.blur(chosen_RTCSS, send(rows["sigma"][wanted], pixels_RTCSS.device), self.look.blur_kernel)
        if index is not None:
            pixels_RTCSS.index_copy_(0, index, chosen_RTCSS)


def _by_row(look: AugmentConfig, clips_BNTHWC: Tensor, draws: dict[str, Tensor]) -> dict[str, Array]:
    """What was drawn, one row for each box of each clip; a wrong shape would else end as wrong pixels."""
    samples, views, frames, height, width, _ = clips_BNTHWC.shape
    if clips_BNTHWC.dtype != torch.uint8:
        raise ValueError(f"clips are {clips_BNTHWC.dtype}; stored pixels are torch.uint8: hand over what was decoded")
    per_clip = {name: drawn.numpy() for name, drawn in draws.items()}
    given, alone = per_clip["box"].shape, frames if look.jitter_per == "frame" else 1
    if given != (samples, views, look.crops, 4) or per_clip["jitter"].shape[2] != alone:
        raise ValueError(
            f"boxes are {given} and jitters {per_clip['jitter'].shape}; these clips and this look need "
            f"{(samples, views, look.crops, 4)} and {(samples, views, alone, 4)}: draw with the look that is applied"
        )
    rows = {name: drawn.reshape(samples * views, *drawn.shape[2:]) for name, drawn in per_clip.items()}
    repeated = {name: np.repeat(drawn, look.crops, axis=0) for name, drawn in rows.items()}
    repeated |= {name: rows[name].reshape(-1, *rows[name].shape[2:]) for name in ("box", "flip")}
    far = (repeated["box"][:, :2] + repeated["box"][:, 2:]).max(0, initial=0)
    if repeated["box"].min(initial=0) < 0 or far[0] > height or far[1] > width:
        raise ValueError(
            f"a box ends at {far[0]:g} x {far[1]:g} in frames of {height} x {width}; a box lies within its frame: "
            "draw it for the frames that are handed over"
        )
    return repeated


def _normalise(pixels_RTCSS: Tensor, out_RCTSS: Tensor, normalise: Normalise) -> None:
    """The last pass is also the one that changes layout and type; by channel it takes half as long on a CPU."""
    for channel, (mean, deviation) in enumerate(zip(MEAN, DEVIATION, strict=True)):
        pixels_RTSS, out_RTSS = pixels_RTCSS[:, :, channel], out_RCTSS[:, channel]
        if normalise == "bgr255":
            out_RTSS.copy_(pixels_RTSS)
        elif normalise == "unit":
            torch.div(pixels_RTSS, WHITE, out=out_RTSS)
        else:
            torch.sub(pixels_RTSS.mul_(1 / (WHITE * deviation)), mean / deviation, out=out_RTSS)
