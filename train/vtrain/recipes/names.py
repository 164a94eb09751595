"""Names of recipes: METHOD-BACKBONE-DATA[-paper][-ROW], with `finetune-` in front for training on labels.

`paper` marks recipes that follow the text where the authors' code differs; ROW is a row of a paper's table. BACKBONE
is the backbone's name, except for s3dg_pace, which is called s3dg like the other S3D-G: a method has only one of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from vtrain.overrides import change
from vtrain.recipes.recipe import Recipe

Make = Callable[[], Recipe]


class Row(NamedTuple):
    """A row of a paper's table: its differences from the base recipe."""

    says: str
    settings: tuple[str, ...]  # as the command takes them
    gave: str = ""  # result in the paper; empty: the base recipe's


class Words(NamedTuple):
    """The parts of a recipe's name."""

    start: str
    backbone: str
    data: str  # empty: any
    end: str

    def __str__(self) -> str:
        return "-".join(word for word in self if word)


def split(name: str) -> Words:
    """Return the parts of a recipe's name."""
    words = name.split("-")
    before = 2 if words[0] == "finetune" and len(words) > 2 else 1
    backbone, data, *end = [*words[before:], "", ""]
    return Words("-".join(words[:before]), backbone, data, "-".join(word for word in end if word))


def word_of(backbone: str) -> str:
    """Return the word for a backbone in a recipe's name."""
    return "s3dg" if backbone == "s3dg_pace" else backbone


def by_name(*makes: Make) -> dict[str, Make]:
    """Return the functions by the names of their recipes."""
    return {make().name: make for make in makes}


def fixed(recipe: Recipe, line: str) -> Make:
    """Return a function that returns `recipe`; `line` is its docstring."""

    def make() -> Recipe:
        return recipe

    make.__doc__ = line
    return make


def rows(base: Make, table: Mapping[str, Row]) -> dict[str, Make]:
    """Return a recipe for each row of a table, named after the base and the row."""
    name = base().name
    return {f"{name}-{word}": _row(base, f"{name}-{word}", row) for word, row in table.items()}


def _row(base: Make, name: str, row: Row) -> Make:
    def make() -> Recipe:
        return replace(change(base(), row.settings), name=name)

    subject, _, gave = says(base).partition(": ")
    make.__doc__ = f"{subject}, {row.says}: {row.gave + ' in the paper.' if row.gave else gave}"
    return make


def says(make: Make) -> str:
    """Return the first line of a recipe's docstring."""
    return (make.__doc__ or "").partition("\n")[0]


def on_backbone(recipes: Mapping[str, Make], name: str, backbone: str) -> Recipe:
    """Return the recipe published for this backbone on the same data, or else the recipe with its backbone replaced."""
    recipe = recipes[name]()
    if recipe.backbone == backbone or not split(name).data:
        return with_backbone(recipe, backbone)
    other = str(split(name)._replace(backbone=word_of(backbone)))
    recipe = recipes[other]() if other in recipes else replace(recipe, name=other)
    return with_backbone(recipe, backbone)


def with_backbone(recipe: Recipe, backbone: str) -> Recipe:
    """Return the recipe with its backbone replaced, and that backbone's default settings."""
    if recipe.backbone == backbone:
        return recipe
    return replace(recipe, backbone=backbone, backbone_settings={})
