"""The published configurations, by name: METHOD-BACKBONE-DATA[-paper][-ROW], and a tiny one of each method.

A recipe without `paper` in its name follows the authors' code. The recipes of a built-in method are in the file
here that has the method's name; a method without such a file has recipes that are derived from its config.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from textwrap import wrap
from typing import Any

from vprep import plugins, printing
from vprep.errors import UsageError
from vtrain import backbones
from vtrain.conversion import alternatives
from vtrain.methods import METHODS, NAMES, registry
from vtrain.methods.method import MethodEntry
from vtrain.recipes import tiny
from vtrain.recipes.derived import recipes_of, tiny_of
from vtrain.recipes.names import Make, on_backbone, says, split, with_backbone
from vtrain.recipes.recipe import Recipe, read_recipe
from vtrain.recipes.supervised import finetuning as finetuning
from vtrain.run_folder import RECIPE


def _built_in(name: str) -> dict[str, Make]:
    """Return the recipes of a built-in method: those of its file here; what is not there is derived."""
    if find_spec(f"{__name__}.{name}") is None:
        return recipes_of(METHODS[name])
    own: dict[str, Make] = import_module(f"{__name__}.{name}").RECIPES
    if f"{name}-tiny" in own | tiny.RECIPES:
        return own
    return own | tiny_of(own[METHODS[name].main or next(iter(own))]())


NAME_WIDTH = 48  # of a listed recipe's name; longer ones move what follows
BUILT_IN: list[dict[str, Make]] = [_built_in(name) for name in NAMES]
RECIPES: dict[str, Make] = {name: make for found in (*BUILT_IN, tiny.RECIPES) for name, make in found.items()}


def find(method: str, word: str = "released", backbone: str | None = None) -> Recipe:
    """Return a recipe of a method. `word` is `released`, `paper`, `tiny`, a name, a run's folder or its recipe.json.

    `released` is the method's main configuration in the authors' code, and `paper` the same in the text; for ASCNet,
    whose code was not released, both follow the text. For another backbone, return the recipe that was published for
    that backbone, or else the same recipe with its backbone replaced.
    """
    entry = registry.named(method)
    if backbone is not None and not backbones.known(backbone):
        raise plugins.unknown("backbone", backbone, backbones.BACKBONES)
    recipes = of_method(entry)
    name = _name(entry, word, recipes)
    recipe = named(name, entry)
    if recipe.method_name != entry.name:
        raise UsageError(
            f"recipe '{word}' is one of {recipe.method_name}, not of {entry.name}; "
            f"write: vtrain {registry.word_of(recipe.method_name)} --recipe {word}"
        )
    if backbone is None:
        return recipe
    return on_backbone(recipes, name, backbone) if name in recipes else with_backbone(recipe, backbone)


def named(word: str, entry: MethodEntry | None = None, command: str = "MODULE:NAME --recipe {}") -> Recipe:
    """Return the recipe `word`: a name, a run's folder, or a file.

    With `entry` the recipes of this method are searched, too, and an error lists its names. `command` is what the user
    would write after `vtrain`, with {} for the file, if its method were from outside.
    """
    recipes = _searched(word) if entry is None else of_method(entry)
    if word in recipes:
        return recipes[word]()
    path = Path(word)
    if path.suffix == ".json" or path.exists() or len(path.parts) > 1:
        return read_recipe(path / RECIPE if path.is_dir() else path, command.format(path))
    if entry is None:
        recipes = everything()
    there = [name for name, make in recipes.items() if entry is None or make().method_name == entry.name]
    raise UsageError(f"no recipe '{word}'; {alternatives(word, there, many='vtrain recipes lists them all')}")


def _searched(word: str) -> dict[str, Make]:
    """Return the built-in recipes, and those of the method from outside with whose name the word begins."""
    method = word.partition("-")[0]
    return of_method(registry.entry(method)) if method in registry.names() else RECIPES


def of_method(entry: MethodEntry) -> dict[str, Make]:
    """Return the built-in recipes by name, and those of `entry` if it is a method from outside."""
    return RECIPES if entry.name in METHODS else recipes_of(entry) | RECIPES


def everything() -> dict[str, Make]:
    """Return the built-in recipes by name, and those of all methods that are named or installed.

    A method that is not usable is left out, with a line on stderr.
    """
    found = dict(RECIPES)
    for name in registry.names():
        try:
            found |= of_method(registry.entry(name))
        except UsageError as error:
            printing.note(f"the recipes of '{name}' are left out: {error}")
    return found


def listed(method: str | None = None) -> list[dict[str, Any]]:
    """Return a row for each recipe, or only for the recipes of `method`."""
    recipes = everything() if method is None else of_method(registry.named(method))
    rows = [_row(make(), says(make)) for make in recipes.values()]
    return [row for row in rows if method is None or row["method"] == registry.named(method).name]


def as_lines(rows: list[dict[str, Any]]) -> str:
    """Return the rows as lines for people, at most 80 characters wide: two or three for each recipe."""
    return "\n".join(line for row in rows for line in _lines(row))


def _lines(row: dict[str, Any]) -> list[str]:
    length = f"{row['steps']} steps" if row["steps"] else f"{row['epochs']:g} epochs"
    about = wrap(row["says"], 80, initial_indent="    ", subsequent_indent="    ", break_long_words=False)
    return [f"{row['name']:<{NAME_WIDTH}}  {length}, batch {row['batch']}", *about]


def _name(entry: MethodEntry, word: str, recipes: dict[str, Make]) -> str:
    """Return the recipe's name for `released`, `paper` and `tiny`; any other word is a name already."""
    if word == "tiny":
        return f"{entry.name}-tiny"
    if word not in ("released", "paper"):
        return word
    main = entry.main or next(name for name, make in recipes.items() if make().method_name == entry.name)
    by_text = f"{main}-paper"
    return by_text if word == "paper" and by_text in recipes else main


def _row(recipe: Recipe, about: str) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "method": recipe.method_name,
        "backbone": recipe.backbone,
        "data": split(recipe.name).data or "any",
        "epochs": float(recipe.epochs),
        "steps": recipe.steps,
        "batch": recipe.batch,
        "says": about,
    }
