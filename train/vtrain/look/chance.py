"""The accuracy of a guess at each task of a run, from its recipe."""

from collections.abc import Mapping
from pathlib import Path

from vprep.errors import UsageError
from vtrain import run_folder


def chances_of(folder: Path) -> dict[str, float]:
    """Return the chance levels by metric; none where the recipe cannot be read or its method does not know them."""
    from vtrain.recipes.recipe import read_recipe

    try:
        method = read_recipe(folder / run_folder.RECIPE, "look").method
    except UsageError:
        return {}
    found = getattr(method, "chances", {})
    return {name: float(value) for name, value in found.items()} if isinstance(found, Mapping) else {}
