"""vtrain: train a network on the playback speed of videos, from shards to weights."""

TYPE_CHECKING = False  # as `typing` has it, which takes long to import
if TYPE_CHECKING:
    from vtrain.weights import load_backbone as load_backbone

    __version__: str


def __getattr__(name: str) -> object:
    """Import `load_backbone` and look `__version__` up when they are first used: torch takes a second to load."""
    if name == "load_backbone":
        from vtrain.weights import load_backbone

        return load_backbone
    if name == "__version__":
        from importlib.metadata import version

        return version("playspeed")
    raise AttributeError(f"module 'vtrain' has no attribute '{name}'")
