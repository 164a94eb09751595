"""Data sets with official lists: UCF101, HMDB51, Something-Something V2."""

import json
from pathlib import Path

import pytest
from layout_trees import entries_of, message, tree, write

from vprep import layouts

# UCF101

CLASSES = "1 Archery\r\n2 HandstandPushups\r\n"
PUSHUP = "HandstandPushups/v_HandStandPushups_g01_c01.avi"


def ucf(lists: Path, **texts: str) -> Path:
    for name, text in {"classInd": CLASSES, "testlist01": f"{PUSHUP}\r\n\r\n", **texts}.items():
        write(lists / f"{name}.txt", text)
    return lists


def test_ucf101_labels_and_splits_come_from_the_lists(tmp_path: Path) -> None:
    ucf(tmp_path / "ucfTrainTestlist", trainlist02=f"{PUSHUP} 2\r\nArchery/v_Archery_g01_c01.avi 1\r\n")
    listing = layouts.read(tree(tmp_path, "UCF-101/HandstandPushups/v_HandStandPushups_g01_c01.avi"))
    assert (listing.layout, listing.classes) == ("ucf101", ["Archery", "HandstandPushups"])
    assert [one[1:] for one in entries_of(listing)] == [("HandstandPushups", 1, ("test", "train", None))]
    assert listing.missing == ["Archery/v_Archery_g01_c01.avi"]


@pytest.mark.parametrize("name", ["v_HandstandPushups_g01_c01.mp4", "HandStandPushups/v_handstandpushups_g01_c01.AVI"])
def test_ucf101_videos_match_regardless_of_case_and_ending(tmp_path: Path, name: str) -> None:
    ucf(tmp_path)
    assert [one[1:] for one in entries_of(layouts.read(tree(tmp_path, name)))] == [
        ("HandstandPushups", 1, ("test", None, None))
    ]


def test_ucf101_videos_that_no_list_names_have_the_class_of_their_folder(tmp_path: Path) -> None:
    ucf(tmp_path)
    listing = layouts.read(tree(tmp_path, "x/Archery/more.avi", "other.avi"))
    assert [one[1:] for one in entries_of(listing)] == [(None, None, (None,) * 3), ("Archery", 0, (None,) * 3)]
    assert listing.unlisted == ["other.avi", "x/Archery/more.avi"]


@pytest.mark.parametrize("place", ["root", "root/any", "ucfTrainTestlist", "given"])
def test_ucf101_lists_are_found_in_their_usual_places(tmp_path: Path, place: str) -> None:
    lists = ucf(tmp_path / place)
    root = tree(tmp_path / "root", f"{PUSHUP}")
    assert layouts.read(root, splits=lists if place == "given" else None).layout == "ucf101"


def test_ucf101_lists_next_to_a_folder_of_other_videos_are_not_its_lists(tmp_path: Path) -> None:
    ucf(tmp_path / "ucfTrainTestlist")
    assert layouts.read(tree(tmp_path / "root", "cat/a.mp4")).layout == "folders"


def test_ucf101_without_lists_is_an_error_that_names_the_folders_searched(tmp_path: Path) -> None:
    assert message(tree(tmp_path, PUSHUP), "ucf101") == (
        f"no trainlist01.txt or testlist01.txt in '{tmp_path}' or in the folders in it, "
        "and layout ucf101 needs them; name their folder with --splits"
    )


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        (
            "trainlist01",
            "\r\nA/v.avi 1 2\r\n",
            "line 2: 'A/v.avi 1 2' where a line like 'Class/v_Class_g01_c01.avi 1' is needed",
        ),
        ("testlist02", "v.avi", "line 1: 'v.avi' where a line like 'Class/v_Class_g01_c01.avi' is needed"),
        ("trainlist03", "Bowling/v.avi 1", "line 1: class 'Bowling' is not in the list of classes"),
        ("trainlist03", "Archery/v.avi 2", "line 1: class 'Archery' has number 2 here and 1 in the list of classes"),
        ("trainlist01", f"{PUSHUP} 2", f"line 1: '{PUSHUP}' is in two parts of one split; keep one"),
        ("classInd", "1 Archery\n3 Bowling", "line 2: '3 Bowling' where '2 NameOfClass' is needed"),
    ],
)
def test_a_bad_ucf101_line_is_an_error_with_its_number(tmp_path: Path, name: str, text: str, wrong: str) -> None:
    lists = ucf(tmp_path / "lists", **{name: text})
    assert message(tree(tmp_path / "root", PUSHUP), "ucf101", splits=lists) == f"{lists / name}.txt, {wrong}"


def test_an_empty_class_list_of_ucf101_is_named(tmp_path: Path) -> None:
    lists = ucf(tmp_path / "lists", classInd="")
    assert message(tree(tmp_path / "root", PUSHUP), "ucf101", splits=lists) == (
        f"{lists / 'classInd'}.txt is empty; each line of UCF101's class list is a number and a name, as in '1 Archery'"
    )


def test_a_list_that_is_not_utf8_is_an_error_with_the_line(tmp_path: Path) -> None:
    (ucf(tmp_path) / "trainlist01.txt").write_bytes(b"\nArchery/\xe9.avi 1\n")
    assert message(tree(tmp_path, PUSHUP), "ucf101") == (
        f"{tmp_path / 'trainlist01.txt'}, line 2: not UTF-8; save the file as UTF-8"
    )


# HMDB51

