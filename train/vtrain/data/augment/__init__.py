"""Crop, flip and colour clips in batches, on their device."""

from vtrain.data.augment.apply import Augment as Augment
from vtrain.data.augment.config import AugmentConfig as AugmentConfig
