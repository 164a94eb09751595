"""The colours of maps: from dark violet over red to light yellow, by lightness.

Lightness rises evenly from the lowest to the highest value, so the order of two values can be seen without a legend, in
grey, and with any kind of colour blindness. The colours are computed in Oklab (B. Ottosson, 2020), in which equal
distances look equal.
"""

from functools import cache
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
DARKEST, LIGHTEST = 0.22, 0.96  # Oklab's lightness
FIRST_HUE, LAST_HUE = 290.0, 465.0  # degrees: violet, and over red to yellow, 105
CHROMA = 0.19  # of the middle; less where sRGB has no such colour

# From the cube roots of the cones' responses to linear sRGB.
LMS_OF_LAB = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
RGB_OF_LMS = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


@cache
def ramp() -> NDArray[np.uint8]:
    """Return the colours [LEVELS, 3] from the lowest to the highest value, in the order blue, green, red."""
    rgb = np.array([_colour(level / (LEVELS - 1)) for level in range(LEVELS)])
    return np.round(255 * _encoded(rgb)).astype(np.uint8)[:, ::-1]


def coloured(share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the colour of each number; 0 and below is the lowest, 1 and above the highest."""
    levels = np.round(np.clip(share, 0, 1) * (LEVELS - 1)).astype(np.intp)
    found: NDArray[np.uint8] = ramp()[levels]
    return found


def _colour(share: float) -> NDArray[np.float64]:
    """Return a colour of the ramp in linear sRGB, with as much chroma as sRGB has."""
    lightness = DARKEST + (LIGHTEST - DARKEST) * share
    hue = (FIRST_HUE + (LAST_HUE - FIRST_HUE) * share) * pi / 180
    chroma = CHROMA
    while not _is_shown(rgb := _linear(lightness, chroma, hue)):
        chroma *= 0.99
    return np.clip(rgb, 0, 1)


def _is_shown(rgb: NDArray[np.float64]) -> bool:
    return bool(rgb.min() >= -1e-6 and rgb.max() <= 1 + 1e-6)


def _linear(lightness: float, chroma: float, hue: float) -> NDArray[np.float64]:
    lms = LMS_OF_LAB @ np.array([lightness, chroma * cos(hue), chroma * sin(hue)])
    rgb: NDArray[np.float64] = RGB_OF_LMS @ lms**3
    return rgb


def _encoded(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return linear values as sRGB encodes them."""
    return np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
