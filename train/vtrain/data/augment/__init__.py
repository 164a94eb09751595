"""Crop, flip and colour clips in batches, on their device."""

from typing import TYPE_CHECKING

from vtrain.lazy import exports

if TYPE_CHECKING:
    from vtrain.data.augment.apply import Augment as Augment
    from vtrain.data.augment.config import AugmentConfig as AugmentConfig

__getattr__ = exports(__name__, {"Augment": "apply", "AugmentConfig": "config"})
