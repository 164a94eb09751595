"""What a command is asked for, and what is refused before torch is imported: options, then shards, then weights."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from veval import early_checks
from veval.evaluation import RANDOM, Data, DataInfo
from veval.inputs import LIKE, RUNS, open_shards
from vprep.errors import UsageError, close_to
from vprep.text import brief
from vtrain.conversion import alternatives
from vtrain.data.dataset import Videos
from vtrain.data.order import seed_from
from vtrain.data.shard_set import FOLDS, ShardSet
from vtrain.data.shard_spec import is_in_store
from vtrain.recipes import named
from vtrain.recipes.recipe import Recipe
from vtrain.run_folder import RECIPE, newest

COUNT, MOST = 4, 50  # videos of a picture
EVERY = "all"  # the word for the videos of every split


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which videos a picture shows: those with these keys, or `count` videos, of these classes."""

    shards: str | None = None
    split: str = "test"
    fold: int = 1
    keys: Sequence[str] = ()
    classes: Sequence[str] = ()
    count: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.keys and (self.classes or self.count is not None):
            raise UsageError("--key names the videos; leave out --class and --count")
        if max(len(self.keys), self.count or 0) > MOST:
            raise UsageError(f"a picture has at most {MOST} videos; name fewer")

    def open(self) -> tuple[Videos, DataInfo]:
        """Open the shards; return the chosen videos, and the description of all."""
        opened = open_shards(self.shards)
        words = None if self.split == EVERY else (self.split,)
        try:
            data = Data.select(opened, words, fold=self.fold)
        except UsageError as error:
            if self.fold not in FOLDS or words is None or opened.has_split(self.split, self.fold):
                raise
            raise UsageError(f"{error}; name a split that it has with --split, or write --split {EVERY}") from None
        (videos,) = data.videos.values()
        return videos.take(self._rows(videos, opened)), data.info

    def _rows(self, videos: Videos, opened: ShardSet) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        keys = videos.keys.to_pylist()
        if self.keys:
            return np.array([self._row(key, keys, opened) for key in self.keys], np.int64)
        labels = videos.label.tolist()
        allowed = {_label(name, videos, opened.spec) for name in self.classes}
        rows = [row for row, label in enumerate(labels) if not allowed or label in allowed]
        if not rows:
            what = f"split '{self.split}' of {opened.spec} has no video of {', '.join(self.classes)}"
            raise UsageError(f"{what}; name another --class or --split")
        rows.sort(key=lambda row: seed_from(self.seed, "look", keys[row]))
        return np.array(_mixed(rows, labels)[: self.count or COUNT], np.int64)

    def _row(self, key: str, keys: list[str], opened: ShardSet) -> int:
        if key not in keys:
            where = "" if self.split == EVERY else f" in split '{self.split}' of fold {self.fold}"
            raise UsageError(f"there is no video '{key}'{where} of {opened.spec}{close_to(key, keys)}")
        return keys.index(key)


def _label(name: str, videos: Videos, spec: str) -> int:
    if videos.classes is None:
        why = f"{spec} has no classes, or several sets with different ones"
        raise UsageError(f"--class is '{name}', but {why}; name videos with --key")
    if name not in videos.classes:
        many = f"dataset.json lists the {len(videos.classes)} classes of {spec}"
        raise UsageError(f"there is no class '{name}'; {alternatives(name, videos.classes, many)}")
    return videos.classes.index(name)


def _mixed(rows: list[int], labels: list[int]) -> list[int]:
    """Return the rows so that each class comes once before any comes again."""
    before: Counter[int] = Counter()
    rounds: dict[int, int] = {}
    for row in rows:
        rounds[row] = before[labels[row]]
        before[labels[row]] += 1
    return sorted(rows, key=lambda row: rounds[row])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ready:
    """What a picture is made of, once nothing is left to refuse without torch."""

    word: str  # for the weights
    file: Path  # or a folder
    videos: Videos  # that are shown
    info: DataInfo  # about all videos of the split
    settings: Sequence[str]  # of the protocol, key=value


def shards_of(result: Mapping[str, Any], shards: str | None) -> str:
    """Return the shards to open: those that the user names, or those of a result, which opens no network."""
    found = str(result["data"]["shards"])
    if shards is None and is_in_store(found):
        raise UsageError(f"the shards that the result names are in a store: {brief(found)}; name them with --shards")
    return shards or found


def weights_word(word: str | None, method: str) -> str:
    """Return the weights to take: those that the user names, or the newest run of the method."""
    if word is not None:
        return word
    found = newest(RUNS, method)
    if found is None:
        raise UsageError(
            f"there is no run of {method} in {RUNS}/; name weights with --weights, or train some: "
            f"vtrain {method} --shards SPEC"
        )
    return str(found)


def demand_weights(word: str, method: str | None) -> None:
    """Refuse weights that are not there, and a run of another method than `method`; None: any will do."""
    early_checks.demand_weights(word)
    recipe = recipe_of(word)
    if method is not None:
        if word == RANDOM:
            raise UsageError(
                f"--weights is {RANDOM}, which has no heads; write {LIKE}RUN or {LIKE}{method}-tiny for those of a run "
                "or a recipe before training"
            )
        if recipe is not None:
            demand_method(recipe, method, word)


def demand_method(recipe: Recipe, method: str, word: object) -> None:
    """Refuse weights of another method."""
    if recipe.method_name != method:
        raise UsageError(
            f"{word} is of {recipe.method_name}, and this picture needs the heads of {method}; name a run of vtrain "
            f"{method}"
        )


def recipe_of(word: str) -> Recipe | None:
    """Return the recipe of weights, where it can be known without torch."""
    if word.startswith(LIKE):
        return named(word.removeprefix(LIKE))
    folder = Path(word)
    return named(word) if (folder / RECIPE).is_file() else None
