"""Videos that are kept from training, to see how it goes on what it has not seen."""

import re
from typing import Literal

import numpy as np

from vprep.errors import UsageError
from vtrain.data.order import number_of
from vtrain.data.videos import Videos

By = Literal["video", "group"]

GROUP = re.compile(r"_g(\d+)_c\d+")  # UCF101: clips of one group were cut from one video


def held_out(videos: Videos, count: int, by: By = "video", seed: int = 0) -> tuple[Videos, Videos]:
    """What is left, and `count` videos drawn by seed; with by="group" whole groups, until there are at least so many.

    Clips of one group are alike: where they are on both sides, what is told of the held-out ones says little.
    So, too, with videos of one name in several sets, which are held out together.
    """
    if not 0 <= count < len(videos):
        raise UsageError(f"{count} videos are to be held out of {len(videos)}; hold out 0 to {len(videos) - 1}")
    keys = videos.keys.to_pylist()
    groups = keys if by == "video" else [_group(key) for key in keys]
    order = sorted(set(groups), key=lambda group: number_of(seed, "held out", group))
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    held: list[int] = []
    for group in order:
        if len(held) >= count:
            break
        held += rows[group]
    if count and len(held) == len(videos):
        raise UsageError(f"the {len(order)} groups are too large to hold out {count} videos; hold out fewer")
    kept = np.ones(len(videos), bool)
    kept[held] = False
    return videos.take(np.flatnonzero(kept)), videos.take(np.flatnonzero(~kept))


def _group(key: str) -> str:
    found = GROUP.search(key)
    if found is None:
        raise UsageError(f"video '{key}' has no group in its name, as in v_Archery_g01_c02; hold out by video")
    return found[1]
