"""vprep: a folder of videos becomes shards that can be trusted."""


def __getattr__(name: str) -> str:
    """Look `__version__` up when it is first used: what looks it up takes long to import."""
    if name == "__version__":
        from importlib.metadata import version

        return version("playspeed")
    raise AttributeError(f"module 'vprep' has no attribute '{name}'")
