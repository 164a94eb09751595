"""The split to learn from, where the user names none."""

from collections.abc import Iterable
from pathlib import Path

from vprep.errors import UsageError
from vtrain.data.shard_set import FOLDS, ShardSet
from vtrain.recipes.recipe import Data, Recipe

EVALUATED = {"test", "val", "valid", "validation", "eval", "dev"}  # splits that nobody learns from by accident
NO_SPLIT = "no split"


def split_of(data: Data, shards: ShardSet) -> str:
    """Return the split that `data` means: for `auto` the train split, or all videos of a set without one."""
    if data.split != "auto":
        return data.split
    _refuse_empty_fold(data, shards)
    if shards.has_split("train", data.fold):
        return "train"
    counts = _counts(data, shards)
    if counts and set(counts) <= EVALUATED:
        raise UsageError(
            f"{shards.spec} has no train split: its videos are for evaluation ({_listed(counts)}); name a set to learn "
            "from, or write data.split=all to learn from these"
        )
    return "all"


def refuse_validated(asked: Recipe, shards: ShardSet) -> None:
    """Refuse to validate on a split that is learned from because the set has no train split."""
    split, data = asked.validate.split, asked.data
    if split and data.split == "auto" and not shards.has_split("train", data.fold):
        raise UsageError(
            f"validate.split is '{split}', and {shards.spec} has no train split, so all videos are learned from; write "
            "data.hold_out=N instead of validate.split, or data.split=SPLIT"
        )


def split_note(data: Data, shards: ShardSet) -> str:
    """Return what a training without a train split learns from; "" where the user or the set says it."""
    if data.split != "auto":
        return ""
    if shards.has_split("train", data.fold):
        without = [part.place for part in shards.parts if not part.splits(data.fold).get("train")]
        left_out = f"no video of {', '.join(without)} is used, which has no train split; data.split=all uses all videos"
        return left_out if without else ""
    counts = _counts(data, shards)
    total = sum(counts.values())
    videos = "its only video" if total == 1 else f"all its {total} videos"
    if set(counts) <= {""}:
        return f"the set has no splits: training on {videos}"
    return f"the set has no train split: training on {videos} ({_listed(counts)})"


def _refuse_empty_fold(data: Data, shards: ShardSet) -> None:
    """Refuse a fold without splits where another fold has some, because all videos would hold its test split."""
    folds = [fold for fold in FOLDS if any(part.splits(fold) for part in shards.parts)]
    if folds and data.fold not in folds:
        raise UsageError(
            f"fold {data.fold} of {shards.spec} has no splits; write data.fold={_either(folds)}, or data.split=all"
        )


def _counts(data: Data, shards: ShardSet) -> dict[str, int]:
    return shards.split_counts(data.fold, None if data.subset is None else Path(data.subset))


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} of {split or NO_SPLIT}" for split, count in sorted(counts.items()))


def _either(folds: Iterable[int]) -> str:
    return " or ".join(map(str, folds))
