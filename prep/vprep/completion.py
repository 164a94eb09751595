"""Completion of values on the command line by the shell."""

from collections.abc import Callable, Iterable


def completed(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return the function by which the shell completes a value: it finds the `names` that begin with what is typed."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete
