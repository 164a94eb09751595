"""vprep: a folder of videos becomes shards that can be trusted."""

from importlib.metadata import version

__version__ = version("playspeed")
