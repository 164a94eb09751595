"""A result on other amounts of videos or classes does not stand beside a published number."""

import json
from pathlib import Path
from typing import Any

import pytest
from results_on import ucf101

from veval.results.match_published import compare
from veval.results.report import of_results
from vprep.format import DATASET, read_dataset, write_dataset
from vtrain.data.shard_set import ShardSet

Result = dict[str, Any]


@pytest.mark.parametrize(
    ("one", "differs"),
    [
        (ucf101(videos={"test": 123}), ["test videos: 3783 there, 123 here"]),
        (ucf101(videos={}), ["test videos: 3783 there, not said here"]),
        (ucf101(classes=13), ["classes: 101 there, 13 here"]),
        (ucf101(per_class={"a": 1.0}), ["classes: 101 there, 1 here"]),
        (ucf101(dropped=[{"key": "v", "what": "cut"}]), ["test videos: 3783 there, 3782 here"]),
        (ucf101(unlabelled=3), ["test videos: 3783 there, 3780 here"]),
        (
            ucf101(videos={"test": 3780}, failures=7),
            ["test videos: 3783 there, 3780 here", "videos that vprep shard could not use: 7 here"],
        ),
        (ucf101("retrieval", videos={"test": 3783, "train": 408}), ["gallery videos: 9537 there, 408 here"]),
        (
            ucf101("retrieval", videos={"test": 3783, "train": 9537}, dropped=[{"split": "train", "key": "v"}]),
            ["gallery videos: 9537 there, 9536 here"],
        ),
        (
            ucf101("retrieval", videos={"test": 3783, "train": 9537}, gallery_without_label=4),
            ["gallery videos: 9537 there, 9533 here"],
        ),
        (ucf101(learned=5000), ["videos of pre-training: 9537 there, 5000 here"]),
        (ucf101(tuned=954), ["training videos: 9537 there, 954 here"]),
    ],
)
def test_a_result_on_a_part_of_the_videos_is_no_comparison_and_the_part_is_named(
    one: Result, differs: list[str]
) -> None:
    (line, *_) = of_results([one]).lines
    assert (line.published, line.difference) == ([], None)
    assert line.nearest is not None
    assert compare([one], "top1").differs == differs
    assert line.notes[0] == "; ".join(differs)


@pytest.mark.parametrize(
    "one",
    [
        ucf101(),
        ucf101(classes=101, failures=3),  # of videos that no list has
        ucf101("retrieval", videos={"test": 3783, "train": 9537}),
        ucf101(learned=8737, tuned=8737, held_out=800),  # 800 are held out
        ucf101(fold=2, videos={"test": 3734}),
    ],
)
def test_a_result_on_all_videos_stands_beside_the_published_number(one: Result) -> None:
    assert compare([one], "top1", "1").rows


def test_of_several_seeds_each_must_be_on_all_videos() -> None:
    both = [ucf101(seed=0), ucf101(seed=1, videos={"test": 123})]
    assert compare(both, "top1").differs == ["test videos: 3783 there, 123 here"]


def test_the_same_set_by_its_old_and_its_new_name_is_one_measurement() -> None:
    older, newer = (ucf101(seed=seed, name=name) for seed, name in enumerate(("UCF101", "synth")))
    (line,) = of_results([older, newer]).lines
    assert line.over == "2 seeds"


def test_results_on_other_shards_of_a_set_are_not_averaged() -> None:
    lines = of_results([ucf101(seed=0), ucf101(seed=1, videos={"test": 123})]).lines
    assert [line.over for line in lines] == ["", ""]


def renamed(shards: Path, folder: Path, **changes: object) -> ShardSet:
    """A set with another dataset.json, whose index and shards are those of `shards`."""
    folder.mkdir()
    for path in shards.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / DATASET).unlink()
    info = read_dataset(shards)
    info["settings"] |= {"layout": changes.pop("layout", "ucf101")}
    (folder / DATASET).write_bytes(write_dataset(info | changes))
    return ShardSet.open(folder)


def test_a_set_has_the_name_of_a_papers_set_only_with_its_classes(shards: Path, tmp_path: Path) -> None:
    assert ShardSet.open(shards).name == "synth"  # whose layout is that of UCF101
    assert json.loads((shards / DATASET).read_bytes())["settings"]["layout"] == "ucf101"
    many = [f"Class{number}" for number in range(174)]
    assert renamed(shards, tmp_path / "all", classes=many[:101]).name == "UCF101"
    assert renamed(shards, tmp_path / "ten", classes=many[:10]).name == "ten"
    assert renamed(shards, tmp_path / "films", classes=many[:51], layout="hmdb51").name == "HMDB51"
    assert renamed(shards, tmp_path / "part", classes=many[:50], layout="ssv2").name == "part"
    assert renamed(shards, tmp_path / "csv", layout="csv").name == "csv"
