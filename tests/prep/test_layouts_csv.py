"""A csv by the user lists the videos, or parts of them."""

from pathlib import Path

import pytest
from layout_trees import tree

from vprep import layouts
from vprep.errors import UsageError
from vprep.layouts.listing import Entry, Listing


def read(tmp_path: Path, text: str, *names: str) -> Listing:
    (tmp_path / "my.csv").write_text(text, encoding="utf-8")
    return layouts.read(tree(tmp_path / "root", *names), labels=tmp_path / "my.csv")


def message(tmp_path: Path, text: str, *names: str, layout: str = "csv") -> str:
    (tmp_path / "my.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as error:
        layouts.read(tree(tmp_path / "root", *names), layout=layout, labels=tmp_path / "my.csv")
    return str(error.value)


def test_the_csv_names_the_videos_and_their_classes(tmp_path: Path) -> None:
    text = '\ufeffpath,label,split\r\nb/2.mp4,zoo,train\r\n\r\n"1, é.mp4",ant,validation\r\n3.mp4,,\r\n'
    listing = read(tmp_path, text, "b/2.mp4", "1, é.mp4", "3.mp4")
    assert (listing.layout, listing.classes) == ("csv", ["ant", "zoo"])
    assert listing.entries == [
        Entry(source="1, é.mp4", bytes=1, class_name="ant", label=0, splits=("val", None, None)),
        Entry(source="3.mp4", bytes=1),
        Entry(source="b/2.mp4", bytes=1, class_name="zoo", label=1, splits=("train", None, None)),
    ]


def test_labels_csv_in_the_root_is_found(tmp_path: Path) -> None:
    (tree(tmp_path, "a.mp4") / "labels.csv").write_text("path,label\na.mp4,cat\n")
    assert layouts.read(tmp_path).classes == ["cat"]


def test_missing_and_unlisted_files_are_reported_and_not_sharded(tmp_path: Path) -> None:
    listing = read(tmp_path, "path,label\na.mp4,x\ngone.mp4,y\n", "a.mp4", "more.mp4")
    assert [one.source for one in listing.entries] == ["a.mp4"]
    assert (listing.classes, listing.missing, listing.unlisted) == (["x", "y"], ["gone.mp4"], ["more.mp4"])


def test_integer_labels_are_the_label_ids(tmp_path: Path) -> None:
    listing = read(tmp_path, "path,label\na.mp4,3\nb.mp4,01\nc.mp4,\n", "a.mp4", "b.mp4", "c.mp4")
    assert [(one.class_name, one.label) for one in listing.entries] == [("3", 3), ("01", 1), (None, None)]
    assert listing.classes == ["0", "01", "2", "3"]


def test_labels_with_a_word_among_them_are_all_names(tmp_path: Path) -> None:
    listing = read(tmp_path, "path,label\na.mp4,10\nb.mp4,9\nc.mp4,cat\n", "a.mp4", "b.mp4", "c.mp4")
    assert listing.classes == ["10", "9", "cat"]


def test_three_splits_are_three_columns(tmp_path: Path) -> None:
    listing = read(tmp_path, "split2,path,split1,label,split3\ntest,a.mp4,train,x,\n", "a.mp4")
    assert listing.entries[0].splits == ("train", "test", None)


def test_one_file_may_hold_several_videos(tmp_path: Path) -> None:
    text = "path,label,start,end\na.mp4,x,10.5,12\na.mp4,y,0,10.5\nb.mp4,x,,\n"
    assert [(one.source, one.start, one.end, one.label) for one in read(tmp_path, text, "a.mp4", "b.mp4").entries] == [
        ("a.mp4", 0, 10.5, 1),
        ("a.mp4", 10.5, 12, 0),
        ("b.mp4", None, None, 0),
    ]


def test_paths_may_be_absolute_or_roundabout_as_long_as_they_are_below_the_root(tmp_path: Path) -> None:
    text = f"path,label\n{tmp_path}/root/a.mp4,x\n./b/../b/c.mp4,y\n"
    listing = read(tmp_path, text, "a.mp4", "b/c.mp4")
    assert [one.source for one in listing.entries] == ["a.mp4", "b/c.mp4"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("path,name\na.mp4,x\n", "line 1: no column label; the header must have path, label"),
        ("path,label,label\na.mp4,x,x\n", "line 1: column label appears twice; keep one"),
        ("path,label\n\na.mp4\n", "line 3: 1 fields where the header has 2; a field with a comma needs quotes"),
        ("path,label\na,b.mp4,x\n", "line 2: 3 fields where the header has 2; a field with a comma needs quotes"),
        ('path,label\n"a.mp4,x\nb.mp4,x\n', "line 2: a quote that opens here never closes; close it, or remove it"),
        ("path;label\na.mp4;x\n", "line 1: ';' between the columns; save the table with commas"),
        ("path\tlabel\na.mp4\tx\n", "line 1: tabs between the columns; save the table with commas"),
        ("path,label\na\0.mp4,x\n", "line 2: a NUL byte, which no text holds; save the file as UTF-8"),
        (f"path,label\na.mp4,{'1' * 5000}\n", f"line 2: label {'1' * 20}; label ids must be from 0 to 999999"),
        (
            "path,label,start,end\na.mp4,x,1,1e308\n",
            "line 2: end '1e308'; no video is longer than 10000000 seconds",
        ),
        ("path,label,split\na.mp4,x,dev\n", "line 2: split 'dev'; it must be train, val or test"),
        (
            "path,label,split,split1\na.mp4,x,,\n",
            "line 2: both split and split1 to split3 in the header; keep one kind",
        ),
        (
            "path,label,start,end\na.mp4,x,3,3\n",
            "line 2: start '3' and end '3'; both must be seconds, with end > start >= 0",
        ),
        (
            "path,label,start,end\na.mp4,x,0,nan\n",
            "line 2: start '0' and end 'nan'; both must be seconds, with end > start >= 0",
        ),
        (
            "path,label,start\na.mp4,x,-1\n",
            "line 2: start '-1' and end ''; both must be seconds, with end > start >= 0",
        ),
        ("path,label\na.mp4,-1\n", "line 2: label -1; label ids must be from 0 to 999999"),
        ("path,label\na.mp4,x\na.mp4,x\n", "line 3: 'a.mp4' is in line 2, too, with the same times; keep one"),
        ("path,label\na.mp4,x\n./a.mp4,y\n", "line 3: 'a.mp4' is in line 2, too, with the same times; keep one"),
    ],
)
def test_a_bad_csv_is_an_error_with_the_line(tmp_path: Path, text: str, wrong: str) -> None:
    assert message(tmp_path, text, "a.mp4") == f"{tmp_path / 'my.csv'}, {wrong}"


