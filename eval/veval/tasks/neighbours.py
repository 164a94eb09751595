"""The nearest gallery rows by cosine: exact, in bounded memory, and the same for any size of the parts.

Cosines are compared to 10 decimals; among equal cosines the first row is nearer. A row of zeros has the cosine 0 with
every row. A float32 product picks candidates; candidates too close for float32 to order are compared in float64. Where
float32 cannot even decide which rows are candidates, float64 searches the whole gallery, which takes two to three times
as long.

Besides the two tables, memory holds some twenty parts of PART bytes (1.3 GB) at most, and the neighbours themselves.

Q queries   G gallery   D feature   N neighbours   P pairs of a query and a gallery row
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt, sqrt

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from veval.evaluation import Progress, nothing
from veval.features.table import PART, Ints, parts

Table = NDArray[np.float32]

GRID = 10**10  # cosines are compared to 10 decimals; float32 features have 7
ROWS = 1 << 29  # more than a gallery has: a rounded cosine and a row number fit into one int64
NONE = torch.iinfo(torch.int64).min
SPARE = 14  # candidates beyond the wanted ones, so that a tie at the last place is noticed
TINY = 1e-300  # less than the norm of any float32 row but zeros
IN_CACHE = 1 << 20  # bytes of float64 that stay in a processor's cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The neighbours of each query, the nearest first; row -1 where the gallery has no more rows."""

    row: Ints  # [Q, N]
    similarity: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """The rows that are searched; `hidden` rows are never neighbours."""

    table: Table
    hidden: NDArray[np.bool_]
    part: int
    device: torch.device

    def unit(self, rows: slice | NDArray[np.int64], dtype: torch.dtype = torch.float64) -> Tensor:
        """Return rows of length 1."""
        return _unit(self.table[rows], self.device, dtype)


