"""The order of the videos: a pure function of (seed, epoch, index), so that one integer is all of the loader's state.

In an epoch the shards are permuted and cut into blocks; the videos of a block are permuted. A block is what a cache
of remote shards has to hold, and it is wide, so that a set that is sorted by class is well mixed all the same.
"""

import numpy as np
import numpy.typing as npt

from vprep.hashing import hash_of

BLOCK = 1 << 16  # videos, at least

Ints = npt.NDArray[np.int32]
_GOLDEN = 0x9E3779B97F4A7C15


def seed_from(*parts: object) -> int:
    """One number of 64 bits from several things, each bit depending on all of them."""
    return int(hash_of("/".join(map(str, parts)).encode())[:16], 16)


def _scrambled(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    # splitmix64 by Steele, Lea and Flood. NumPy's own generators may give other numbers in its next version.
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _ranks(count: int, *seeds: object) -> npt.NDArray[np.uint64]:
    """A random number for each of `count` things."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    return _scrambled(steps + np.uint64(seed_from(*seeds)))


def epoch_order(shards: npt.NDArray[np.integer], seed: int, epoch: int, block: int = BLOCK) -> Ints:
    """The rows of an index in the order of one epoch; `shards[row]` is the number of the row's shard."""
    sizes = np.bincount(shards)
    drawn = np.argsort(_ranks(len(sizes), seed, epoch, "shards"), kind="stable")
    before = np.empty(len(sizes), np.int64)
    before[drawn] = np.cumsum(sizes[drawn]) - sizes[drawn]
    blocks = max(1, len(shards) // block)  # of equal size, none of them smaller than `block`
    block_of = (before * blocks // len(shards)).astype(np.int32)
    return np.lexsort((_ranks(len(shards), seed, epoch, "videos"), block_of[shards])).astype(np.int32)


class Order:
    """Which video stands at a position of the endless stream of epochs, each of which has every video once."""

    def __init__(
        self, shards: npt.NDArray[np.integer], seed: int = 0, *, block: int = BLOCK, shuffled: bool = True
    ) -> None:
        self._shards = shards
        self._seed = seed
        self._block = block
        self._shuffled = shuffled
        self._epochs: dict[int, Ints] = {}

    def at(self, position: int) -> tuple[int, int]:
        """The epoch and the row at `position`."""
        epoch, place = divmod(position, len(self._shards))
        return epoch, int(self._rows(epoch)[place])

    def _rows(self, epoch: int) -> Ints:
        if epoch not in self._epochs:
            # A batch may reach into the next epoch; older ones are not needed again.
            self._epochs = {known: rows for known, rows in self._epochs.items() if known == epoch - 1}
            everything = np.arange(len(self._shards), dtype=np.int32)
            shuffled = epoch_order(self._shards, self._seed, epoch, self._block) if self._shuffled else everything
            self._epochs[epoch] = shuffled
        return self._epochs[epoch]


def share(first: int, batch: int, end: int | None, rank: int, world: int) -> range:
    """The positions that `rank` takes of the global batch that begins at `first`.

    The last batch of a finite pass may be short; it is filled up from behind `end` until the ranks have equal parts.
    """
    size = batch if end is None else min(batch, end - first)
    part = -(-size // world)
    return range(first + rank * part, first + (rank + 1) * part)
