"""Make one sample: choose the frames of a video, read and decode them, and write the pixels into a batch.

All randomness of a sample comes from (seed, epoch, key), so it is the same in any worker on any rank.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vprep.errors import UsageError, WorkError
from vprep.format import jpeg_header, jpeg_size
from vtrain.data.augment.config import Box, DrawnParameters, demand_distinct
from vtrain.data.dataset import Videos
from vtrain.data.order import seed_from
from vtrain.data.sampling import Plan, Sample, TooShortError, Video, View
from vtrain.data.shard_reader import BadSampleError, Bytes, Located, ShardReader

FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION

HEADER = 1024  # bytes of a JPEG in which its size is found most often
WHOLE = (int, np.integer)  # types of a frame's number

Jpegs = list[tuple[int, Bytes]]  # frame number, its bytes
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """The chosen frames of a video, and the drawn parameters of their augmentation."""

    row: int
    video: Video
    sample: Sample
    slots: dict[int, list[int]]  # frame -> the slots that show it, counted through the clips of all views
    augmentation: list[DrawnParameters]  # one for each view
    boxes: list[Box] | None  # for each view, the part of a frame that is cut out here; None: frames stay complete


class Sampler:
    """Makes samples of `videos` by `plan`.

    `canvas` is the height and width of a sample's pixels. Where each view shows a box of the same size in any video,
    that box is cut out here. Otherwise frames stay complete, in the upper left corner of a canvas that has space for
    the largest of them.
    """

    def __init__(self, videos: Videos, plan: Plan, seed: int) -> None:
        self._videos = videos
        self._plan = plan
        self._seed = seed
        self._reader = ShardReader(videos)
        sizes = videos.frame_sizes
        for config in plan.looks:
            demand_distinct(config, sizes)
        self._cuts = _common_box(plan, sizes) is not None
        self.canvas = canvas_of(plan, sizes)

    def with_reader(self, reader: ShardReader) -> "Sampler":
        """Return a sampler that is the same but for its reader, which one thread at a time may use."""
        other = copy(self)
        other._reader = reader
        return other

    def plan(self, epoch: object, row: int) -> PlannedSample:
        """Choose the frames of the video `row` in `epoch`. No pixel is read."""
        video = self._videos[row]
        seed = seed_from(self._seed, epoch, video.key)
        try:
            return self._planned(row, video, Random(seed))
        except TooShortError as short:
            if short.short != "replace":
                raise BadSampleError(f"it has {video.frames} frames, {short.needed} are needed") from None
            other = self._random_row(short.needed, Random(seed + 1))
            # With the same random numbers: values that are drawn before the length matters, such as the speed, stay.
            return self._planned(other, self._videos[other], Random(seed))

    def substitute(self, epoch: object, row: int, number: int) -> int:
        """Return the row of a video that replaces a bad one; each `number` gives another row."""
        return seed_from(self._seed, epoch, self._videos.keys[row], "substitute", number) % len(self._videos)

    def begin(self, rows: Sequence[int]) -> None:
        """Begin to fetch those of the videos that have to be read from a store."""
        self._reader.begin(rows)

    def locate(self, planned: PlannedSample) -> Located:
        """Find the bytes of the frames, each frame once, and ask the system to read them from disk."""
        return self._reader.locate(planned.row, sorted(planned.slots))

    def read(self, located: Located) -> Jpegs:
        """Return the bytes of the frames, which are valid until the next call."""
        return self._reader.frames(located)

    def fill(self, planned: PlannedSample, jpegs: Jpegs, pixels_NTHWC: Pixels) -> None:
        """Decode the frames and write each into all of its slots."""
        canvases = pixels_NTHWC.reshape(-1, *pixels_NTHWC.shape[2:])
        size = (planned.video.height, planned.video.width, 3)
        complete = planned.boxes is None and canvases.shape[1:] == size
        slots, decode, known = planned.slots, cv2.imdecode, b""
        for frame, jpeg in jpegs:
            # A few bytes can claim 65,535 x 65,535 pixels, so the size is compared before anything is decoded.
            if not known or jpeg[: len(known)].tobytes() != known:  # most frames of a video begin alike
                known = _beginning(jpeg, size[:2])
            picture = decode(jpeg, FLAGS) if known else None
            if picture is None or picture.shape != size:
                raise BadSampleError(f"frame {frame} does not decode to the size in the index")
            for slot in slots[frame]:
                if complete:
                    canvases[slot] = picture
                else:
                    self._paste(picture, canvases[slot], planned, slot)

    def _paste(self, picture: npt.NDArray[Any], canvas: Pixels, planned: PlannedSample, slot: int) -> None:
        """Write the view's box of a picture, or all of it, into a canvas; the rest of the canvas is 0."""
        if planned.boxes is not None:
            top, left, height, width = planned.boxes[slot // self._plan.length]
            canvas[:] = picture[top : top + height, left : left + width]
        else:
            height, width = picture.shape[:2]
            canvas[:height, :width] = picture
            canvas[height:] = 0
            canvas[:, width:] = 0

    def _planned(self, row: int, video: Video, rng: Random) -> PlannedSample:
        sample = self._plan(video, rng)
        check(sample, self._plan, video)
        configs = self._plan.looks
        drawn: dict[int, DrawnParameters] = {}  # by group
        for view in sample.views:
            if view.group not in drawn:
                config = configs[view.group] if len(configs) > 1 else configs[0]
                drawn[view.group] = config.draw(rng, video.height, video.width, self._plan.length)
        boxes = {group: _take_box(parameters) for group, parameters in drawn.items()} if self._cuts else None
        groups = [view.group for view in sample.views]
        return PlannedSample(
            row=row,
            video=video,
            sample=sample,
            slots=_slots(sample),
            augmentation=[drawn[group] for group in groups],
            boxes=None if boxes is None else [boxes[group] for group in groups],
        )

    @cached_property
    def _rows_by_length(self) -> npt.NDArray[np.int64]:
        return np.argsort(self._videos.frames, kind="stable")

    def _random_row(self, frames: int, rng: Random) -> int:
        """Return the row of a random video with at least `frames` frames."""
        first = int(np.searchsorted(self._videos.frames[self._rows_by_length], frames))
        if first == len(self._videos):
            longest = int(self._videos.frames.max())
            raise WorkError(
                f"no video has the {frames} frames that a sample needs, the longest has {longest}; "
                "use longer videos, or another policy for short ones than replace"
            )
        return int(self._rows_by_length[rng.randrange(first, len(self._videos))])


def check(sample: Sample, plan: Plan, video: Video) -> None:
    """Refuse a sample that is not as its plan promises. This is called for each sample, so it has to be fast."""
    if not isinstance(sample, Sample):
        raise UsageError(
            f"the plan returned a {type(sample).__name__} for video '{video.key}'; it must return a Sample"
        )
    views, length, groups, end = sample.views, plan.length, len(plan.looks), video.frames
    if len(views) != plan.views:
        raise UsageError(
            f"the plan returned {len(views)} views of video '{video.key}' where its `views` is {plan.views}; "
            "make the two equal"
        )
    try:
        for view in views:
            shown = view.frames
            # The sum is an integer only if every frame is.
            right = len(shown) == length and min(shown) >= 0 and max(shown) < end and isinstance(sum(shown), WHOLE)
            if not right or (groups > 1 and not 0 <= view.group < groups):
                break
        else:
            return
    except (TypeError, AttributeError):  # the view is no View, or its frames are no numbers
        pass
    raise UsageError(next(filter(None, (_fault(view, number, plan, video) for number, view in enumerate(views)))))


def _fault(view: object, number: int, plan: Plan, video: Video) -> str:
    """Return what is wrong with a view; empty when nothing is."""
    name = f"view {number} of video '{video.key}'"
    if not isinstance(view, View):
        return f"the plan gave a {type(view).__name__} as {name}; it must be a View"
    if not hasattr(view.frames, "__len__"):
        return f"the plan gave {name} a {type(view.frames).__name__} as frames; it must be a list of numbers"
    for frame in view.frames:
        if not isinstance(frame, WHOLE):
            return f"the plan gave {name} the frame {frame!r}; the number of a frame must be an int"
        if not 0 <= frame < video.frames:
            return f"the plan asks for frame {frame} of video '{video.key}', which has frames 0 to {video.frames - 1}"
    if len(view.frames) != plan.length:
        return f"the plan gave {name} {len(view.frames)} frames where its `length` is {plan.length}; make the two equal"
    groups = range(len(plan.looks))
    if len(groups) > 1 and view.group not in groups:
        return (
            f"the plan gave {name} the group {view.group!r}, but its `looks` are for groups 0 to {groups[-1]}; "
            "give one AugmentConfig for all groups or one for each"
        )
    return ""


def _beginning(jpeg: Bytes, size: tuple[int, int]) -> bytes:
    """Return a JPEG up to and with the height and width that it claims; nothing where these are not `size`."""
    for length in (HEADER, len(jpeg)):
        data = jpeg[:length].tobytes()
        at = jpeg_header(data)
        if at is not None:
            return data[: at + 9] if jpeg_size(data) == size else b""
    return b""


def canvas_of(plan: Plan, sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Return height and width of a sample's pixels, for frames of all these sizes."""
    return _common_box(plan, sizes) or (max(height for height, _ in sizes), max(width for _, width in sizes))


def _common_box(plan: Plan, sizes: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Return height and width of the box that every view shows, for frames of all these sizes; None if it varies."""
    boxes = {config.fixed_box(*size) for config in plan.looks for size in sizes}
    return boxes.pop() if len(boxes) == 1 else None


def _take_box(parameters: DrawnParameters) -> Box:
    """Return the box, which is cut out here; for the device, the frame is then the box."""
    (box,) = parameters["box"]
    top, left, height, width = box
    parameters["box"] = [(0, 0, height, width)]
    return top, left, height, width


def _slots(sample: Sample) -> dict[int, list[int]]:
    """Return the slots that show each frame, by frame."""
    slots: dict[int, list[int]] = {}
    slot = 0
    for view in sample.views:
        for frame in view.frames:
            if frame in slots:
                slots[frame].append(slot)
            else:
                slots[frame] = [slot]
            slot += 1
    return slots