@pytest.mark.parametrize("path", ["../a.mp4", "/a.mp4", "", "b/../../a.mp4", "."])
def test_a_path_outside_the_root_is_an_error_with_the_line(tmp_path: Path, path: str) -> None:
    assert message(tmp_path, f"path,label\na.mp4,x\n{path},x\n", "a.mp4") == (
        f"{tmp_path / 'my.csv'}, line 3: path '{path}' is not below '{tmp_path / 'root'}'; "
        "paths must be relative to that folder"
    )


def test_a_csv_whose_paths_are_all_missing_is_an_error(tmp_path: Path) -> None:
    assert message(tmp_path, "path,label\nroot/a.mp4,x\n", "a.mp4") == (
        f"{tmp_path / 'my.csv'} names no video below '{tmp_path / 'root'}', "
        "the first being 'root/a.mp4'; paths must be relative to it"
    )


def test_an_empty_csv_says_what_is_needed(tmp_path: Path) -> None:
    assert message(tmp_path, "\n", "a.mp4") == f"{tmp_path / 'my.csv'} is empty; a header with path, label is needed"


def test_labels_for_the_flat_layout_are_an_error(tmp_path: Path) -> None:
    assert message(tmp_path, "path,label\na.mp4,x\n", "a.mp4", layout="flat") == (
        f"layout flat reads no class list, and --labels is '{tmp_path / 'my.csv'}'; leave --labels out, "
        "or name another --layout"
    )


def test_the_csv_layout_without_a_csv_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        layouts.read(tree(tmp_path, "a.mp4"), layout="csv")
    assert str(error.value) == f"no '{tmp_path / 'labels.csv'}', and layout csv needs a csv; name it with --labels"
