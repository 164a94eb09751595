"""Gives a method the clips that it asks for within a step, from a table in memory."""

import torch
from torch import Tensor


class TableFetch:
    """Has one clip of each video, whatever the speed, and remembers what was asked for. Reads no value of a tensor."""

    def __init__(self, table: Tensor) -> None:
        self.videos = len(table)
        self.table = table
        self.valid = True
        self.asked: list[tuple[Tensor, Tensor]] = []
        self.taken = 0  # how often clips were waited for

    def __call__(self, rows: Tensor, speeds: Tensor) -> "TableFetching":
        self.asked.append((rows, speeds))
        if self.table.device != rows.device:
            self.table = self.table.to(rows.device)
        return TableFetching(self, rows)


class TableFetching:
    def __init__(self, fetch: TableFetch, rows: Tensor) -> None:
        self.fetch, self.rows = fetch, rows

    def clips(self) -> tuple[Tensor, Tensor]:
        self.fetch.taken += 1
        valid = torch.full_like(self.rows, self.fetch.valid, dtype=torch.bool)
        return self.fetch.table.index_select(0, self.rows)[:, None], valid
