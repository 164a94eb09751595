"""vtrain: from shards to a network that has learned from the playback speed of videos."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtrain.weights import load_backbone as load_backbone

__version__ = version("playspeed")


def __getattr__(name: str) -> Any:  # noqa: ANN401  that is the language's own signature
    """torch takes a second to load, so it waits until it is needed."""
    if name == "load_backbone":
        from vtrain.weights import load_backbone

        return load_backbone
    raise AttributeError(f"module 'vtrain' has no attribute '{name}'")
