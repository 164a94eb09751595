"""vtrain: train a network on the playback speed of videos, from shards to weights."""

TYPE_CHECKING = False  # as in `typing`; nothing is imported here, so that a Ctrl-C finds its handler set at once
if TYPE_CHECKING:
    from vtrain.weights import load_backbone as load_backbone

    __version__: str


def __getattr__(name: str) -> object:
    """Import `load_backbone` and look `__version__` up when they are first used: torch takes a second to load."""
    if name == "__version__":
        from importlib.metadata import version

        return version("playspeed")
    from vtrain.lazy import exports

    found: object = exports(__name__, {"load_backbone": "weights"})(name)
    return found
