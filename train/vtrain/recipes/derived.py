"""Recipes for a method without a file of recipes: its own, and where it has none those derived from its config.

default   if it has no recipe of its own: 200 epochs of SGD on R3D-18 with batches of 64 and a cosine from a learning
          rate of 0.05, after 10 epochs of warm-up: close to the papers' pre-training, and tuned for no method
tiny      400 steps of AdamW on the backbone `tiny` with clips of 8 x 40 x 40: minutes on a CPU
"""

from vprep import plugins
from vprep.errors import UsageError
from vtrain.data.stored import Stored
from vtrain.methods.method import MethodEntry
from vtrain.optim.schedule import Schedule
from vtrain.overrides import change, listed
from vtrain.recipes.names import Make, fixed
from vtrain.recipes.recipe import Recipe
from vtrain.recipes.tiny import FRAMES, SIZE, on_a_laptop

TINY = {"frames": FRAMES, "size": SIZE, "crop_size": "none"}  # the last parts of the keys that are changed


def recipes_of(entry: MethodEntry) -> dict[str, Make]:
    """Return the recipes by name of a method that has no file of recipes, the main recipe first."""
    own = {recipe.name: fixed(recipe, says) for recipe, says in (_made(entry, make) for make in entry.recipes)}
    if entry.main and entry.main not in own:
        raise UsageError(
            f"method '{entry.name}' has main recipe '{entry.main}', but its recipes are {', '.join(own) or 'none'}"
        )
    main = default(entry) if not own else own[entry.main or next(iter(own))]()
    return {
        main.name: fixed(main, f"{entry.name}, default settings, any data: derived from its config."),
        **tiny_of(main),
        **own,
    }


def tiny_of(main: Recipe) -> dict[str, Make]:
    """Return a tiny recipe by its name, derived from the main recipe of its method."""
    name = main.method_name
    tiny = on_a_laptop(f"{name}-tiny", change(main.method, _tiny_settings(main)), steps=400)
    return {tiny.name: fixed(tiny, f"{name}, tiny, any data: to try on a CPU.")}


def default(entry: MethodEntry) -> Recipe:
    return Recipe(
        name=f"{entry.name}-default",
        method=entry.config(),
        backbone="r3d18",
        stored=Stored(short_side=256),
        batch=64,
        epochs=200,
        schedule=Schedule(lr=0.05, warmup=10),
    )


def _made(entry: MethodEntry, make: object) -> tuple[Recipe, str]:
    """Return one of the method's own recipes with the line that says what it is."""
    try:
        recipe = make() if callable(make) else make
    except UsageError:
        raise
    except Exception as error:  # whatever the user's code does
        raise UsageError(
            f"method '{entry.name}' has a recipe that raised {plugins.raised(error)}; correct it there"
        ) from error
    if not isinstance(recipe, Recipe) or recipe.method_name != entry.name:
        raise UsageError(f"method '{entry.name}' has {make!r} in its recipes; it must return a Recipe of this method")
    if not recipe.name.startswith(f"{entry.name}-"):
        raise UsageError(f"recipe '{recipe.name}' is of method '{entry.name}'; its name must begin with {entry.name}-")
    line = next(iter((getattr(make, "__doc__", "") or "").splitlines()), "")
    return recipe, line or f"{recipe.name}, of the method's author."


def _tiny_settings(main: Recipe) -> list[str]:
    keys = [key for key, _ in listed(main.method)]
    return [f"{key}={TINY[end]}" for key in keys if (end := key.rpartition(".")[2]) in TINY]
