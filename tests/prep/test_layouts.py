"""How a folder of videos is read. No video is opened, so the videos here are one byte."""

import os
from pathlib import Path

import pytest
from layout_trees import tree, write

from vprep import layouts
from vprep.errors import UsageError
from vprep.layouts.listing import Entry, Listing
from vprep.layouts.walk import LISTS_PER_FOLDER, VIDEO_SUFFIXES, walk


def sources(listing: Listing) -> list[str]:
    return [entry.source for entry in listing.entries]


def message(root: Path, **words: str | Path) -> str:
    with pytest.raises(UsageError) as error:
        layouts.read(root, **words)  # type: ignore[arg-type]
    return str(error.value)


# Files


def test_an_unknown_layout_is_an_error_that_names_the_choices(tmp_path: Path) -> None:
    assert message(tree(tmp_path, "a.mp4"), layout="ucf") == (
        "no layout 'ucf'; did you mean 'ucf101'? there are auto, csv, ucf101, hmdb51, ssv2, kinetics, folders, flat, "
        "or module:name for one of your own"
    )


def test_a_source_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    root = tmp_path / "none"
    assert message(root) == f"'{root}' does not exist; name the folder that holds the videos"


def test_a_source_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    root = tree(tmp_path, "a.mp4") / "a.mp4"
    assert message(root) == f"'{root}' is a file; name the folder that holds the videos"


def test_a_folder_without_videos_is_an_error_that_lists_the_video_endings(tmp_path: Path) -> None:
    suffixes = ", ".join(f".{suffix}" for suffix in VIDEO_SUFFIXES)
    tree(tmp_path, "a.jpg", "b/c.srt")
    assert message(tmp_path) == (
        f"no video below '{tmp_path}', only 2 other files; a video is a file that ends in {suffixes}"
    )


@pytest.mark.parametrize("suffix", [*VIDEO_SUFFIXES, "MP4", "Avi"])
def test_videos_are_recognised_by_their_endings_in_any_case(tmp_path: Path, suffix: str) -> None:
    assert sources(layouts.read(tree(tmp_path, f"a.{suffix}", "mp4", "b.mp4.part"))) == [f"a.{suffix}"]


def test_hidden_files_and_folders_are_skipped(tmp_path: Path) -> None:
    tree(tmp_path, "a/x.mp4", "a/._x.mp4", ".cache/y.mp4", ".mp4")
    listing = layouts.read(tmp_path)
    assert (sources(listing), listing.ignored) == (["a/x.mp4"], 0)


def test_other_files_are_counted(tmp_path: Path) -> None:
    assert layouts.read(tree(tmp_path, "a/x.mp4", "a/x.srt", "notes.md", "more.csv")).ignored == 3


def test_entries_are_sorted_by_source_and_have_their_size(tmp_path: Path) -> None:
    tree(tmp_path, "b.mp4", "a.mp4", "C.mp4")
    found = [(one.source, one.bytes) for one in layouts.read(tmp_path).entries]
    assert found == [("C.mp4", 1), ("a.mp4", 1), ("b.mp4", 1)]


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    real = tree(tmp_path / "real", "x.mp4")
    root = tree(tmp_path / "root", "a/y.mp4")
    (root / "b").symlink_to(real)
    (root / "a/z.mp4").symlink_to(real / "x.mp4")
    assert sources(layouts.read(root)) == ["a/y.mp4", "a/z.mp4", "b/x.mp4"]


def test_a_folder_that_links_to_one_above_it_is_read_once(tmp_path: Path) -> None:
    tree(tmp_path, "a/x.mp4")
    (tmp_path / "a/again").symlink_to(tmp_path)
    assert sources(layouts.read(tmp_path)) == ["a/x.mp4"]