ODD = "Chanta!_(a b)_#1_[x]&_wave_u_cm_np1_le_goo_1.avi"


def hmdb(lists: Path) -> Path:
    write(lists / "wave_test_split1.txt", f"{ODD} 1 \r\nsecond_wave.avi 0 \r\n")
    write(lists / "wave_test_split2.txt", f"{ODD} 2 \r\nsecond_wave.avi 1 \r\n")
    write(lists / "brush_hair_test_split1.txt", "gone.avi 2\n\n")
    return lists


@pytest.mark.parametrize("folder", ["", "wave/", "videos/wave/"])
def test_hmdb51_flags_are_train_test_and_unused(tmp_path: Path, folder: str) -> None:
    root = tree(hmdb(tmp_path), f"{folder}{ODD}", f"{folder}second_wave.avi")
    listing = layouts.read(root)
    assert (listing.layout, listing.classes) == ("hmdb51", ["brush_hair", "wave"])
    assert [one[1:] for one in entries_of(listing)] == [
        ("wave", 1, ("train", "test", None)),
        ("wave", 1, (None, "train", None)),
    ]
    assert (listing.missing, listing.unlisted) == (["gone.avi"], [])


@pytest.mark.parametrize("place", ["root/x", "testTrainMulti_7030_splits", "splits", "given"])
def test_hmdb51_lists_are_found_in_their_usual_places(tmp_path: Path, place: str) -> None:
    lists = hmdb(tmp_path / place)
    root = tree(tmp_path / "root", ODD)
    assert layouts.read(root, splits=lists if place == "given" else None).layout == "hmdb51"


def test_hmdb51_lists_next_to_a_folder_of_other_videos_are_not_its_lists(tmp_path: Path) -> None:
    hmdb(tmp_path / "splits")
    assert layouts.read(tree(tmp_path / "root", "cat/a.mp4")).layout == "folders"


@pytest.mark.parametrize("line", ["a.avi 3", "a.avi"])
def test_a_bad_hmdb51_line_is_an_error_with_its_number(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "wave_test_split3.txt", f"b.avi 1\n{line}\n")
    assert message(tree(tmp_path, ODD), "hmdb51") == (
        f"{path}, line 2: '{line}' where '<name>.avi' and 0, 1 or 2 is needed"
    )


# Something-Something V2


def ssv2(lists: Path, prefix: str = "something-something-v2-") -> Path:
    train = [{"id": "1", "label": "pushing a cup", "template": "Pushing [something]", "placeholders": ["a cup"]}]
    write(lists / f"{prefix}train.json", json.dumps(train))
    write(lists / f"{prefix}validation.json", json.dumps([{"id": "2", "template": "Bending [something]"}]))
    write(lists / f"{prefix}test.json", json.dumps([{"id": "3"}, {"id": "4"}]))
    return lists


@pytest.mark.parametrize("prefix", ["", "something-something-v2-"])
def test_ssv2_classes_are_templates_without_brackets(tmp_path: Path, prefix: str) -> None:
    ssv2(tmp_path / "labels", prefix)
    listing = layouts.read(tree(tmp_path, "v/1.webm", "v/2.mp4", "v/3.webm", "v/5.webm"))
    assert (listing.layout, listing.classes) == ("ssv2", ["Bending something", "Pushing something"])
    assert [one[1:] for one in entries_of(listing)] == [
        ("Pushing something", 1, ("train", None, None)),
        ("Bending something", 0, ("val", None, None)),
        (None, None, ("test", None, None)),
        (None, None, (None, None, None)),
    ]
    assert (listing.missing, listing.unlisted) == (["4"], ["v/5.webm"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.json", '{"Pushing something": "0", "Bending something": "1"}'),
        ("something-something-v2-labels.json", '{"Bending something": "1", "Pushing something": "0"}'),
        ("given.txt", "Pushing something\nBending something\n"),
    ],
)
def test_ssv2_labels_are_the_ids_of_its_label_list(tmp_path: Path, name: str, text: str) -> None:
    path = write(ssv2(tmp_path) / name, text)
    listing = layouts.read(tree(tmp_path, "1.webm"), labels=path if name == "given.txt" else None)
    assert listing.classes == ["Pushing something", "Bending something"]
    assert listing.entries[0].label == 0


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('[\n{"id": "1" "template"', ", line 2: not json (Expecting ',' delimiter)"),
        ('{"id": "1"}', ' is not a list of entries; [{"id": "1", "template": "..."}, ...] is needed'),
        ('[{"template": "A"}]', ", entry 1: no id; each entry needs one"),
        (
            '[{"id": "1", "template": "A"}, {"id": "2"}]',
            ", entry 2: no template; each entry of the train list needs one",
        ),
    ],
)
def test_a_bad_ssv2_list_is_an_error(tmp_path: Path, text: str, wrong: str) -> None:
    path = write(tmp_path / "train.json", text)
    assert message(tree(tmp_path, "1.webm"), "ssv2") == f"{path}{wrong}"


def test_an_ssv2_template_that_the_label_list_lacks_is_an_error(tmp_path: Path) -> None:
    path = write(ssv2(tmp_path) / "labels.json", '{"Pushing something": "0", "Bending some": "1"}')
    assert message(tree(tmp_path, "1.webm"), "ssv2") == (
        f"class 'Bending something' is not in the class list {path}; close to it: 'Bending some', 'Pushing something'; "
        "add it there, or rename it"
    )
