"""vtrain: from shards to a network that has learned from the playback speed of videos."""

from importlib.metadata import version

__version__ = version("playspeed")
