"""From shards to clips on a device.

for batch in open_shards("data_shards/", plan, batch=64, workers=8, device="cuda"):
    clips = augment(batch.clips, batch.augmentation)
"""

from typing import TYPE_CHECKING

from vtrain.lazy import exports

if TYPE_CHECKING:
    from vtrain.data.batch import Batch
    from vtrain.data.dataset import Videos
    from vtrain.data.loader import Loader, open_shards
    from vtrain.data.sampling import EvenClips, OneClip, Plan, Sample, Video, View
    from vtrain.data.shard_set import ShardSet

__all__ = [
    "Batch",
    "EvenClips",
    "Loader",
    "OneClip",
    "Plan",
    "Sample",
    "ShardSet",
    "Video",
    "Videos",
    "View",
    "open_shards",
]

__getattr__ = exports(
    __name__,
    {
        "Batch": "batch",
        "Videos": "dataset",
        "Loader": "loader",
        "open_shards": "loader",
        "ShardSet": "shard_set",
        **dict.fromkeys(("EvenClips", "OneClip", "Plan", "Sample", "Video", "View"), "sampling"),
    },
)
