"""Draw the synthetic videos: a shape with the motion of its class, before a slowly drifting, textured background.

Every motion has the same natural tempo, so a clip that is played too fast or too slowly can be recognised. A second
shape lies on the background and only drifts with it, so a single picture does not show which of the two shapes moves.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import cos, pi, sin

import cv2
import numpy as np
from numpy.typing import NDArray

from vprep.synth_classes import CLASSES

HEIGHT, WIDTH = 120, 160
PERIOD = 1.6  # seconds of every motion, before the few percent by which videos differ
MARGIN = 24  # pixels of background beyond each edge, for the drift
NOISE = 3.0  # standard deviation, in grey levels
SUBPIXEL = 4  # bits; without them a slow motion would jerk from pixel to pixel

Picture = NDArray[np.uint8]
Points = NDArray[np.float64]
Shape = tuple[Points, Points]
"""An outline of radius 1 and a hole off its centre, which makes a turn visible."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Position, angle and size of a shape."""

    x: float  # from the centre of the picture, in heights of the picture
    y: float
    angle: float = 0.0  # radians
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Appearance:
    """The appearance that the videos of a group share: the background and the colours of the shapes."""

    background: Picture  # larger than the picture by MARGIN on each side
    colours: list[tuple[int, int, int]]


def _polygon(radii: list[float], turn: float = 0.0) -> Points:
    angles = turn + np.arange(len(radii)) * 2 * pi / len(radii)
    corners: Points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array(radii)[:, None]
    return corners


def _hole(x: float, radius: float) -> Points:
    circle = _polygon([radius] * 16)
    circle[:, 0] += x
    return circle


SHAPES: dict[str, Shape] = {
    "Square": (_polygon([1.15] * 4, pi / 4), _hole(0.4, 0.22)),
    "Disc": (_polygon([1.0] * 32), _hole(0.5, 0.22)),
    "Star": (_polygon([1.3, 0.5] * 5), _hole(0.3, 0.2)),
    "Ring": (_polygon([1.1] * 32), _hole(0.15, 0.7)),
    "Bar": (np.array([[-1.5, -0.4], [1.5, -0.4], [1.5, 0.4], [-1.5, 0.4]]), _hole(1.0, 0.2)),
    "Triangle": (_polygon([1.3] * 3, -pi / 2), _hole(0.25, 0.22)),
    "Cross": (np.array([[-0.4, -0.4], [-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4],
                        [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4]]), _hole(0.75, 0.2)),
}  # fmt: skip


def _slides_right(phase: float) -> list[Pose]:
    return [Pose(1.7 * (phase % 1) - 0.85, 0.0)]


def _falls(phase: float) -> list[Pose]:
    return [Pose(0.0, 1.3 * (phase % 1) ** 2 - 0.65)]


def _spins(phase: float) -> list[Pose]:
    return [Pose(0.0, 0.0, 2 * pi * phase, 1.2)]


def _grows(phase: float) -> list[Pose]:
    return [Pose(0.0, 0.0, 0.0, 0.4 + 1.6 * (phase % 1) ** 1.5)]


def _swings(phase: float) -> list[Pose]:
    angle = sin(2 * pi * phase)
    return [Pose(0.6 * sin(angle), 0.6 * cos(angle) - 0.4, pi / 2 - angle)]


def _scatters(phase: float) -> list[Pose]:
    way, angles = 0.7 * (phase % 1), (2 * pi * part / 6 + 0.3 for part in range(6))
    return [Pose(way * cos(angle), way * sin(angle), 0.0, 0.45) for angle in angles]


def _bounces(phase: float) -> list[Pose]:
    return [Pose(0.35 * sin(pi * phase), 0.25 - 0.5 * (1 - (2 * (phase % 1) - 1) ** 2))]


def _circles(phase: float) -> list[Pose]:
    return [Pose(0.32 * cos(2 * pi * phase), 0.32 * sin(2 * pi * phase))]


Motion = Callable[[float], list[Pose]]
"""A function from the number of periods since the beginning to the poses of the shape, or of several."""

MOTIONS: dict[str, Motion] = {
    "slides right": _slides_right,
    "falls": _falls,
    "spins": _spins,
    "grows": _grows,
    "swings": _swings,
    "scatters": _scatters,
    "bounces": _bounces,
    "circles": _circles,
}


