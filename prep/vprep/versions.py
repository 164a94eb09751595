"""What --version prints: the versions of this package and of those that results depend on; none of them is imported."""

import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any

import typer


def option(command: str, *packages: str) -> Any:  # noqa: ANN401  what typer.Option returns
    """Return the option --version of `command`, which also names the versions of `packages`."""
    return typer.Option(
        "--version", help="Print the version and exit.", is_eager=True, callback=_shown(command, packages)
    )


def line(command: str, packages: tuple[str, ...]) -> str:
    """Return the versions as one line."""
    others = ", ".join(f"{name} {installed(name)}" for name in packages)
    return f"{command} {installed('playspeed')} (Python {platform.python_version()}, {others})"


def _shown(command: str, packages: tuple[str, ...]) -> Callable[[bool], None]:
    def show(asked: bool) -> None:
        if asked:
            print(line(command, packages))
            raise typer.Exit

    return show


def installed(distribution: str) -> str:
    """Return the version of a distribution, which another build may have under another name."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "of another build"
