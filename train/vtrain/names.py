"""The names that a user may write: of recipes, methods, backbones and settings. The shell completes them from here.

No code from outside the package is imported for a completion.
"""

from typing import Any

import typer

from vprep import plugins


def methods() -> list[str]:
    """Return the names of the methods that are built in or installed."""
    from vtrain.methods import NAMES

    return list(dict.fromkeys([*NAMES, *plugins.installed("method")]))


def backbones() -> list[str]:
    """Return the names of the backbones that are built in or installed."""
    from vtrain.backbones import BACKBONES

    return list(dict.fromkeys([*BACKBONES, *plugins.installed("backbone")]))


def recipes(method: str = "") -> list[str]:
    """Return the words for recipes, and the names of those of a built-in method, or of all that are built in."""
    from vtrain.methods import NAMES
    from vtrain.recipes import RECIPES, WORDS, listed

    return [*WORDS, *([row["name"] for row in listed(method)] if method in NAMES else RECIPES)]


def recipes_in(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a recipe of the method that the command names."""
    method = ctx.params.get("method") or ctx.info_name or ""
    return [name for name in recipes(method) if name.startswith(incomplete)]


def settings_in(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the key of a setting of the recipe that the command names, if its method is built in."""
    from vprep.errors import UsageError
    from vtrain.methods import NAMES
    from vtrain.overrides import paths
    from vtrain.recipes import find

    given: dict[str, Any] = ctx.params
    method = given.get("method") or ctx.info_name or ""
    if method not in NAMES:
        return []
    try:
        recipe = find(method, given.get("recipe") or "released")
    except UsageError:
        return []
    return [f"{key}=" for path in paths(recipe) if (key := ".".join(path)).startswith(incomplete)]
