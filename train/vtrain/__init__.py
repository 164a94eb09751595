"""vtrain: train a network on the playback speed of videos, from shards to weights."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtrain.weights import load_backbone as load_backbone

__version__ = version("playspeed")


def __getattr__(name: str) -> Any:  # noqa: ANN401  the signature that Python calls
    """Import `load_backbone` when it is first used: torch takes a second to load."""
    if name == "load_backbone":
        from vtrain.weights import load_backbone

        return load_backbone
    raise AttributeError(f"module 'vtrain' has no attribute '{name}'")