def test_a_link_to_itself_is_a_video_that_cannot_be_reached(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").symlink_to(tmp_path / "x.mp4")
    assert layouts.read(tmp_path).entries == [Entry(source="x.mp4", bytes=-1)]


def test_a_dead_link_is_listed_so_that_it_fails_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").symlink_to(tmp_path / "gone.mp4")
    assert layouts.read(tmp_path).entries == [Entry(source="x.mp4", bytes=-1)]


def test_a_pipe_with_the_name_of_a_video_is_ignored(tmp_path: Path) -> None:
    tree(tmp_path, "a.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    os.mkfifo(tmp_path / "labels.csv")
    listing = layouts.read(tmp_path)
    assert (sources(listing), listing.ignored) == (["a.mp4"], 2)


def test_bytes_of_a_name_that_are_not_utf8_are_escaped_and_path_of_finds_the_file(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe caf\xc3\xa9.mp4"
    os.close(os.open(path, os.O_CREAT))
    (source,) = sources(layouts.read(tmp_path))
    assert source == "\\xff\\xfe café.mp4"
    assert os.fsencode(layouts.path_of(tmp_path, source)) == path


def test_a_backslash_in_a_name_is_kept(tmp_path: Path) -> None:
    (source,) = sources(layouts.read(tree(tmp_path, "a\\xff.mp4")))
    assert layouts.path_of(tmp_path, source) == tmp_path / "a\\xff.mp4"


def test_lists_are_searched_only_in_the_root_and_its_folders(tmp_path: Path) -> None:
    tree(tmp_path, "x.mp4", "b.json", "lists/a.csv", "lists/deep/c.txt")
    assert walk(tmp_path).lists == [tmp_path / "b.json", tmp_path / "lists/a.csv"]


def test_lists_are_not_searched_in_a_folder_full_of_data(tmp_path: Path) -> None:
    tree(tmp_path, "a/labels.json", *(f"a/{number}.mp4" for number in range(LISTS_PER_FOLDER)))
    assert walk(tmp_path).lists == []


# Folders and flat


def test_the_first_folder_is_the_class_and_labels_follow_the_sorted_names(tmp_path: Path) -> None:
    names = ["éclair/x.mp4", "shooting goal (soccer)/deep/er/x.mp4", "massaging person's head/x.mp4"]
    listing = layouts.read(tree(tmp_path, *names))
    assert listing.classes == ["massaging person's head", "shooting goal (soccer)", "éclair"]
    assert [(one.class_name, one.label) for one in listing.entries] == [(listing.classes[n], n) for n in range(3)]


@pytest.mark.parametrize("val", ["val", "validation", "VAL"])
def test_train_val_and_test_folders_are_splits(tmp_path: Path, val: str) -> None:
    listing = layouts.read(tree(tmp_path, "Train/a/x.mp4", f"{val}/b/x.mp4", "test/a/x.mp4"))
    assert listing.layout == "folders"
    assert listing.classes == ["a", "b"]
    found = {(one.splits[0], one.class_name) for one in listing.entries}
    assert found == {("train", "a"), ("val", "b"), ("test", "a")}


def test_train_is_a_class_when_it_has_other_classes_beside_it(tmp_path: Path) -> None:
    listing = layouts.read(tree(tmp_path, "train/x.mp4", "bus/x.mp4"))
    assert (listing.classes, listing.entries[1].splits) == (["bus", "train"], (None, None, None))


def test_a_video_beside_the_class_folders_has_no_class(tmp_path: Path) -> None:
    listing = layouts.read(tree(tmp_path, "a/x.mp4", "y.mp4"))
    assert listing.unlisted == ["y.mp4"]
    assert listing.entries[1] == Entry(source="y.mp4", bytes=1)


@pytest.mark.parametrize(
    ("name", "text"), [("c.txt", "\ufeffzoo\r\n\r\nant\r\n"), ("c.json", '{"ant": "1", "zoo": 0}')]
)
def test_a_class_list_fixes_the_labels(tmp_path: Path, name: str, text: str) -> None:
    labels = write(tmp_path / name, text)
    listing = layouts.read(tree(tmp_path / "root", "ant/x.mp4"), labels=labels)
    assert (listing.classes, listing.entries[0].label) == (["zoo", "ant"], 1)


def test_a_folder_that_the_class_list_lacks_is_named_with_close_names(tmp_path: Path) -> None:
    labels = write(tmp_path / "c.txt", "air drumming\nyoga\n")
    assert message(tree(tmp_path / "root", "air druming/x.mp4"), labels=labels) == (
        f"folder 'air druming' is not in the class list {labels}; close to it: 'air drumming'; "
        "add it there, or rename it"
    )


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("c.txt", "a\nb\na\n", ", line 3: class 'a' is in line 1, too; keep one"),
        ("c.txt", "\n", " is empty; a class list has one name per line"),
        (
            "c.json",
            '{"a": 1}',
            " has the labels 1; a class list in json is {name: label}, with labels from 0 without a gap",
        ),
        ("c.json", '{"a":\n 0 "b"}', ", line 2: not json (Expecting ',' delimiter)"),
    ],
)
def test_a_bad_class_list_is_an_error(tmp_path: Path, name: str, text: str, wrong: str) -> None:
    labels = write(tmp_path / name, text)
    assert message(tree(tmp_path / "root", "a/x.mp4"), labels=labels) == f"{labels}{wrong}"


def test_flat_gives_no_classes_even_in_folders(tmp_path: Path) -> None:
    listing = layouts.read(tree(tmp_path, "a/x.mp4"), layout="flat")
    assert (listing.entries, listing.classes) == ([Entry(source="a/x.mp4", bytes=1)], [])


# Auto


def test_videos_in_the_root_alone_are_flat(tmp_path: Path) -> None:
    assert layouts.read(tree(tmp_path, "a.mp4", "b.mp4", "notes/a.txt")).layout == "flat"


def test_videos_in_folders_are_folders(tmp_path: Path) -> None:
    assert layouts.read(tree(tmp_path, "a.mp4", "b/b.mp4")).layout == "folders"


@pytest.mark.parametrize(
    ("layout", "lists"),
    [
        ("csv", {"labels.csv": "path,label\na/1.mp4,a\n", "classInd.txt": "1 A\n"}),
        ("ucf101", {"classInd.txt": "1 A\n", "trainlist01.txt": "A/1.avi 1\n", "a_test_split1.txt": "1.avi 1"}),
        ("hmdb51", {"a_test_split1.txt": "1.avi 1\n", "train.json": '[{"id": "1", "template": "A"}]'}),
        ("ssv2", {"train.json": '[{"id": "1", "template": "A"}]', "t.csv": "youtube_id,label\n1,a\n"}),
        ("kinetics", {"lists/t.csv": "youtube_id,label\n1,a\n"}),
        ("folders", {"train.json": '{"videos": []}', "t.csv": "name,label\n1,a\n"}),
    ],
)
def test_lists_decide_the_layout_in_a_fixed_order(tmp_path: Path, layout: str, lists: dict[str, str]) -> None:
    tree(tmp_path, "a/1.mp4")
    for name, text in lists.items():
        write(tmp_path / name, text)
    assert layouts.read(tmp_path).layout == layout


def test_splits_for_a_layout_without_lists_are_an_error(tmp_path: Path) -> None:
    lists = tree(tmp_path / "lists", "notes.txt")
    assert message(tree(tmp_path / "root", "a/x.mp4"), splits=lists) == (
        f"layout folders reads no lists, and --splits is '{lists}'; leave --splits out, or name the --layout"
    )


def test_splits_and_labels_that_do_not_exist_are_errors(tmp_path: Path) -> None:
    root, none = tree(tmp_path / "root", "x.mp4"), tmp_path / "none"
    assert message(root, splits=none) == f"no '{none}'; --splits names a list or a folder of lists"
    assert message(root, labels=none) == f"no file '{none}'; --labels names a class list or a csv"
