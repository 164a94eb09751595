"""What can be known of a training before torch is imported: its recipe, its folder, its shards and its videos.

The commands look here first, so that they refuse at once what cannot be.
"""

import glob
import os
from dataclasses import dataclass, replace
from pathlib import Path

from vprep.errors import UsageError
from vprep.processors import demand_workers
from vprep.store.location import is_url
from vtrain import run_folder
from vtrain.data.cache.room import demand_room
from vtrain.data.dataset import Videos, held_out
from vtrain.data.shard_set import ShardSet
from vtrain.data.shard_spec import absolute, pieces
from vtrain.data.stored import difference_note
from vtrain.methods import registry
from vtrain.recipes.recipe import Data, Recipe, for_classes, read_recipe
from vtrain.training.splits import refuse_validated, split_note, split_of
from vtrain.weights.location import demand_there


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The recipe with definite paths, split and classes; the shards; and the videos, each selected once."""

    recipe: Recipe
    shards: ShardSet
    videos: Videos
    validated: Videos | None  # videos that are held out, or of the split that the recipe validates on
    watched: tuple[Videos, Videos] | None  # gallery and queries of the nearest neighbours
    note: str  # which videos are taken where the recipe names no split; may be empty

    @classmethod
    def open(cls, recipe: Recipe, shards: ShardSet | None = None) -> "Inputs":
        """Open the recipe's shards, if they are not open yet, and select the videos."""
        shards = shards or ShardSet.open(absolute(recipe.data.shards))
        refuse_validated(recipe, shards)
        note = split_note(recipe.data, shards)
        recipe = resolved(recipe, shards)
        videos, validated = selected(recipe, shards)
        demand_room(videos, recipe.seed)
        watch = recipe.watch
        sides = [shards.select(split, fold=recipe.data.fold) for split in (watch.gallery, watch.queries) if watch.every]
        return cls(
            recipe=for_classes(recipe, len(videos.classes or ())),
            shards=shards,
            videos=videos,
            validated=validated,
            watched=(sides[0], sides[1]) if sides else None,
            note=note,
        )


def early(recipe: Recipe, folder: Path | None, *, resume: bool = False) -> Inputs | None:
    """Return the inputs of a run in `folder`; refuse what cannot be, the cheapest to find first.

    One of several processes returns None: it may refuse only after it has joined the others, who would wait for it.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        return None
    recipe.at_a_time(world=1)
    demand_workers(recipe.workers or 0)
    if folder is not None and not resume:
        run_folder.refuse_used(folder)
    if folder is not None and resume:
        run_folder.has_state(folder)  # refuses a folder where only the last state is missing
    inputs = Inputs.open(recipe, shards_of(recipe, folder) if folder is not None and resume else None)
    if recipe.weights is not None and not resume:
        demand_there(Path(recipe.weights))
    return inputs


def shards_of(recipe: Recipe, folder: Path) -> ShardSet:
    """Open the shards that a run was trained on; where they are gone, say how to name them."""
    spec = recipe.data.shards
    if all(map(is_gone, pieces(spec))):
        raise UsageError(
            f"{folder} was trained on {spec}, which is not there any more; if it has moved, name it: --shards NEW"
        )
    return ShardSet.open(absolute(spec))


def is_gone(piece: str) -> bool:
    """Return whether a pattern of shards finds no file."""
    if is_url(piece):
        return False
    path = Path(piece)
    place = path.parent if path.suffix == ".tar" and not path.is_dir() else path
    return not place.exists() and not glob.glob(str(place))


def recipe_in(folder: Path) -> Recipe:
    """Return the recipe that a run was trained by."""
    return read_recipe(folder / run_folder.RECIPE, f"MODULE:NAME --resume {folder}")


def command_of(recipe: Recipe) -> str:
    """Return the words after `vtrain` on the command line, which must name code from outside each time."""
    backbone = f" --backbone {recipe.backbone}" if ":" in recipe.backbone else ""
    return f"{registry.word_of(recipe.method_name)}{backbone}"


def resolved(recipe: Recipe, shards: ShardSet) -> Recipe:
    """Return the recipe with absolute paths and a definite split, so that it means the same in any folder."""
    data = recipe.data
    subset = None if data.subset is None else str(Path(data.subset).absolute())
    weights = None if recipe.weights is None else str(Path(recipe.weights).absolute())
    data = replace(data, shards=absolute(shards.spec), split=split_of(data, shards), subset=subset)
    return replace(recipe, data=data, weights=weights)


def selected(recipe: Recipe, shards: ShardSet) -> tuple[Videos, Videos | None]:
    """Return the videos that the network learns from, and the videos that it is validated on; None without any."""
    data = recipe.data
    split, subset = _wanted(data)
    videos = shards.select(split, fold=data.fold, subset=subset)
    if recipe.validate.split:
        return videos, shards.select(recipe.validate.split, fold=data.fold)
    if not data.hold_out:
        return videos, None
    return held_out(videos, data.hold_out, data.hold_out_by, recipe.seed)


def note_about(recipe: Recipe, shards: ShardSet) -> str:
    """Return how the recipe's videos differ from those that it was published with; "" where they do not."""
    if not recipe.stored.options:
        return ""
    split, subset = _wanted(recipe.data)
    info = shards.frame_info(split, fold=recipe.data.fold, subset=subset)
    return difference_note(recipe.stored, recipe.method.plan().looks, info)


def _wanted(data: Data) -> tuple[str | None, Path | None]:
    """Return the split and the subset to select; None: all videos."""
    return None if data.split in ("all", "") else data.split, None if data.subset is None else Path(data.subset)
