"""Lists and folders that are mistyped or hostile: each fault is named, and nothing hangs or grows without end."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from layout_trees import entries_of, message, tree, write

from vprep import layouts
from vprep.errors import UsageError
from vprep.layouts.alike import refuse_alike, warnings

RunVprep = Callable[..., subprocess.CompletedProcess[str]]
COMPOSED, DECOMPOSED = "\u00e9", "e\u0301"  # both are e with an acute accent
KINETICS = "youtube_id,label,time_start,time_end,split\n"
IDS = ("abcdefghijk", "bcdefghijkl")


def classes_of(root: Path, layout: str, first: str, second: str) -> list[str]:
    """Return the classes that a layout reads from a source of two videos, of a class each."""
    source = root / "source"
    if layout == "folders":
        tree(source, f"{first}/a.mp4", f"{second}/b.mp4")
    elif layout == "class list":
        tree(source, f"{first}/a.mp4")
        return layouts.read(source, labels=write(root / "classes.txt", f"{first}\n{second}\n")).classes
    elif layout == "csv":
        tree(source, "a.mp4", "b.mp4")
        write(source / "labels.csv", f"path,label\na.mp4,{first}\nb.mp4,{second}\n")
    elif layout == "kinetics":
        tree(source, *(f"{name}.mp4" for name in IDS))
        write(source / "train.csv", f"{KINETICS}{IDS[0]},{first},0,10,train\n{IDS[1]},{second},0,10,train\n")
    elif layout == "ssv2":
        tree(source, "1.webm", "2.webm")
        entries = ", ".join(f'{{"id": "{n}", "template": "{name}"}}' for n, name in enumerate((first, second), 1))
        write(source / "something-something-v2-train.json", f"[{entries}]")
    elif layout == "hmdb51":
        tree(source, "a.avi", "b.avi")
        for name, video in ((first, "a"), (second, "b")):
            write(source / f"{name}_test_split1.txt", f"{video}.avi 1\n")
    else:
        tree(source, "a.avi", "b.avi")
        write(source / "classInd.txt", f"1 {first}\n2 {second}\n")
        write(source / "trainlist01.txt", f"{first}/a.avi 1\n{second}/b.avi 2\n")
    return layouts.read(source).classes


LAYOUTS = ["folders", "class list", "csv", "kinetics", "ssv2", "hmdb51", "ucf101"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_class_in_two_unicode_forms_is_refused_in_every_layout(layout: str, tmp_path: Path) -> None:
    classes = classes_of(tmp_path, layout, COMPOSED, DECOMPOSED)
    assert len(classes) == 2
    with pytest.raises(UsageError) as error:
        refuse_alike(classes)
    assert "'\\xe9'" in str(error.value)
    assert "'e\\u0301'" in str(error.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_classes_that_differ_in_capitals_are_two_with_a_warning_in_every_layout(layout: str, tmp_path: Path) -> None:
    classes = classes_of(tmp_path, layout, "Run", "run")
    refuse_alike(classes)
    assert classes == ["Run", "run"]
    what = "warning: these classes have almost the same name: 'Run' and 'run'"
    assert warnings(classes) == [f"{what}; give one name to those that are one class"]


def test_folders_that_differ_in_spaces_are_refused_and_underscores_are_warned_of() -> None:
    for second in ("run ", " run", "run\u00a0"):
        with pytest.raises(UsageError, match="look the same"):
            refuse_alike(["run", second])
    refuse_alike(["a b", "a_b", "walk"])
    assert "'a b' and 'a_b'" in warnings(["a b", "a_b", "walk"])[0]
    assert warnings(["ride", "run", "walk"]) == []


def test_the_command_warns_or_refuses_before_any_work(run_vprep: RunVprep, tmp_path: Path) -> None:
    tree(tmp_path / "forms", f"{COMPOSED}/a.mp4", f"{DECOMPOSED}/b.mp4")
    for words in (("shard", tmp_path / "forms", "--out", tmp_path / "set"), ("plan", tmp_path / "forms")):
        done = run_vprep(*words)
        assert done.returncode == 2
        assert "look the same and differ only in Unicode form or spaces" in done.stderr
    assert not list((tmp_path / "set").iterdir())
    tree(tmp_path / "capitals", "Run/a.mp4", "run/b.mp4")
    done = run_vprep("plan", tmp_path / "capitals")
    assert done.stderr.startswith("warning: these classes have almost the same name: 'Run' and 'run'")


def test_lists_match_files_and_folders_in_another_unicode_form(tmp_path: Path) -> None:
    tree(tmp_path / "a", f"{DECOMPOSED}/x.mp4")
    listed = layouts.read(tmp_path / "a", labels=write(tmp_path / "classes.txt", f"{COMPOSED}\nrun\n"))
    assert entries_of(listed) == [(f"{DECOMPOSED}/x.mp4", COMPOSED, 0, (None, None, None))]
    tree(tmp_path / "b", f"{DECOMPOSED}.mp4")
    listed = layouts.read(tmp_path / "b", labels=write(tmp_path / "b.csv", f"path,label\n{COMPOSED}.mp4,run\n"))
    assert entries_of(listed) == [(f"{DECOMPOSED}.mp4", "run", 0, (None, None, None))]
    assert listed.missing == []


@pytest.mark.parametrize(
    ("name", "content", "wrong"),
    [
        ("l.csv", "path,label\na.mp4,x\n".encode("utf-16"), ", line 1: UTF-16, not UTF-8; save the file as UTF-8"),
        ("l.csv", "path,label\na.mp4,x\n".encode("utf-16-le"), ", line 1: UTF-16, not UTF-8; save the file as UTF-8"),
        ("l.txt", "run\n".encode("utf-16-be"), ", line 1: UTF-16, not UTF-8; save the file as UTF-8"),
        ("l.csv", b"", " is empty; a csv needs path and label"),
        ("l.csv", b"file;label\na.mp4;x\n", " has the columns file, label; a csv needs path and label"),
        ("l.txt", b"x" * (2 << 20), ", line 1: longer than 1 MB; name a list of text"),
        ("l.csv", b"path,label\n" + b"x" * (2 << 20), ", line 2: longer than 1 MB; name a list of text"),
        ("l.csv", b'path,label\n"a.mp4,x\n' + b"b.mp4,x\n" * 20_000, ", line 2: a quote that opens here never closes; "
         "close it, or remove it"),
        ("l.csv", b"path,label," * 80_000, ", line 1: column path appears twice; keep one"),
        ("l.json", b'{"run": 1e999}', " has a label that is not a number; a class list in json is {name: label}, with "
         "labels from 0 without a gap"),
        ("l.json", b'{"run": 0.5}', " has a label that is not a number; a class list in json is {name: label}, with "
         "labels from 0 without a gap"),
        ("l.json", b'{"run": 0, "run": 1}', " has 'run' twice in one object; keep one"),
        ("l.json", b'{" ": 0}', " holds no names; a class list in json is {name: label}, with labels from 0 without a "
         "gap"),
    ],
    ids=range(13),
)  # fmt: skip
def test_a_mistyped_or_hostile_list_names_its_fault(name: str, content: bytes, wrong: str, tmp_path: Path) -> None:
    tree(tmp_path / "source", "run/a.mp4")
    (tmp_path / name).write_bytes(content)
    assert message(tmp_path / "source", "auto", labels=tmp_path / name) == f"{tmp_path / name}{wrong}"


@pytest.mark.parametrize(
    "text", ['{"run": ' + "1" * 5000 + "}", "[" * 100_000, '{"run\\ud800": 0, "run": 1}'], ids=range(3)
)
def test_a_json_that_python_cannot_hold_is_one_sentence(text: str, tmp_path: Path) -> None:
    tree(tmp_path / "source", "run/a.mp4")
    words = message(tmp_path / "source", "folders", labels=write(tmp_path / "l.json", text))
    assert words.endswith(("; correct it", "; rename it"))


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_is_neither_a_video_nor_a_list(kind: str, tmp_path: Path) -> None:
    tree(tmp_path, "run/a.mp4")
    for name in ("run/b.mp4", "labels.csv", "train.csv", "classInd.txt", "something-something-v2-train.json"):
        if kind == "pipe":
            os.mkfifo(tmp_path / name)
        else:
            (tmp_path / name).symlink_to("/dev/zero")
    listing = layouts.read(tmp_path)
    assert [entry.source for entry in listing.entries] == ["run/a.mp4"]
    assert listing.layout == "folders"


def test_links_from_folder_to_folder_without_end_are_refused_at_once(tmp_path: Path) -> None:
    tree(tmp_path, *(f"d{number}/a.mp4" for number in range(8)))
    for number in range(8):
        for other in range(8):
            if number != other:
                (tmp_path / f"d{number}" / f"to{other}").symlink_to(tmp_path / f"d{other}")
    words = message(tmp_path, "auto")
    assert "in more than 100 ways" in words


def test_a_folder_that_several_links_lead_to_is_read_through_each(tmp_path: Path) -> None:
    tree(tmp_path, "all/a.mp4")
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run").symlink_to(tmp_path / "all")
    assert len(layouts.read(tmp_path).entries) == 3
