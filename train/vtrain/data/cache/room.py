"""Whether the cache can hold what a training reads at once."""

import numpy as np

from vprep.errors import UsageError
from vprep.text import byte_size
from vtrain.data.cache.place import GB
from vtrain.data.cache.shard_cache import ShardCache
from vtrain.data.dataset import Videos
from vtrain.data.order import block_of_shards

EPOCHS = 100  # whose blocks are compared to find the largest


def demand_room(videos: Videos, seed: int) -> None:
    """Refuse a training whose blocks of shards are larger than the cache; say what would do."""
    if videos.remote is None:
        return
    cache = ShardCache(videos.remote.place)
    needed, there = largest_block(videos, seed), cache.capacity()
    if needed <= there:
        return
    begin = (
        f"a training mixes the videos of {byte_size(needed)} of these shards at once, and the cache {cache.folder} can "
        f"hold {byte_size(there)}"
    )
    enough = -(-needed * 100 // GB) / 100
    if cache.disk_space() < needed:
        raise UsageError(f"{begin}, for its disk has no more space; name a folder on another disk: --cache DIR")
    raise UsageError(f"{begin}; this would do: --cache-gb {enough:g}")


def largest_block(videos: Videos, seed: int) -> int:
    """Return the bytes of the shards in a store that are in one block, the most in any of the first epochs."""
    remote = videos.remote
    if remote is None:
        return 0
    counts = np.bincount(videos.shard)
    sizes = [0 if shard is None else shard.bytes for shard in remote.shards[: len(counts)]]
    used = np.where(counts > 0, sizes, 0)
    blocks = (block_of_shards(counts, seed, epoch) for epoch in range(EPOCHS))
    return max(int(np.bincount(block_of, used).max()) for block_of in blocks)
