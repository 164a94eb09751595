"""ASCNet's memory of recent videos, and the search for a neighbour in it (section 3.3.1; algorithm 1, lines 12 to 14).

B batch   D feature   K memory   T frames   H height   W width   C channels
"""

import torch
from torch import Tensor

from vtrain.distributed import gather
from vtrain.methods.ascnet import Config
from vtrain.methods.momentum import Queue


class Bank(Queue):
    """The appearance of videos, for all ranks; a neighbour is a video, of which a new clip is read.

    If there is an entry for every video, the newer appearance of a video replaces its older one: the bank then holds
    each video that was shown, once. Otherwise the oldest entries make place, as in MoCo's queue.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__(appearance=torch.zeros(size, dim), row=empty_rows(size))

    def remember(self, videos: int, row_B: Tensor, appearance_BD: Tensor) -> None:
        """Take the newest appearance of some of the `videos`."""
        if videos <= self.size:
            self.put(row_B, row=row_B, appearance=appearance_BD)
        else:
            self.push(row=row_B, appearance=appearance_BD)

    def neighbours(self, videos: int, row_B: Tensor, a_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows of the most similar other videos, and which samples have one; in training remember first.

        A sample without a neighbour gets a row all the same: its own, where that is one of the `videos`.
        """
        if self.training:
            self.remember(videos, gather(row_B), gather(a_BD))
        fits_BK = others(rows_to_leave_out(self, row_B), self["row"])
        found_B, best_B = fits_BK.any(1), nearest(a_BD, self["appearance"], fits_BK)
        return torch.where(found_B, self["row"].index_select(0, best_B), row_B % videos), found_B


class Recent(Queue):
    """The clips that the target network saw last, on all ranks, each with its appearance and speed.

    `kept` is kept, too, and found again: pixels [T, H, W, C] as "clip", or motion [D] as "feature".
    """

    def __init__(self, dim: int, **kept: Tensor) -> None:
        ((self.kind, entries),) = kept.items()
        size = len(entries)
        tags = {"appearance": torch.zeros(size, dim), "speed": torch.zeros(size), "row": empty_rows(size)}
        super().__init__(**tags, **kept)

    def neighbours(
        self, row_B: Tensor, wanted_B: Tensor, speed_B: Tensor, a_BD: Tensor, new_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what was kept of the most similar clip at the wanted speed, and which samples have one.

        In training, `new_B` of the clips at `speed_B` is kept before.
        """
        if self.training:
            new = {"appearance": a_BD, "speed": speed_B, "row": row_B, self.kind: new_B}
            self.push(**{name: gather(entries) for name, entries in new.items()})
        fits_BK = fitting(wanted_B, rows_to_leave_out(self, row_B), self["speed"], self["row"])
        return self[self.kind].index_select(0, nearest(a_BD, self["appearance"], fits_BK)), fits_BK.any(1)


def memory(config: Config) -> Bank | Recent:
    """Return the empty memory in which the similar video is sought."""
    if config.memory == "bank":
        return Bank(config.queue, config.dim)
    if config.memory == "feature":
        return Recent(config.dim, feature=torch.zeros(config.queue, config.dim))
    # In the type that a network under autocast reads, and with channels last, which is the layout of clips.
    frames, side = config.sampling.frames, config.sampling.looks[0].size
    return Recent(config.dim, clip=torch.zeros(config.pool, frames, side, side, 3, dtype=torch.bfloat16))


def empty_rows(size: int) -> Tensor:
    """Return the rows of empty entries, which no video has."""
    return torch.full((size,), -1)


def rows_to_leave_out(held: Queue, row_B: Tensor) -> Tensor:
    """Return the row that is no neighbour of each sample: its own, or none for held-out videos, which count apart."""
    return row_B if held.training else torch.full_like(row_B, -2)


def others(row_B: Tensor, row_K: Tensor) -> Tensor:
    """Return which of K entries are of another video: bool [B, K]."""
    return (row_B[:, None] != row_K) & (row_K >= 0)


def fitting(speed_B: Tensor, row_B: Tensor, speed_K: Tensor, row_K: Tensor) -> Tensor:
    """Return which of K clips are of another video and at the wanted speed: bool [B, K]."""
    return (speed_B[:, None] == speed_K) & others(row_B, row_K)


def nearest(a_BD: Tensor, a_KD: Tensor, fits_BK: Tensor) -> Tensor:
    """Return the entry with the most similar appearance among those that fit (lines 12 to 14)."""
    with torch.autocast(a_BD.device.type, enabled=False):
        return torch.mm(a_BD, a_KD.T).masked_fill(~fits_BK, -torch.inf).argmax(1)


def next_fitting(fits_BB: Tensor) -> Tensor:
    """Return for each sample of a batch the next sample after it that fits; after the last comes the first."""
    number = torch.arange(len(fits_BB), device=fits_BB.device)
    return ((number - number[:, None]) % len(fits_BB)).masked_fill(~fits_BB, len(fits_BB)).argmin(1)
