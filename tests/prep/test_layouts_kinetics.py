"""Kinetics by its csv files, by its class folders, or both."""

from pathlib import Path

import pytest
from layout_trees import entries_of, message, tree, write

from vprep import layouts
from vprep.layouts.listing import Entry

HEADER = "label,youtube_id,time_start,time_end,split\n"
SOCCER = "shooting goal (soccer),-_ab5678901,5,15,{split}\n"


@pytest.mark.parametrize("name", ["-_ab5678901", "-_ab5678901_000005_000015"])
@pytest.mark.parametrize("folder", ["", "shooting goal (soccer)/", "train/shooting_goal_(soccer)/"])
def test_kinetics_files_are_named_by_their_id_alone_or_with_times(tmp_path: Path, folder: str, name: str) -> None:
    source = f"{folder}{name}.mp4"
    write(tmp_path / "train.csv", HEADER + SOCCER.format(split="train"))
    listing = layouts.read(tree(tmp_path, source))
    assert listing.entries == [
        Entry(
            source=source,
            bytes=1,
            class_name="shooting goal (soccer)",
            label=0,
            splits=("train", None, None),
        )
    ]
    assert (listing.layout, listing.missing, listing.unlisted) == ("kinetics", [], [])


@pytest.mark.parametrize(
    ("word", "split"),
    [("train", "train"), ("validate", "val"), ("val", "val"), ("validation", "val"), ("test", "test")],
)
def test_kinetics_split_words_become_train_val_and_test(tmp_path: Path, word: str, split: str) -> None:
    write(tmp_path / "annotations/k.csv", HEADER + SOCCER.format(split=word))
    assert layouts.read(tree(tmp_path, "-_ab5678901.mp4")).entries[0].splits[0] == split


def test_kinetics_classes_are_those_of_all_csv_files_sorted(tmp_path: Path) -> None:
    write(tmp_path / "lists/train.csv", HEADER + "zumba,aaaaaaaaaaa,1,11,train\n")
    write(tmp_path / "lists/val.csv", HEADER + "yoga,bbbbbbbbbbb,2,12,val\n")
    write(tmp_path / "lists/test.csv", "youtube_id,time_start,time_end,split\nccccccccccc,3,13,test\n")
    root = tree(tmp_path / "root", "aaaaaaaaaaa.mp4", "ccccccccccc.mp4", "ddddddddddd.mp4")
    listing = layouts.read(root, splits=tmp_path / "lists")
    assert listing.classes == ["yoga", "zumba"]
    assert entries_of(listing) == [
        ("aaaaaaaaaaa.mp4", "zumba", 1, ("train", None, None)),
        ("ccccccccccc.mp4", None, None, ("test", None, None)),
        ("ddddddddddd.mp4", None, None, (None, None, None)),
    ]
    assert listing.missing == ["bbbbbbbbbbb_000002_000012"]
    assert listing.unlisted == ["ddddddddddd.mp4"]


def test_kinetics_clips_of_one_video_are_distinguished_by_their_start(tmp_path: Path) -> None:
    rows = "yoga,aaaaaaaaaaa,1,11,train\nzumba,aaaaaaaaaaa,40,50,val\nyoga,aaaaaaaaaaa,70,80,val\n"
    labels = write(tmp_path / "k.csv", HEADER + rows)
    names = ["aaaaaaaaaaa_000001_000011.mp4", "aaaaaaaaaaa_000040_000050.mp4", "aaaaaaaaaaa_000099_000109.mp4"]
    listing = layouts.read(tree(tmp_path / "root", *names), labels=labels)
    assert [one.class_name for one in listing.entries] == ["yoga", "zumba", None]
    assert [one.start for one in listing.entries] == [None, None, None]  # files are cut already
    assert (listing.missing, listing.unlisted) == (["aaaaaaaaaaa_000070_000080"], [names[2]])


def test_kinetics_folders_decide_between_two_rows_of_one_id(tmp_path: Path) -> None:
    write(tmp_path / "k.csv", HEADER + "yoga,aaaaaaaaaaa,1,11,train\nair drum,aaaaaaaaaaa,40,50,val\n")
    listing = layouts.read(tree(tmp_path, "air_drum/aaaaaaaaaaa.mp4", "yoga/aaaaaaaaaaa.mp4"))
    assert [one.class_name for one in listing.entries] == ["air drum", "yoga"]


def test_kinetics_rows_that_disagree_about_a_file_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "k.csv", HEADER + "yoga,aaaaaaaaaaa,1,11,train\nzumba,aaaaaaaaaaa,40,50,val\n")
    assert message(tree(tmp_path, "aaaaaaaaaaa.mp4"), "kinetics") == (
        f"{path}, line 3: another label or split for 'aaaaaaaaaaa.mp4' than line 2 of {path}; "
        "keep one, or name the file <id>_<start>_<end>"
    )


def test_kinetics_videos_that_the_csv_lacks_have_the_class_of_their_folder(tmp_path: Path) -> None:
    write(tmp_path / "k.csv", HEADER + "air drum,aaaaaaaaaaa,1,11,train\n")
    listing = layouts.read(tree(tmp_path, "val/air_drum/bbbbbbbbbbb.mp4"))
    assert entries_of(listing) == [("val/air_drum/bbbbbbbbbbb.mp4", "air drum", 0, ("val", None, None))]
    assert listing.unlisted == ["val/air_drum/bbbbbbbbbbb.mp4"]


def test_kinetics_class_folders_need_no_csv(tmp_path: Path) -> None:
    listing = layouts.read(tree(tmp_path, "train/air_drum/a.mp4", "val/yoga/b.mp4"), layout="kinetics")
    assert [one.class_name for one in listing.entries] == ["air drum", "yoga"]


def test_flat_kinetics_without_a_csv_says_what_is_needed(tmp_path: Path) -> None:
    assert message(tree(tmp_path, "aaaaaaaaaaa.mp4"), "kinetics") == (
        f"no csv with the column youtube_id in '{tmp_path}' or in the folders in it, "
        "and layout kinetics needs them; name their folder with --splits"
    )


def test_a_kinetics_class_list_must_have_the_labels_of_the_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "k.csv", HEADER + "yogaa,aaaaaaaaaaa,1,11,train\n")
    labels = write(tmp_path / "names/classes.txt", "zumba\nyoga\n")
    assert message(tree(tmp_path, "aaaaaaaaaaa.mp4"), "kinetics", labels=labels) == (
        f"{path}, line 2: label 'yogaa' is not in the class list {labels}; close to it: 'yoga'; "
        "add it there, or rename it"
    )
