"""Decode single frames of a video, as for a picture."""

from collections.abc import Sequence

import cv2
from cv2.typing import MatLike

from vprep.format import jpeg_size
from vtrain.data.dataset import Videos
from vtrain.data.shard_reader import BadSampleError, ShardReader


def read_frames(videos: Videos, reader: ShardReader, row: int, numbers: Sequence[int]) -> list[MatLike]:
    """Return the frames `numbers`, which are sorted and distinct, of the video `row`: blue, green, red, uint8.

    A video that cannot be used raises a BadSampleError.
    """
    size = int(videos.height[row]), int(videos.width[row])
    return [_decoded(number, jpeg, size) for number, jpeg in reader.frames(reader.locate(row, numbers))]


def _decoded(number: int, jpeg: MatLike, size: tuple[int, int]) -> MatLike:
    # A few bytes can claim 65,535 x 65,535 pixels, so the size is compared before anything is decoded.
    fits = jpeg_size(jpeg.tobytes()) == size
    picture = cv2.imdecode(jpeg, cv2.IMREAD_COLOR) if fits else None
    if picture is None or picture.shape[:2] != size:
        raise BadSampleError(f"frame {number} does not decode to the size in the index")
    return picture
