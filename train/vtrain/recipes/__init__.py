"""The published configurations, by name: METHOD-BACKBONE-DATA[-paper][-ROW], and one for a laptop of each method.

Without `paper` in its name a recipe is what the authors' code does.
"""

from pathlib import Path
from typing import Any

from rich.table import Column, Table

from vprep.errors import UsageError
from vtrain.backbones import BACKBONES
from vtrain.methods import METHODS
from vtrain.overrides import from_json
from vtrain.recipes import ascnet, pace, prp, rspnet, supervised, tiny
from vtrain.recipes.names import Make, known, on_backbone, says, split, with_backbone
from vtrain.recipes.recipe import Recipe
from vtrain.recipes.supervised import finetuning as finetuning
from vtrain.run_folder import RECIPE, read_json

RECIPES: dict[str, Make] = {
    **rspnet.RECIPES,
    **ascnet.RECIPES,
    **prp.RECIPES,
    **pace.RECIPES,
    **supervised.RECIPES,
    **tiny.RECIPES,
}

# Of labels alone there is no paper here: what RSPNet's table 1 has as "w/o pre-training".
MAIN = {
    "rspnet": "rspnet-r2plus1d-k400",
    "ascnet": "ascnet-resnet3d18-k400",
    "prp": "prp-r2plus1d-ucf101",
    "pace": "pace-r2plus1d-ucf101",
    "supervised": "finetune-rspnet-r2plus1d-ucf101",
}


def find(method: str, word: str = "released", backbone: str | None = None) -> Recipe:
    """A recipe of this method: `released`, `paper`, `tiny`, a name, or where a run or its recipe.json is.

    `released` is the method's main configuration as the authors' code does it, and `paper` the same by the text; for
    ASCNet, of which no code was released, both are the text's. For another backbone it is what was published for it,
    and else the same with its backbone replaced.
    """
    for what, asked, there in (("method", method, METHODS), ("backbone", backbone, BACKBONES)):
        if asked is not None and asked not in there:
            raise UsageError(f"no {what} '{asked}'; {known(asked, there)}")
    name = _name(method, word)
    recipe = named(name, method)
    if recipe.method_name != method:
        raise UsageError(
            f"recipe '{word}' is one of {recipe.method_name}, not of {method}; "
            f"write: vtrain {recipe.method_name} --recipe {word}"
        )
    if backbone is None:
        return recipe
    return on_backbone(RECIPES, name, backbone) if name in RECIPES else with_backbone(recipe, backbone)


def named(word: str, method: str | None = None) -> Recipe:
    """The recipe of this name, or of the run or the file that is there. `method` is whose names an error lists."""
    if word in RECIPES:
        return RECIPES[word]()
    path = Path(word)
    if path.suffix == ".json" or path.exists() or len(path.parts) > 1:
        return _read(path / RECIPE if path.is_dir() else path)
    mine = [name for name, make in RECIPES.items() if method in (None, make().method_name)]
    raise UsageError(f"no recipe '{word}'; {known(word, mine)}")


def listed() -> list[dict[str, Any]]:
    """All recipes, in short."""
    return [_facts(make(), says(make)) for make in RECIPES.values()]


def as_table(rows: list[dict[str, Any]]) -> Table:
    """The same for people."""
    table = Table(Column("recipe", no_wrap=True), "length", "batch", "what")
    for row in rows:
        length = f"{row['steps']} steps" if row["steps"] else f"{row['epochs']:g} epochs"
        table.add_row(row["name"], length, str(row["batch"]), row["says"])
    return table


def _name(method: str, word: str) -> str:
    """What the three words stand for."""
    if word == "tiny":
        return f"{method}-tiny"
    if word not in ("released", "paper"):
        return word
    by_text = f"{MAIN[method]}-paper"
    return by_text if word == "paper" and by_text in RECIPES else MAIN[method]


def _read(path: Path) -> Recipe:
    found = read_json(path)
    try:
        return from_json(Recipe, found)
    except UsageError as error:
        raise UsageError(f"{path} is no recipe: {error}") from None


def _facts(recipe: Recipe, about: str) -> dict[str, Any]:
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
