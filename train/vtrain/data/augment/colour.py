"""Change the colours of many clips at once, in place.

I items (clips, or single frames if each has its own factors), T time, C channels (three), H W.
Pixels are float32 from 0 to WHITE: stored pixels need no scaling, and every op here is the same at any scale.
A parameter has the shape [I, 1, 1, 1, 1]. Nothing is read back from the device.
"""

from contextlib import nullcontext
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.amp import is_autocast_available

from vtrain.data.augment.config import IDENTITY, Array
from vtrain.data.augment.to_device import send

WHITE = 255.0
BRIGHTNESS, CONTRAST, SATURATION, HUE, NOTHING = range(5)


def luma(pixels_ITCHW: Tensor) -> Tensor:
    red, green, blue = pixels_ITCHW.unbind(2)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).unsqueeze(2)


def grey(pixels_ITCHW: Tensor) -> None:
    pixels_ITCHW.copy_(luma(pixels_ITCHW))


def brightness(pixels_ITCHW: Tensor, factor: Tensor) -> None:
    pixels_ITCHW.mul_(factor).clamp_(0, WHITE)


def contrast(pixels_ITCHW: Tensor, factor: Tensor) -> None:
    # The mean of the luma is the luma of the mean, which needs no memory of the size of the clip.
    mean = luma(pixels_ITCHW.mean((1, 3, 4), keepdim=True))
    pixels_ITCHW.mul_(factor).add_(mean * (1 - factor)).clamp_(0, WHITE)


def saturation(pixels_ITCHW: Tensor, factor: Tensor) -> None:
    rest = luma(pixels_ITCHW).mul_(1 - factor)
    pixels_ITCHW.mul_(factor).add_(rest).clamp_(0, WHITE)


def hue(pixels_ITCHW: Tensor, turns: Tensor) -> None:
    """Turn the hue of HSV; 1 turn is the full circle.

    In sixths of the circle, red is at 0, green at 2 and blue at 4. A channel has its highest value up to a distance of
    1 from there, its lowest value from 2 on, and is linear in between. With channels scaled so that the lowest is 0
    and the highest 1, a colour therefore has the distance 1 + green + blue - red from red, towards green or blue.
    So no pixel needs a choice between formulas, which would take most of the time.
    """
    red, green, blue = pixels_ITCHW.unbind(2)
    high, low = pixels_ITCHW.amax(2), pixels_ITCHW.amin(2)
    chroma = high - low
    sixths = (green + blue).sub_(red).sub_(low).add_(chroma)
    spare = low  # from here on this buffer holds every temporary
    sixths.div_(torch.clamp(chroma, min=1e-20, out=spare))  # grey has no hue; with a chroma of 0 it stays unchanged
    sixths.copysign_(torch.sub(green, blue, out=spare)).add_(turns.squeeze(2) * 6)
    sixths.sub_(torch.div(sixths, 6, out=spare).floor_(), alpha=6)  # takes half the time of remainder
    # Now the share of the chroma by which each channel is below its highest value. Red is at both ends, so its distance
    # is taken from the middle; those of green and blue need no wrapping: the other way round is always beyond 2.
    torch.addcmul(high, chroma, torch.sub(sixths, 3, out=spare).abs_().neg_().add_(2).clamp_(0, 1), value=-1, out=red)
    for hue_of, channel in ((2, green), (4, blue)):
        share = torch.sub(sixths, hue_of, out=spare).abs_().sub_(1).clamp_(0, 1)
        torch.addcmul(high, chroma, share, value=-1, out=channel)


JITTERS = (brightness, contrast, saturation, hue)


def jitter(pixels_ITCHW: Tensor, factors_I4: Array, order_I4: Array) -> None:
    """Apply brightness, contrast, saturation and hue to each item in its own order.

    The items are sorted so that those with the same next op are contiguous, first by the position of the hue: any batch
    takes 4 calls of hue, by far the slowest op, and at most 60 of the others.
    """
    idle = np.take_along_axis(factors_I4 == np.array(IDENTITY, np.float32), order_I4, axis=1)
    ops_I4 = np.where(idle, NOTHING, order_I4)
    keys = np.column_stack((ops_I4[:, ::-1], (ops_I4 == HUE).argmax(1)))  # lexsort goes by the last column first
    rows = np.lexsort(keys.T)
    rows = rows[(ops_I4[rows] != NOTHING).any(1)]
    if not len(rows):
        return
    ops_I4, all_in_order = ops_I4[rows], np.array_equal(rows, np.arange(len(pixels_ITCHW)))
    index = None if all_in_order else send(rows, pixels_ITCHW.device)
    chosen_ITCHW = pixels_ITCHW if index is None else pixels_ITCHW.index_select(0, index)
    factors = send(factors_I4[rows], pixels_ITCHW.device).view(-1, 4, 1, 1, 1, 1)
    for ops_I in ops_I4.T:
        edges = [0, *(np.flatnonzero(np.diff(ops_I)) + 1).tolist(), len(rows)]
        for start, stop in pairwise(edges):
            op = int(ops_I[start])
            if op != NOTHING:
                JITTERS[op](chosen_ITCHW[start:stop], factors[start:stop, op])
    if index is not None:
        pixels_ITCHW.index_copy_(0, index, chosen_ITCHW)


def solarise(pixels_ITCHW: Tensor, threshold: float) -> None:
    """Invert values that are at least `threshold`, a share of white."""
    torch.where(pixels_ITCHW >= threshold * WHITE, WHITE - pixels_ITCHW, pixels_ITCHW, out=pixels_ITCHW)


def blur(pixels_ITCHW: Tensor, sigmas: Tensor, kernel: int) -> None:
    """Gaussian blur, reflected at the borders, as two products with a band matrix per item.

    That reads and writes a clip twice; adding `kernel` shifted copies along each axis would do so 2 x `kernel` times.
    """
    squares_3SS = _squares(pixels_ITCHW.shape[-1], kernel, pixels_ITCHW.device)
    weights_ISS = torch.exp(squares_3SS / (-2 * sigmas.view(-1, 1, 1, 1) ** 2)).sum(1)
    weights_I11SS = (weights_ISS / weights_ISS.sum(-1, keepdim=True))[:, None, None]
    kind = pixels_ITCHW.device.type
    with torch.autocast(kind, enabled=False) if is_autocast_available(kind) else nullcontext():  # it uses bfloat16
        across = torch.matmul(pixels_ITCHW, weights_I11SS.mT)
        pixels_ITCHW.copy_(torch.matmul(weights_I11SS, across))


@cache
def _squares(size: int, kernel: int, device: torch.device) -> Tensor:
    """Return squared distances from pixel i to pixel j and its two reflections; infinite outside of the kernel."""
    i, j = np.arange(size)[:, None], np.arange(size)[None]
    left = np.where(j > 0, -j, np.inf)  # a reflection does not repeat the outermost pixels
    right = np.where(j < size - 1, 2 * (size - 1) - j, np.inf)
    distances = np.stack([np.broadcast_to(x, (size, size)) - i for x in (j, left, right)])
    distances[np.abs(distances) > kernel // 2] = np.inf
    return send((distances**2).astype(np.float32), device)
