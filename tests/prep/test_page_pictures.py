"""Films of a page: what a decoder shows is what was given, at the speed that was asked for."""

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest

from vprep.page.pictures import address, animation, fitted, png, spaced, webp


def frames(count: int = 5) -> list[np.ndarray]:
    """Frames of a bright square on grey that moves to the right."""
    made = []
    for number in range(count):
        frame = np.full((48, 64, 3), 90, np.uint8)
        frame[16:32, 8 * number : 8 * number + 16] = (0, 0, 250)
        made.append(frame)
    return made


def test_an_animation_has_all_frames_loops_and_lasts_as_long_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "film.webp"
    path.write_bytes(animation(frames(), seconds=2.0, quality=80))
    done, film = cv2.imreadanimation(str(path))
    assert done
    assert len(film.frames) == 5
    assert sum(film.durations) == 2000
    assert film.loop_count == 0
    for shown, given in zip(film.frames, frames(), strict=True):
        assert np.abs(shown[..., :3].astype(int) - given).mean() < 6


def test_a_film_of_one_frame_is_a_picture() -> None:
    one = animation(frames(1), seconds=1, quality=80)
    shown = cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == (48, 64, 3)


def test_pictures_are_addresses_of_their_own_bytes() -> None:
    picture = frames(1)[0]
    shown = cv2.imdecode(np.frombuffer(png(picture), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(shown, picture)
    head, data = address(webp(picture), "webp").split(",")
    assert head == "data:image/webp;base64"
    assert base64.b64decode(data)[:4] == b"RIFF"


@pytest.mark.parametrize(
    ("height", "width", "shape"), [(480, 640, (96, 128)), (640, 480, (96, 72)), (10, 1000, (1, 128))]
)
def test_a_frame_keeps_its_proportions(height: int, width: int, shape: tuple[int, int]) -> None:
    assert fitted(np.zeros((height, width, 3), np.uint8), 128, 96).shape[:2] == shape


@pytest.mark.parametrize(
    ("count", "most", "found"), [(3, 5, [0, 1, 2]), (10, 5, [0, 2, 4, 6, 8]), (7, 3, [0, 2, 4]), (5, 0, [])]
)
def test_numbers_are_evenly_spaced(count: int, most: int, found: list[int]) -> None:
    assert spaced(count, most) == found
