"""Draw a map over a clip: enlarge it to the frame, scale it to colours, blend both, and outline where it is high.

T frames of a clip, t time of a map, H W height and width
"""

from collections.abc import Iterable

import cv2
import numpy as np

from veval.look.colour import coloured
from veval.look.figure import Floats, Pixels, Tile

Range = tuple[float, float]
Box = tuple[int, int, int, int]  # left, top, width, height
LUMA = np.array([[0.114], [0.587], [0.2989]], np.float32)  # of blue, green and red


def enlarged(map_HW: Floats, side: int) -> Floats:
    """Return the map at side x side, bilinear with pixel centres at halves (align_corners off)."""
    large = cv2.resize(np.ascontiguousarray(map_HW, np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    return large.astype(np.float32, copy=False)


def at_frames(map_tHW: Floats, frames: int) -> Floats:
    """Return a map for each frame, linear in time in the same way."""
    count = len(map_tHW)
    position = np.clip((np.arange(frames) + 0.5) * count / frames - 0.5, 0, count - 1)
    before = np.floor(position).astype(np.intp)
    share = (position - before)[:, None, None].astype(np.float32)
    after = np.minimum(before + 1, count - 1)
    return (1 - share) * map_tHW[before] + share * map_tHW[after]


def scaled(map_HW: Floats, between: Range) -> Floats:
    """Return the map as shares of a range; 0 everywhere where the range is empty."""
    low, high = between
    if not high > low:
        return np.zeros_like(map_HW)
    share: Floats = ((map_HW - low) / (high - low)).astype(np.float32)
    return share


def range_of(maps: Iterable[Floats]) -> Range:
    """Return the lowest and the highest value of all maps."""
    found = [(float(each.min()), float(each.max())) for each in maps]
    return min(low for low, _ in found), max(high for _, high in found)


def blended(frame_HWC: Pixels, share_HW: Floats, alpha: float) -> Pixels:
    """Return the frame in grey with the colours of the map over it; `alpha` is the share of these colours."""
    grey_HW1 = frame_HWC.astype(np.float32) @ LUMA
    mixed = (1 - alpha) * grey_HW1 + alpha * coloured(share_HW)
    return np.round(mixed).astype(np.uint8)


def outlined_area(share_HW: Floats, threshold: float) -> Box | None:
    """Return the box around the largest connected area with at least the threshold (4 neighbours); None: no area.

    Of several areas of one size it is the first, from the top.
    """
    high = (share_HW >= threshold).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(high, connectivity=4)
    if count < 2:  # the first is what is below the threshold
        return None
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    left, top, width, height = (int(stats[largest, column]) for column in range(4))
    return left, top, width, height


def box_of(tile: Tile, side: int) -> Box | None:
    """Return the outlined area of a tile's still map, which is scaled to its own range."""
    if tile.map is None or tile.threshold is None:
        return None
    still = tile.still_map
    between = range_of([still])
    if not between[1] > between[0]:
        return None
    return outlined_area(enlarged(scaled(still, between), side), tile.threshold)
