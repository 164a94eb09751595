"""What is refused before torch is imported: first settings, then shards, then weights."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from veval.evaluation import RANDOM, Data
from veval.inputs import LIKE, names_run, newest_run, open_data
from veval.protocol import DEFAULT, Task, preset
from vprep import plugins
from vprep.errors import UsageError
from vtrain import backbones
from vtrain.conversion import shown
from vtrain.overrides import change, path_of
from vtrain.recipes import find, named
from vtrain.recipes.recipe import Recipe
from vtrain.weights.location import demand_there

SELECT = ("last", "best-on-test", "best-on-held-out")  # the epoch that a fine-tuning tests


def data_for(
    task: Task, shards: str | None, splits: Sequence[str] | None, *, fold: int, subset: Path | None = None,
    protocol: str | None, settings: Iterable[str], backbone: str | None, weights: str | None,
) -> Data:  # fmt: skip
    """Open the shards and select the videos; refuse what cannot be, the cheapest to find first."""
    demand_settings(task, protocol, settings)
    demand_backbone(backbone)
    data = open_data(shards, splits, fold=fold, subset=subset)
    demand_weights(weights)
    return data


def demand_settings(task: Task, protocol: str | None, settings: Iterable[str]) -> None:
    """Refuse a protocol that does not exist, and settings that no protocol has."""
    change(preset(task, protocol or DEFAULT), settings)


def demand_backbone(word: str | None) -> None:
    """Refuse a backbone that is not known; a name that the user has typed may be imported."""
    if word is None:
        return
    backbones.allow(word)
    if not backbones.known(word):
        raise plugins.unknown("backbone", word, backbones.BACKBONES)


def demand_weights(word: str | None) -> None:
    """Refuse weights that are not there."""
    if word is None:
        demand_there(newest_run())
    elif word.startswith(LIKE):
        like = word.removeprefix(LIKE)
        demand_weights(like) if names_run(like) else named(like)
    elif word != RANDOM:
        demand_there(Path(word))


def demand_distinct_splits(splits: Sequence[str]) -> None:
    """Refuse a split that is named twice."""
    if twice := next((word for word in splits if splits.count(word) > 1), None):
        raise UsageError(f"split '{twice}' is named twice; name splits that share no video")


def demand_tuning(recipe: str, select: str | None, settings: Iterable[str]) -> None:
    """Refuse a recipe or an epoch that does not exist, settings that no fine-tuning has, and values of another type.

    Other values are refused later, because the recipe follows from the weights.
    """
    demand_selection(select)
    usual = find("supervised", recipe or "released")
    for setting in settings:
        path_of(usual, setting.partition("=")[0])
        _demand_type(usual, setting)


def _demand_type(usual: Recipe, setting: str) -> None:
    """Refuse a value that is not of its setting's type. Whether it suits the others is not known yet."""
    try:
        change(usual, [setting])
    except UsageError as error:
        if f" is '{shown(setting.partition('=')[2])}'; " in str(error):
            raise


def demand_selection(select: str | None) -> None:
    """Refuse an epoch that cannot be selected."""
    if select not in (None, *SELECT):
        raise UsageError(f"--select is '{select}'; there are {', '.join(SELECT)}")