def appearance(rng: np.random.Generator) -> Appearance:
    """Return a random background of two hues with a texture of one grain, and colours that contrast with it."""
    hue, grain = int(rng.integers(180)), rng.uniform(2, 8)
    size = (HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN)
    rough = cv2.GaussianBlur(rng.standard_normal(size).astype(np.float32), (0, 0), grain)
    slope = np.linspace(-1, 1, size[1])[None, :] * rng.uniform(-1, 1) + np.linspace(-1, 1, size[0])[:, None]
    level = 85 + 20 * rough / rough.std() + 20 * slope
    hues = np.where(rough > 0, hue, (hue + 20) % 180)
    background = np.stack([hues, np.full(size, 120), np.clip(level, 20, 170)], axis=2).astype(np.uint8)
    bright = [_colour((hue + turn) % 180, 150, 240) for turn in (60, 90, 120)]
    return Appearance(cv2.cvtColor(background, cv2.COLOR_HSV2BGR).astype(np.uint8), bright)


def frames(class_name: str, appearance: Appearance, rng: np.random.Generator, times: list[float]) -> Iterator[Picture]:
    """Yield the pictures of one video at the given seconds, in BGR."""
    shape, motion = CLASSES[class_name]
    tempo, first = rng.uniform(0.93, 1.07) / PERIOD, rng.uniform()
    size, colour = rng.uniform(0.13, 0.18), appearance.colours[rng.integers(len(appearance.colours))]
    x, y = rng.uniform(-0.12, 0.12, 2)
    background = _with_bystander(appearance, shape, rng)
    drift = MARGIN * 0.45 * rng.uniform(-1, 1, (2, 2))
    noise = rng.normal(0, NOISE, (HEIGHT + 64, WIDTH + 64, 3)).astype(np.int16)
    for seconds in times:
        turn = 2 * pi * seconds / 9
        shift = drift[0] * sin(turn) + drift[1] * cos(turn)
        centre = (WIDTH / 2 + MARGIN + shift[0], HEIGHT / 2 + MARGIN + shift[1])
        picture = cv2.getRectSubPix(background, (WIDTH, HEIGHT), centre)
        for pose in MOTIONS[motion](first + tempo * seconds):
            _draw(picture, SHAPES[shape], Pose(pose.x + x, pose.y + y, pose.angle, pose.scale * size), colour)
        top, left = rng.integers(0, 64, 2)
        noisy = picture + noise[top : top + HEIGHT, left : left + WIDTH]
        yield np.clip(noisy, 0, 255).astype(np.uint8)


def _with_bystander(appearance: Appearance, shape: str, rng: np.random.Generator) -> Picture:
    """Return the background with another shape on it, in a corner of the picture."""
    background = appearance.background.copy()
    others = [name for name in SHAPES if name != shape]
    other, colour = others[rng.integers(len(others))], appearance.colours[rng.integers(len(appearance.colours))]
    side, up = rng.choice([-1, 1], 2)
    pose = Pose(side * rng.uniform(0.3, 0.5), up * rng.uniform(0.15, 0.3), rng.uniform(0, 2 * pi), 0.14)
    _draw(background, SHAPES[other], pose, colour)
    return background


def _draw(picture: Picture | cv2.typing.MatLike, shape: Shape, pose: Pose, colour: tuple[int, int, int]) -> None:
    turn = np.array([[cos(pose.angle), sin(pose.angle)], [-sin(pose.angle), cos(pose.angle)]])
    height, width = picture.shape[:2]
    middle = np.array([width / 2, height / 2]) + HEIGHT * np.array([pose.x, pose.y])
    corners = [middle + HEIGHT * pose.scale * part @ turn for part in shape]
    fixed = [np.round(part * 2**SUBPIXEL).astype(np.int32) for part in corners]
    cv2.fillPoly(picture, fixed, colour, lineType=cv2.LINE_AA, shift=SUBPIXEL)


def _colour(hue: int, saturation: int, value: int) -> tuple[int, int, int]:
    blue, green, red = cv2.cvtColor(np.array([[[hue, saturation, value]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return int(blue), int(green), int(red)
