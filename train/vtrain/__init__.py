"""vtrain: train a network on the playback speed of videos, from shards to weights."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from vtrain.lazy import exports

if TYPE_CHECKING:
    from vtrain.weights import load_backbone as load_backbone

__version__ = version("playspeed")
__getattr__ = exports(__name__, {"load_backbone": "weights"})  # torch takes a second to load