def nearest(
    queries_QD: Table,
    gallery_GD: Table,
    depth: int,
    *,
    hidden_G: NDArray[np.bool_] | None = None,
    left_out: Ints | None = None,
    part: int = PART,
    device: str = "cpu",
    progress: Progress = nothing,
) -> Nearest:
    """Return the `depth` nearest gallery rows of each query; `left_out` lists pairs (query, gallery row) to skip."""
    hidden_G = np.zeros(len(gallery_GD), np.bool_) if hidden_G is None else hidden_G
    gallery = Gallery(table=gallery_GD, hidden=hidden_G, part=part, device=torch.device(device))
    pairs_P2 = np.empty((0, 2), np.int64) if left_out is None else left_out
    key_QN = torch.empty(len(queries_QD), depth, dtype=torch.int64)
    with torch.inference_mode(), _full_precision():
        # Two parts of queries at once, so that the gallery is read less often.
        for rows in parts(len(queries_QD), 1, max(1, min(part // (2 * queries_QD.shape[1]), isqrt(part // 4)))):
            here_P2 = pairs_P2[(pairs_P2[:, 0] >= rows.start) & (pairs_P2[:, 0] < rows.stop)] - [rows.start, 0]
            queries = _unit(queries_QD[rows], gallery.device)
            key_QN[rows] = _keys_of_nearest(queries, torch.from_numpy(here_P2).to(gallery.device), gallery, depth)
            progress(rows.stop, len(queries_QD))
    grid_QN = key_QN.div(ROWS, rounding_mode="floor")
    row_QN = (ROWS - 1 - (key_QN - grid_QN * ROWS)).masked_fill(key_QN == NONE, -1)
    near_QN = (grid_QN.double() / GRID).float().masked_fill(key_QN == NONE, -torch.inf)
    return Nearest(row=row_QN.numpy(), similarity=near_QN.numpy())


def _keys_of_nearest(queries_QD: Tensor, closed_P2: Tensor, gallery: Gallery, depth: int) -> Tensor:
    unsure = _unsure(queries_QD.shape[1])
    near_QN, row_QN = _search(queries_QD.float(), closed_P2, gallery, depth + SPARE)
    key_QN = _keys(near_QN.double(), row_QN).masked_fill(near_QN == -torch.inf, NONE)
    close = near_QN[:, :-1] - near_QN[:, 1:] < unsure
    query_P, place_P = (F.pad(close, (0, 1)) | F.pad(close, (1, 0))).nonzero(as_tuple=True)
    for at in parts(len(query_P), 16 * queries_QD.shape[1], IN_CACHE):
        row_P = row_QN[query_P[at], place_P[at]]
        cosine_P = (gallery.unit(row_P.cpu().numpy()) * queries_QD[query_P[at]]).sum(1)
        key_QN[query_P[at], place_P[at]] = _keys(cosine_P, row_P)
    key_QN = key_QN.sort(descending=True).values[:, :depth]
    # Where the last candidate may be as near as the last wanted row, further rows may be as near, too.
    tied = near_QN[:, depth - 1] - near_QN[:, -1] < unsure
    if tied.any():
        among_tied_P2 = torch.stack([tied.cumsum(0)[closed_P2[:, 0]] - 1, closed_P2[:, 1]], dim=1)
        key_QN[tied], _ = _search(queries_QD[tied], among_tied_P2[tied[closed_P2[:, 0]]], gallery, depth)
    return key_QN


def _search(queries_QD: Tensor, closed_P2: Tensor, gallery: Gallery, keep: int) -> tuple[Tensor, Tensor]:
    """Return scores and rows of the `keep` best: cosines for float32 queries, keys for float64 ones.

    Where there are fewer, the score is the lowest number.
    """
    exact, (queries, width) = queries_QD.dtype == torch.float64, queries_QD.shape
    score_type, lowest = (torch.int64, NONE) if exact else (torch.float32, -torch.inf)
    best_QN = torch.full((queries, keep), lowest, dtype=score_type, device=gallery.device)
    row_QN = torch.full(best_QN.shape, -1, device=gallery.device)
    for rows in parts(len(gallery.table), queries_QD.element_size() * max(width, queries), gallery.part):
        score_QG = queries_QD @ gallery.unit(rows, queries_QD.dtype).T
        if exact:
            score_QG = _keys(score_QG, torch.arange(rows.start, rows.stop, device=gallery.device))
        here_P2 = closed_P2[(closed_P2[:, 1] >= rows.start) & (closed_P2[:, 1] < rows.stop)]
        score_QG[here_P2[:, 0], here_P2[:, 1] - rows.start] = lowest
        score_QG[:, torch.from_numpy(gallery.hidden[rows]).to(gallery.device)] = lowest
        score_QN, at_QN = score_QG.topk(min(keep, score_QG.shape[1]), dim=1)
        best_QN, at = torch.cat([best_QN, score_QN], dim=1).topk(keep, dim=1)
        row_QN = torch.cat([row_QN, at_QN + rows.start], dim=1).gather(1, at)
    return best_QN, row_QN


def _keys(cosine: Tensor, row: Tensor) -> Tensor:
    """Return a number per row that is greatest for the nearest row; of equally near rows, for the first."""
    return (cosine * GRID).round_().long().mul_(ROWS).add_(ROWS - 1 - row)


def _unit(rows_GD: Table, device: torch.device, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return rows of length 1, normalised in float64: float32 has no squares of very large and very small numbers."""
    table_GD = torch.from_numpy(rows_GD if rows_GD.flags.writeable else rows_GD.copy()).to(device)
    unit_GD = torch.empty_like(table_GD, dtype=dtype)
    for at in parts(len(table_GD), 8 * table_GD.shape[1], IN_CACHE):
        exact_GD = table_GD[at].double()
        unit_GD[at] = exact_GD / torch.linalg.vector_norm(exact_GD, dim=1, keepdim=True).clamp_(min=TINY)
    return unit_GD


def _unsure(width: int) -> float:
    """Return the difference below which float32 may put two cosines in the wrong order.

    Errors of a sum add up like a random walk, at worst; the errors seen on a processor were less than half of this.
    """
    return float(2 * 2.0**-24 * (8 + sqrt(width)))


@contextmanager
def _full_precision() -> Iterator[None]:
    """Compute float32 products without shortcuts that training may have allowed (TF32, bfloat16)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
