"""The nearest rows by cosine: exact, in bounded memory, and the same for any size of the parts.

How near two rows are is their cosine to 10 decimals; of rows that are equally near, the one that comes first is the
nearer. A row of zeros has the cosine 0 with all. Most of the work is one float32 product of a part of the queries and
a part of the gallery after another. Its last digits depend on where in a part a row lies, so rows that lie closer
together than float32 can tell are put in order by float64.

Besides the two tables, memory holds some twenty parts of PART bytes (1.3 GB) at most, a norm for each gallery row, and
the neighbours themselves.

Q queries   G gallery   D feature   N neighbours   P pairs of a query and a gallery row
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from veval.features.table import PART, Ints, parts

Table = NDArray[np.float32]

GRID = 10**10  # cosines are told apart to 10 decimals; float32 features have 7
ROWS = 1 << 29  # more than a gallery has: a cosine on the grid and a row number fit into one int64
NONE = torch.iinfo(torch.int64).min
SPARE = 14  # rows beyond the wanted ones, so that a tie at the last place is seen
ORDINARY = 1e18  # norms up to this, and down to its inverse, are divided by in float32 without loss
PAIRS = 1 << 20  # bytes of products that stay in a processor's cache
ALIGNED = 16  # a part has a multiple of so many rows: a product of 1,820 columns takes a quarter longer than of 1,808


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The neighbours of each query, the nearest first; row -1 where the gallery had no more."""

    row: Ints  # [Q, N]
    similarity: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """The rows that are looked through; `hidden` ones are no one's neighbours."""

    table: Table
    hidden: NDArray[np.bool_]
    inverse: Tensor  # 1 / norm
    part: int
    device: torch.device

    def parts_beside(self, queries: int) -> Iterator[slice]:
        """Parts whose rows, and whose cosines with so many queries, are no more than a part's bytes."""
        most = self.part // (4 * max(self.table.shape[1], queries))
        return parts(len(self.table), 1, most - most % ALIGNED or most)

    def rows(self, which: Tensor) -> Tensor:
        return _on(self.table.take(which.cpu().numpy(), axis=0), self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """Some queries, and which gallery rows (by their number) each of them does not meet."""

    table: Tensor
    inverse: Tensor
    closed: Tensor

    def taken(self, which: Tensor) -> "Queries":
        again = torch.full((len(self.table),), -1, device=which.device)
        again[which] = torch.arange(len(which), device=which.device)
        closed_P2 = torch.stack([again[self.closed[:, 0]], self.closed[:, 1]], dim=1)
        return Queries(table=self.table[which], inverse=self.inverse[which], closed=closed_P2[closed_P2[:, 0] >= 0])


def nearest(
    queries_QD: Table,
    gallery_GD: Table,
    depth: int,
    *,
    hidden_G: NDArray[np.bool_] | None = None,
    left_out: Ints | None = None,
    part: int = PART,
    device: str = "cpu",
) -> Nearest:
    """The `depth` nearest gallery rows of each query. `left_out` lists (query, gallery row) that do not meet."""
    if hidden_G is None:
        hidden_G = np.zeros(len(gallery_GD), np.bool_)
    pairs_P2 = np.empty((0, 2), np.int64) if left_out is None else left_out[np.argsort(left_out[:, 0], kind="stable")]
    on = torch.device(device)
    width = queries_QD.shape[1]
    found: list[tuple[Tensor, Tensor]] = []
    with torch.inference_mode(), _full_precision():
        inverse_G = torch.cat([_inverse(_on(gallery_GD[rows], on)) for rows in parts(len(gallery_GD), 4 * width, part)])
        gallery = Gallery(table=gallery_GD, hidden=hidden_G, inverse=inverse_G, part=part, device=on)
        # Two parts of queries at once, so that the gallery is read less often.
        for rows in parts(len(queries_QD), 1, max(1, min(part // (2 * width), isqrt(part // 4)))):
            first, last = np.searchsorted(pairs_P2[:, 0], [rows.start, rows.stop])
            closed_P2 = torch.from_numpy(pairs_P2[first:last] - [rows.start, 0]).to(on)
            rows_QD = _on(queries_QD[rows], on)
            some = Queries(table=rows_QD, inverse=_inverse(rows_QD), closed=closed_P2)
            found.append(_of_part(some, gallery, depth))
    row_QN = torch.cat([rows for rows, _ in found]) if found else torch.empty(0, depth, dtype=torch.int64)
    near_QN = torch.cat([near for _, near in found]) if found else torch.empty(0, depth)
    return Nearest(row=row_QN.numpy(), similarity=near_QN.numpy())


def _of_part(queries: Queries, gallery: Gallery, depth: int) -> tuple[Tensor, Tensor]:
    near_QN, row_QN = _roughly(queries, gallery, depth + SPARE)
    unsure = _unsure(queries.table.shape[1], 24)
    key_QN = _keys((near_QN.double() * GRID).round().long(), row_QN).masked_fill(near_QN == -torch.inf, NONE)
    # Rows that are too close to each other to tell by float32 get their exact keys.
    close = near_QN[:, :-1] - near_QN[:, 1:] < unsure
    doubtful = torch.zeros_like(near_QN, dtype=torch.bool)
    doubtful[:, :-1] |= close
    doubtful[:, 1:] |= close
    query_P, place_P = doubtful.nonzero(as_tuple=True)
    row_P = row_QN[query_P, place_P]
    key_QN[query_P, place_P] = _keys(_cosines(queries, query_P, gallery, row_P), row_P)
    # Where the last that was kept may be as near as the last that is wanted, so may be others that were not kept.
    tied = (near_QN[:, depth - 1] - near_QN[:, -1] < unsure).nonzero()[:, 0]
    key_QN = key_QN.sort(descending=True).values[:, :depth]
    if len(tied):
        key_QN[tied] = _exactly(queries.taken(tied), gallery, depth)
    none_QN = key_QN == NONE
    grid_QN = key_QN.div(ROWS, rounding_mode="floor")
    row_QN = (ROWS - 1 - (key_QN - grid_QN * ROWS)).masked_fill(none_QN, -1)
    return row_QN.cpu(), (grid_QN.double() / GRID).float().masked_fill(none_QN, -torch.inf).cpu()


def _roughly(queries: Queries, gallery: Gallery, keep: int) -> tuple[Tensor, Tensor]:
    """The nearest `keep` rows as float32 products tell, -inf where there are fewer."""
    unit_QD = _unit(queries.table, queries.inverse)
    best_QN = unit_QD.new_full((len(unit_QD), keep), -torch.inf)
    row_QN = torch.full(best_QN.shape, -1, device=best_QN.device)
    for rows in gallery.parts_beside(len(unit_QD)):
        part_GD = _on(gallery.table[rows], gallery.device)
        near_QG = unit_QD @ _unit(part_GD, gallery.inverse[rows]).T
        _close(near_QG, rows, gallery, queries, -torch.inf)
        near_QN, at_QN = near_QG.topk(min(keep, near_QG.shape[1]), dim=1)
        best_QN, at = torch.cat([best_QN, near_QN], dim=1).topk(keep, dim=1)
        row_QN = torch.cat([row_QN, at_QN + rows.start], dim=1).gather(1, at)
    return best_QN, row_QN


def _exactly(queries: Queries, gallery: Gallery, depth: int) -> Tensor:
    """The keys of the nearest `depth` rows, each row of the gallery looked at in float64."""
    unit_QD = queries.table.double() * queries.inverse[:, None]
    best_QN = torch.full((len(unit_QD), depth), NONE, device=unit_QD.device)
    for rows in gallery.parts_beside(2 * len(unit_QD)):
        part_GD = _on(gallery.table[rows], gallery.device).double() * gallery.inverse[rows, None]
        fine_QG = unit_QD @ part_GD.T * GRID
        grid_QG = fine_QG.round().long()
        query_P, at_P = _between(fine_QG, unit_QD.shape[1]).nonzero(as_tuple=True)
        grid_QG[query_P, at_P] = _settled(queries, query_P, gallery, at_P + rows.start)
        key_QG = _keys(grid_QG, torch.arange(rows.start, rows.stop, device=best_QN.device))
        _close(key_QG, rows, gallery, queries, NONE)
        best_QN = torch.cat([best_QN, key_QG], dim=1).topk(depth, dim=1).values
    return best_QN


def _cosines(queries: Queries, query_P: Tensor, gallery: Gallery, row_P: Tensor) -> Tensor:
    """Those of pairs of a query and a gallery row, on the grid; the pairs are in the order of the queries."""
    width = queries.table.shape[1]
    fine_P = GRID * queries.inverse[query_P] * gallery.inverse[row_P]
    begin = 0
    for query, pairs in enumerate(query_P.bincount().tolist()):
        query_D = queries.table[query].double()
        for at in parts(pairs, 8 * width, PAIRS):
            some = slice(begin + at.start, begin + at.stop)
            fine_P[some] *= gallery.rows(row_P[some]).double() @ query_D
        begin += pairs
    grid_P = fine_P.round().long()
    between = _between(fine_P, width).nonzero()[:, 0]
    grid_P[between] = _settled(queries, query_P[between], gallery, row_P[between])
    return grid_P


def _between(fine: Tensor, width: int) -> Tensor:
    """Which lie where the order of a sum may tell to which of two points of the grid they are rounded."""
    return (fine - fine.floor() - 0.5).abs() < _unsure(width, 53) * GRID


def _settled(queries: Queries, query_P: Tensor, gallery: Gallery, row_P: Tensor) -> Tensor:
    """The same by sums that do not depend on how many are made at once."""
    cosine_P = torch.empty(len(query_P), dtype=torch.float64, device=gallery.device)
    for at in parts(len(query_P), 8 * queries.table.shape[1], PAIRS):
        query, row = query_P[at], row_P[at]
        dot_P = _sum(queries.table[query].double() * gallery.rows(row))
        cosine_P[at] = dot_P * queries.inverse[query] * gallery.inverse[row]
    return (cosine_P * GRID).round().long()


def _sum(x_PD: Tensor) -> Tensor:
    """By halves, so that a row's sum is the same, bit for bit, whatever is summed beside it and by how many threads."""
    while x_PD.shape[1] > 1:
        half = x_PD.shape[1] // 2
        folded = x_PD[:, :half] + x_PD[:, half : 2 * half]
        if x_PD.shape[1] % 2:
            folded[:, 0] += x_PD[:, -1]
        x_PD = folded
    return x_PD[:, 0]


def _inverse(rows_GD: Tensor) -> Tensor:
    """1 / norm, and 0 for a row of zeros."""
    square_G = torch.empty(len(rows_GD), dtype=torch.float64, device=rows_GD.device)
    for at in parts(len(rows_GD), 8 * rows_GD.shape[1], PAIRS):
        square_G[at] = _sum(rows_GD[at].double().square())
    return torch.where(square_G > 0, 1 / square_G.sqrt(), 0.0)


def _unit(rows_GD: Tensor, inverse_G: Tensor) -> Tensor:
    if bool(((inverse_G == 0) | ((inverse_G < ORDINARY) & (inverse_G > 1 / ORDINARY))).all()):
        return rows_GD * inverse_G.float()[:, None]
    unit_GD = torch.empty_like(rows_GD)
    for at in parts(len(rows_GD), 8 * rows_GD.shape[1], PAIRS):
        unit_GD[at] = (rows_GD[at].double() * inverse_G[at, None]).float()
    return unit_GD


def _keys(grid: Tensor, row: Tensor) -> Tensor:
    """One number of which the greatest is the nearest, or of equals the first; no two are the same."""
    return grid * ROWS + (ROWS - 1 - row)


def _close(near_QG: Tensor, rows: slice, gallery: Gallery, queries: Queries, value: float) -> None:
    """Give gallery rows that a query does not meet a value that is no one's neighbour's."""
    query_P, row_P = queries.closed.unbind(1)
    here = (row_P >= rows.start) & (row_P < rows.stop)
    near_QG[query_P[here], row_P[here] - rows.start] = value
    if gallery.hidden[rows].any():
        near_QG[:, torch.tensor(gallery.hidden[rows], device=near_QG.device)] = value


def _unsure(width: int, bits: int) -> float:
    """Cosines that differ by less than this may be the other way round.

    Errors of a sum add up like a random walk, at worst; those seen on a processor were less than half of this.
    """
    return float(2 * 2.0**-bits * (8 + sqrt(width)))


def _on(rows: Table, device: torch.device) -> Tensor:
    return torch.from_numpy(rows if rows.flags.writeable else rows.copy()).to(device)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products of float32 without shortcuts that training may have allowed (TF32, bfloat16)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
