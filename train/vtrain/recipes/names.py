"""How recipes are named: METHOD-BACKBONE-DATA[-paper][-ROW], with `finetune-` before it where labels are learned from.

`paper` is the text's way where the authors' code has another; ROW is a row of a paper's table. The backbone's word is
its name, but s3dg for either S3D-G: a method has one of them only.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from vtrain.overrides import change
from vtrain.recipes.recipe import Recipe

Make = Callable[[], Recipe]


class Row(NamedTuple):
    """A row of a table: a recipe of which some settings are changed."""

    says: str
    settings: tuple[str, ...]  # as the command takes them
    gave: str = ""  # in the paper; empty: what the recipe says itself


class Words(NamedTuple):
    """What a name is made of."""

    start: str
    backbone: str
    data: str  # empty: any
    end: str

    def __str__(self) -> str:
        return "-".join(word for word in self if word)


def split(name: str) -> Words:
    words = name.split("-")
    before = 2 if words[0] == "finetune" and len(words) > 2 else 1
    backbone, data, *end = [*words[before:], "", ""]
    return Words("-".join(words[:before]), backbone, data, "-".join(word for word in end if word))


def word_of(backbone: str) -> str:
    """What a backbone is called in a recipe's name."""
    return "s3dg" if backbone == "s3dg_pace" else backbone


def by_name(*makes: Make) -> dict[str, Make]:
    return {make().name: make for make in makes}


def fixed(recipe: Recipe, line: str) -> Make:
    """A function that returns this one; `line` is its docstring."""

    def make() -> Recipe:
        return recipe

    make.__doc__ = line
    return make


def rows(base: Make, table: Mapping[str, Row]) -> dict[str, Make]:
    """A recipe for each row, named after the base and the row."""
    name = base().name
    return {f"{name}-{word}": _row(base, f"{name}-{word}", row) for word, row in table.items()}


def _row(base: Make, name: str, row: Row) -> Make:
    def make() -> Recipe:
        return replace(change(base(), row.settings), name=name)

    subject, _, gave = says(base).partition(": ")
    make.__doc__ = f"{subject}, {row.says}: {row.gave + ' in the paper.' if row.gave else gave}"
    return make


def says(make: Make) -> str:
    """The first line of its docstring."""
    return (make.__doc__ or "").partition("\n")[0]


def on_backbone(recipes: Mapping[str, Make], name: str, backbone: str) -> Recipe:
    """What was published for this backbone on the same data; else the recipe with its backbone replaced."""
    recipe = recipes[name]()
    if recipe.backbone == backbone or not split(name).data:
        return with_backbone(recipe, backbone)
    other = str(split(name)._replace(backbone=word_of(backbone)))
    recipe = recipes[other]() if other in recipes else replace(recipe, name=other)
    return with_backbone(recipe, backbone)


def with_backbone(recipe: Recipe, backbone: str) -> Recipe:
    if recipe.backbone == backbone:
        return recipe
    return replace(recipe, backbone=backbone, backbone_settings={})
