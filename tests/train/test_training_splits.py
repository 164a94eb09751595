"""Which videos a training takes where nobody names a split, and what it says of them."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import split_sets
from commands import vtrain
from small_recipes import small

from vprep.errors import UsageError
from vtrain.data.shard_set import ShardSet
from vtrain.overrides import change
from vtrain.recipes.recipe import Data
from vtrain.training.splits import split_note, split_of

Make = Callable[..., Path]


@pytest.fixture
def with_splits(shards: Path, tmp_path: Path) -> Make:
    """Return a function that copies the set of 30 videos and gives each video of fold 1 a split by its number."""
    return lambda name, split, folds=(1,): split_sets.with_splits(shards, tmp_path / name, split, folds)


def of(folder: Path, **data: object) -> tuple[str, str]:
    """Return the split that a training takes, and what it says."""
    asked, shards = Data(**data), ShardSet.open(folder)  # type: ignore[arg-type]
    return split_of(asked, shards), split_note(asked, shards)


def refused(folder: Path, **data: object) -> str:
    with pytest.raises(UsageError) as error:
        of(folder, **data)
    return str(error.value)


def test_a_train_split_is_taken_without_a_word(shards: Path) -> None:
    assert of(shards) == ("train", "")
    assert of(shards, split="test") == ("test", "")


def test_a_set_without_a_train_split_is_taken_as_a_whole_and_a_line_says_so(with_splits: Make, tmp_path: Path) -> None:
    folder = with_splits("a", lambda number: "test" if number < 10 else "val" if number < 12 else None)
    said = "the set has no train split: training on all its 30 videos (18 of no split, 10 of test, 2 of val)"
    assert of(folder) == ("all", said)
    assert of(folder, split="all") == ("all", "")
    words = ("--recipe", "tiny", "backbone_settings.width=4", "frames=4", "size=16", "steps=1", "workers=0", "batch=4")
    done = vtrain("pace", "--shards", folder, *words, "--out", "run", cwd=tmp_path)
    assert done.stderr.splitlines()[0] == said
    again = vtrain("pace", "--resume", "run", "steps=2", cwd=tmp_path)
    assert said not in again.stderr


def test_a_set_without_splits_is_taken_as_a_whole_and_a_line_says_so(with_splits: Make) -> None:
    said = "the set has no splits: training on all its 30 videos"
    assert of(with_splits("a", lambda number: None)) == ("all", said)


@pytest.mark.parametrize("words", [("test",), ("test", "val")])
def test_a_set_of_videos_for_evaluation_is_refused_unless_all_is_written(
    words: tuple[str, ...], with_splits: Make
) -> None:
    folder = with_splits("a", lambda number: words[number % len(words)])
    counts = ", ".join(f"{30 // len(words)} of {word}" for word in words)
    assert refused(folder) == (
        f"{folder} has no train split: its videos are for evaluation ({counts}); name a set to learn from, or write "
        "data.split=all to learn from these"
    )
    assert of(folder, split="all") == ("all", "")
    assert of(folder, split="test") == ("test", "")


def test_the_videos_of_named_shards_and_of_a_subset_alone_are_counted(with_splits: Make, tmp_path: Path) -> None:
    folder = with_splits("a", lambda number: "test" if number < 10 else None)
    rows = pq.read_table(folder / "index.parquet")
    listed = rows.slice(0, 3).select(["key", "label"]).append_column("class_name", pa.array(["a", "a", "a"]))
    pq.write_table(listed, tmp_path / "subset.parquet")
    assert "(3 of test)" in refused(folder, subset=str(tmp_path / "subset.parquet"))
    first = set(rows["shard"].to_pylist()[:10])
    part = [number for number, shard in enumerate(rows["shard"].to_pylist()) if shard == "000.tar"]
    assert "000.tar" in first
    shards = ShardSet.open(f"{folder}/000.tar")
    assert sum(shards.split_counts(1).values()) == len(part)


def test_a_fold_without_splits_is_refused_where_another_fold_has_some(with_splits: Make) -> None:
    """All videos would be taken otherwise, those that are tested on among them."""
    folder = with_splits("a", lambda number: "test" if number < 10 else "train", (1, 3))
    assert of(folder, fold=3) == ("train", "")
    said = f"fold 2 of {folder} has no splits; write data.fold=1 or 3, or data.split=all"
    assert refused(folder, fold=2) == said


def test_of_several_sets_those_without_a_train_split_are_named(with_splits: Make, shards: Path) -> None:
    other = with_splits("a", lambda number: None)
    opened = ShardSet.open([shards, other])
    assert split_of(Data(), opened) == "train"
    said = f"no video of {other} is used, which has no train split; data.split=all uses all videos"
    assert split_note(Data(), opened) == said


@pytest.mark.parametrize("word", ["null", "None"])
def test_a_split_of_null_says_what_to_write(word: str, shards: Path) -> None:
    with pytest.raises(UsageError) as error:
        change(small("pace", shards), [f"data.split={word}"])
    assert str(error.value) == (
        f"data.split is '{word}'; write data.split=all for all videos, or data.split=auto for the train split of a set "
        "that has one"
    )
