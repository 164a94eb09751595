"""Whether the command that runs shows its progress: with --json it shows none."""

from contextvars import ContextVar

_HIDDEN = ContextVar("hidden", default=False)


def with_json(value: bool) -> bool:
    """Note whether the command that begins has --json; a callback of that option."""
    _HIDDEN.set(value)
    return value


def is_quiet() -> bool:
    """Return whether progress is to be hidden."""
    return _HIDDEN.get()
