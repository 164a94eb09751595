"""One sample: a video is drawn from, its frames are read and decoded, and the pixels are put where they belong.

All that is random about a sample comes from (seed, epoch, key), so it is the same in any worker on any rank.
"""

from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vprep.errors import WorkError
from vtrain.data.augment.config import Box, DrawnParameters
from vtrain.data.dataset import Videos
from vtrain.data.order import seed_from
from vtrain.data.sampling import Plan, Sample, TooShortError, Video
from vtrain.data.shard_reader import BadSampleError, Bytes, Located, ShardReader

FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION

Jpegs = list[tuple[int, Bytes]]  # frame number, its bytes
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Planned:
    """What will be shown of a video, and how; `augmentation` are of the views, one behind another."""

    row: int
    video: Video
    sample: Sample
    shown: dict[int, list[int]]  # by frame: where it is shown, counted through all views
    augmentation: list[DrawnParameters]
    boxes: list[Box] | None  # what of a frame each view shows, when that is cut out here


class Sampler:
    """Makes samples of `videos` as `plan` asks."""

    def __init__(self, videos: Videos, plan: Plan, seed: int) -> None:
        self._videos = videos
        self._plan = plan
        self._seed = seed
        self._reader = ShardReader(videos)
        self.canvas, self._cut = self._hand_over()

    def plan(self, epoch: int, row: int) -> Planned:
        """What is shown of the video `row` in `epoch`. No pixel is read."""
        video = self._videos[row]
        seed = seed_from(self._seed, epoch, video.key)
        try:
            return self._planned(row, video, Random(seed))
        except TooShortError as short:
            if short.short != "replace":
                raise BadSampleError(f"it has {video.frames} frames, {short.needed} are needed") from None
            other = self._long_enough(short.needed, Random(seed + 1))
            # The same numbers again: what was drawn before the length mattered, the speed above all, stays.
            return self._planned(other, self._videos[other], Random(seed))

    def substitute(self, epoch: int, row: int, number: int) -> int:
        """The row that takes the place of a bad one; with the next `number` another."""
        return seed_from(self._seed, epoch, self._videos.keys[row], "substitute", number) % len(self._videos)

    def locate(self, planned: Planned) -> Located:
        """Where the pictures are that the views show, each once however many do; the disk begins to fetch them."""
        return self._reader.locate(planned.row, sorted(planned.shown))

    def read(self, located: Located) -> Jpegs:
        """Their bytes, which stay until the next are read."""
        return self._reader.frames(located)

    def fill(self, planned: Planned, jpegs: Jpegs, pixels_NTHWC: Pixels) -> None:
        """Decode the pictures and put them where they are shown."""
        places = pixels_NTHWC.reshape(-1, *pixels_NTHWC.shape[2:])
        size = (planned.video.height, planned.video.width, 3)
        whole = planned.boxes is None and places.shape[1:] == size
        shown, decode = planned.shown, cv2.imdecode
        for frame, jpeg in jpegs:
            picture = decode(jpeg, FLAGS)
            if picture is None or picture.shape != size:
                raise BadSampleError(f"frame {frame} does not decode to the size that the index tells")
            for place in shown[frame]:
                if whole:
                    places[place] = picture
                else:
                    self._place(picture, places[place], planned, place)

    def _place(self, picture: npt.NDArray[Any], canvas: Pixels, planned: Planned, place: int) -> None:
        """Put the box of a picture in its place, or all of it in the upper left corner of a larger one."""
        if planned.boxes is not None:
            top, left, height, width = planned.boxes[place // self._plan.length]
            canvas[:] = picture[top : top + height, left : left + width]
        else:
            height, width = picture.shape[:2]
            canvas[:height, :width] = picture
            canvas[height:] = 0
            canvas[:, width:] = 0

    def _hand_over(self) -> tuple[tuple[int, int], bool]:
        """Height and width of what is handed over, and whether it is cut out of the frames here: it is where each
        view shows a box of one size. Else the frames come whole, in the upper left corner of the largest one's size.
        """
        sizes = np.unique(np.stack([self._videos.height, self._videos.width]), axis=1).T.tolist()
        boxes = {look.fixed_box(*size) for look in self._plan.looks for size in sizes}
        box = boxes.pop()
        if box is not None and not boxes:
            return box, True
        return (max(height for height, _ in sizes), max(width for _, width in sizes)), False

    def _planned(self, row: int, video: Video, rng: Random) -> Planned:
        sample = self._plan(video, rng)
        looks = self._plan.looks
        drawn: dict[int, DrawnParameters] = {}
        for view in sample.views:
            if view.group not in drawn:
                look = looks[view.group] if len(looks) > 1 else looks[0]
                drawn[view.group] = look.draw(rng, video.height, video.width, self._plan.length)
        cuts = {group: _cut(augmentation) for group, augmentation in drawn.items()} if self._cut else None
        groups = [view.group for view in sample.views]
        boxes = None if cuts is None else [cuts[group] for group in groups]
        return Planned(row, video, sample, _shown(sample), [drawn[group] for group in groups], boxes)

    @cached_property
    def _by_length(self) -> npt.NDArray[np.int64]:
        return np.argsort(self._videos.frames, kind="stable")

    def _long_enough(self, needed: int, rng: Random) -> int:
        first = int(np.searchsorted(self._videos.frames[self._by_length], needed))
        if first == len(self._videos):
            longest = int(self._videos.frames.max())
            raise WorkError(
                f"no video has the {needed} frames that a sample needs, the longest has {longest}; "
                "use longer videos, or another policy than replace for short ones"
            )
        return int(self._by_length[rng.randrange(first, len(self._videos))])


def _cut(augmentation: DrawnParameters) -> Box:
    """The box that is cut out here; what is handed over is then all box."""
    (box,) = augmentation["box"]
    top, left, height, width = box
    augmentation["box"] = [(0, 0, height, width)]
    return top, left, height, width


def _shown(sample: Sample) -> dict[int, list[int]]:
    shown: dict[int, list[int]] = {}
    place = 0
    for view in sample.views:
        for frame in view.frames:
            if frame in shown:
                shown[frame].append(place)
            else:
                shown[frame] = [place]
            place += 1
    return shown
