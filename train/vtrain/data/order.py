"""The order of the videos: a pure function of (seed, epoch, index), so the loader's state is one integer.

In an epoch the shards are permuted and cut into blocks, and the videos of each block are permuted. A cache of remote
shards would have to hold one block. Blocks are wide, so that even a set that is sorted by class is mixed well.
"""

import numpy as np
import numpy.typing as npt

from vprep.hashing import hash_of

BLOCK = 1 << 16  # the least number of videos in a block

Ints = npt.NDArray[np.int32]
_GOLDEN = 0x9E3779B97F4A7C15


def seed_from(*parts: object) -> int:
    """Return a number of 64 bits, each of which depends on all of `parts`."""
    return int(hash_of("/".join(map(str, parts)).encode())[:16], 16)


def _splitmix64(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the numbers of the generator by Steele, Lea and Flood; NumPy's own may change with its version."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _random_keys(count: int, *seeds: object) -> npt.NDArray[np.uint64]:
    """Return `count` random numbers, to sort by."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    return _splitmix64(steps + np.uint64(seed_from(*seeds)))


def epoch_order(shards: npt.NDArray[np.integer], seed: int, epoch: int, block: int = BLOCK) -> Ints:
    """Return the rows of an index in the order of one epoch; `shards[row]` is the number of the row's shard."""
    block_of = block_of_shards(np.bincount(shards), seed, epoch, block)
    return np.lexsort((_random_keys(len(shards), seed, epoch, "videos"), block_of[shards])).astype(np.int32)


def block_of_shards(videos: npt.NDArray[np.integer], seed: int, epoch: int, block: int = BLOCK) -> Ints:
    """Return the number of the block that each shard is in; `videos` has the number of videos in each shard."""
    permuted = np.argsort(_random_keys(len(videos), seed, epoch, "shards"), kind="stable")
    before = np.empty(len(videos), np.int64)  # for each shard, the number of videos in the shards before it
    before[permuted] = np.cumsum(videos[permuted]) - videos[permuted]
    total = int(videos.sum())
    blocks = max(1, total // block)  # of equal size, none smaller than `block`
    return (before * blocks // total).astype(np.int32)


class Order:
    """The endless stream of epochs, each of which has every video once."""

    def __init__(self, shards: npt.NDArray[np.integer], seed: int = 0, *, shuffled: bool = True) -> None:
        self._shards = shards
        self._seed = seed
        self._shuffled = shuffled
        self._epochs: dict[int, Ints] = {}

    def __len__(self) -> int:
        """Return the number of videos of an epoch."""
        return len(self._shards)

    def at(self, position: int) -> tuple[int, int]:
        """Return the epoch and the row of the video at `position`."""
        epoch, index = divmod(position, len(self._shards))
        return epoch, int(self._rows(epoch)[index])

    def block(self, position: int) -> tuple[range, Ints]:
        """Return the positions from `position` to the end of its block, and the shards of their videos.

        Without shuffling, a block is a shard.
        """
        epoch, first = divmod(position, len(self._shards))
        shards = self._shards[self._rows(epoch)[first:]]
        blocks = block_of_shards(np.bincount(self._shards), self._seed, epoch)[shards] if self._shuffled else shards
        length = int(np.searchsorted(blocks, blocks[0], side="right")) if self._shuffled else _run(blocks)
        return range(position, position + length), shards[:length].astype(np.int32)

    def _rows(self, epoch: int) -> Ints:
        if epoch not in self._epochs:
            # A batch may reach into the next epoch; epochs before the last are not needed again.
            self._epochs = {known: rows for known, rows in self._epochs.items() if known == epoch - 1}
            if self._shuffled:
                self._epochs[epoch] = epoch_order(self._shards, self._seed, epoch)
            else:
                self._epochs[epoch] = np.arange(len(self._shards), dtype=np.int32)
        return self._epochs[epoch]


def _run(values: npt.NDArray[np.integer]) -> int:
    """Return how many values at the beginning are equal."""
    other = values != values[0]
    return int(other.argmax()) if other.any() else len(values)


def share(first: int, batch: int, end: int | None, rank: int, world: int) -> range:
    """Return the positions of `rank` in the global batch that begins at `first`.

    The last batch of a finite pass may be short. Positions from `end` on fill it up to the same size on all ranks.
    """
    size = batch if end is None else min(batch, end - first)
    part = -(-size // world)
    return range(first + rank * part, first + (rank + 1) * part)
