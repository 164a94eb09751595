"""A layout from outside the package: as module:name, and as an installed package's name."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from vprep.errors import UsageError
from vprep.layouts import LAYOUTS, Listing

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "my_layouts.py"
LAYOUT = "my_layouts:read_jsonl"
Rows = Callable[[Path], dict[str, dict[str, Any]]]
MakeVideo = Callable[..., Path]


@pytest.fixture(scope="module")
def source(make_video: MakeVideo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos, two of which are in videos.jsonl; that names a fourth."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("clips/a.mp4", "clips/b.mp4", "extra.mp4"):
        make_video(folder / name, seconds=0.4)
    rows = [
        {"file": "clips/a.mp4", "class": "jump", "split": "train"},
        {"file": "clips/b.mp4", "class": "fall", "split": "test"},
        {"file": "clips/gone.mp4", "class": "fall"},
    ]
    (folder / "videos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder outside the project with a copy of the example; commands run in it."""
    (tmp_path / "here").mkdir()
    shutil.copy(EXAMPLE, tmp_path / "here")
    return tmp_path / "here"


def vprep(here: Path, *words: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `vprep WORDS` in `here`, as the installed script does: the folder itself is not on sys.path."""
    program = "import sys; from vprep.cli import main; sys.path = [p for p in sys.path if p]; main(sys.argv[1:])"
    paths = [str(path)] if path else []
    env = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, str(ROOT / "prep"), str(ROOT / "train")])}
    argv = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.run(argv, cwd=here, env=env, capture_output=True, text=True, timeout=120)


def message(here: Path, source: Path, layout: str, *words: object) -> str:
    """Return what is said about a layout that cannot be used; nothing was written then."""
    done = vprep(here, "shard", source, "--out", here / "none", "--layout", layout, *words)
    assert done.returncode == 2, done.stderr
    assert not (here / "none" / "plan.parquet").exists()
    assert len(done.stderr.splitlines()) == 1
    return done.stderr.removeprefix("vprep: ").removesuffix("\n")


def test_a_layout_in_the_current_folder_shards_videos_with_its_classes_and_splits(
    here: Path, source: Path, rows: Rows
) -> None:
    done = vprep(here, "shard", source, "--out", "set", "--layout", LAYOUT, "--json")
    assert done.returncode == 0, done.stderr
    assert "3 videos, layout my_layouts:read_jsonl, 2 classes" in done.stderr
    assert "warning: videos that the lists name and that do not exist: 1 ('clips/gone.mp4')\n" in done.stderr
    assert "warning: videos that are in no list: 1 ('extra.mp4')\n" in done.stderr
    found = {name: (row["class_name"], row["label"], row["split1"]) for name, row in rows(here / "set").items()}
    assert found == {
        "clips/a.mp4": ("jump", 1, "train"),
        "clips/b.mp4": ("fall", 0, "test"),
        "extra.mp4": (None, None, None),
    }
    assert json.loads((here / "set" / "dataset.json").read_text())["settings"]["layout"] == LAYOUT
    assert vprep(here, "verify", "set").returncode == 0


def test_plan_takes_the_same_layout(here: Path, source: Path) -> None:
    done = vprep(here, "plan", source, "--layout", LAYOUT, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["layout"], found["classes"], found["missing"]) == (LAYOUT, 2, 1)


def test_an_installed_packages_entry_point_makes_a_plain_name_work(here: Path, source: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "my_layouts-1.0.dist-info"
    info.mkdir(parents=True)
    (here / "my_layouts.py").rename(site / "my_layouts.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-layouts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[playspeed.layouts]\njsonl = my_layouts:read_jsonl\nflat = my_layouts:absent\n"
    )
    done = vprep(here, "shard", source, "--out", "set", "--layout", "jsonl", "--json", path=site)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["settings"]["layout"] == "jsonl"
    # A built-in name wins over an installed one.
    assert vprep(here, "plan", source, "--layout", "flat", "--sample", 1, path=site).returncode == 0
    known = ", ".join(("auto", *LAYOUTS))
    refused = vprep(here, "plan", source, "--layout", "other", path=site)
    assert refused.stderr == (
        f"vprep: no layout 'other'; there are {known}, from installed packages jsonl, or module:name for one of your "
        "own; a package offers flat too, and the built-in layout of that name wins\n"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("read = 3", "is of type int; it must be a function from a vprep.layouts.Source to a vprep.layouts.Listing"),
        ("def read(source): return [1]", "returned an object of type list; it must return a vprep.layouts.Listing"),
        (
            "from vprep.layouts import Listing\ndef read(source): return Listing()",
            "returned no video of the 3 below '{source}'",
        ),
        (
            "from vprep.layouts import Listing\n"
            "def read(source):\n    listing = Listing()\n    listing.add('x.mp4', 1)\n    return listing",
            "returned the video 'x.mp4', which is not below '{source}'; videos that are not there belong in "
            "Listing.missing",
        ),
        (
            "from vprep.layouts import Listing\n"
            "def read(source):\n    listing = Listing()\n    listing.add('extra.mp4', 1, splits=('dev', None, None))\n"
            "    return listing",
            "returned the video 'extra.mp4' with the splits ('dev', None, None); three are needed, each of them "
            "'train', 'val', 'test' or None, as in ('train', None, None)",
        ),
        (
            "from vprep.layouts import Listing\n"
            "def read(source):\n    listing = Listing()\n    listing.add('extra.mp4', 1, splits='train')\n"
            "    return listing",
            "returned the video 'extra.mp4' with the splits 'train'; three are needed, each of them 'train', 'val', "
            "'test' or None, as in ('train', None, None)",
        ),
        (
            "def read(source):\n    return source.video_files",
            "raised AttributeError ('Source' object has no attribute 'video_files') at {here}/mine.py, line 2; correct "
            "it there",
        ),
        ("def read(): return 1", "takes no argument; it must take exactly one, the vprep.layouts.Source"),
        (
            "from pathlib import Path\nfrom vprep.layouts import Listing\n"
            "def read(source):\n    listing = Listing()\n    listing.add(Path('extra.mp4'), 1)\n    return listing",
            "returned the video 'extra.mp4' as a PosixPath; give its name as in source.files.videos",
        ),
        (
            "from vprep.layouts import Entry, Listing\n"
            "def read(source):\n    listing = Listing(['a', 'b'])\n"
            "    listing.entries.append(Entry(source='extra.mp4', bytes=1, class_name='a', label=1))\n"
            "    return listing",
            "returned the video 'extra.mp4' with class 'a' and label 1; Listing.add sets both, in the order of its "
            "classes",
        ),
    ],
)
def test_an_object_that_is_no_layout_is_refused_in_one_sentence(here: Path, source: Path, text: str, said: str) -> None:
    (here / "mine.py").write_text(text)
    assert message(here, source, "mine:read") == f"layout 'mine:read' {said.format(source=source, here=here)}"


def test_a_layout_object_says_that_it_reads_no_splits_and_no_labels(here: Path, source: Path, tmp_path: Path) -> None:
    (here / "mine.py").write_text(
        "from my_layouts import read_jsonl\nfrom vprep.layouts import Layout\n"
        "jsonl = Layout('jsonl', read_jsonl, reads_splits=False, reads_labels=False)\n"
    )
    assert message(here, source, "mine:jsonl", "--splits", source) == (
        f"layout mine:jsonl reads no lists, and --splits is '{source}'; leave --splits out, or name another --layout"
    )
    labels = source / "videos.jsonl"
    assert message(here, source, "mine:jsonl", "--labels", labels) == (
        f"layout mine:jsonl reads no class list, and --labels is '{labels}'; leave --labels out, or name "
        "another --layout"
    )
    done = vprep(here, "plan", source, "--layout", "mine:jsonl", "--sample", 1, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["layout"] == "mine:jsonl"


def test_a_missing_or_broken_module_and_a_missing_name_are_one_sentence(here: Path, source: Path) -> None:
    assert message(here, source, "absent:read") == (
        "layout 'absent:read': there is no module 'absent'; run the command in the folder that holds it, or add that "
        "folder to PYTHONPATH"
    )
    assert message(here, source, "my_layouts:absent") == (
        f"layout 'my_layouts:absent': there is no 'absent' in my_layouts ({here}/my_layouts.py); name something that "
        "is defined there"
    )
    (here / "broken.py").write_text("\nopen_door = doors[0]\n")
    assert message(here, source, "broken:read") == (
        "layout 'broken:read': importing broken raised NameError (name 'doors' is not defined) at "
        f"{here}/broken.py, line 2; correct it there"
    )


def test_a_class_outside_the_list_of_classes_is_one_sentence(here: Path, source: Path) -> None:
    (here / "mine.py").write_text(
        "from vprep.layouts import Listing\n"
        "def read(source):\n    listing = Listing(['a'])\n    listing.add('extra.mp4', 1, 'b')\n    return listing\n"
    )
    assert message(here, source, "mine:read") == (
        "'extra.mp4' is of class 'b', which the list of classes lacks; add it there"
    )


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ([0, 1], "hold 0 of type int; names of classes must be text, as in '0'"),
        (["a", "b", "a"], "hold 'a' twice; name each class once"),
        ("abc", "are the text 'abc'; give a list of names"),
    ],
)
def test_classes_that_a_set_cannot_keep_are_refused(classes: Iterable[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Listing(classes)
    assert str(caught.value) == f"the classes of a Listing {said}"


def test_the_examples_own_messages(here: Path, source: Path, tmp_path: Path) -> None:
    assert message(here, source, LAYOUT, "--splits", source) == "splits stand in videos.jsonl; leave --splits out"
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"file": "extra.mp4"}\n')
    assert message(here, source, LAYOUT, "--labels", wrong) == (
        f"""{wrong}, line 1: '{{"file": "extra.mp4"}}' where a line like """
        """'{"file": "a.mp4", "class": "jump", "split": "train"}' is needed"""
    )
    assert message(here, source / "clips", LAYOUT) == (
        f"no '{source}/clips/videos.jsonl'; this layout needs one line of JSON for each video in it"
    )


def test_the_name_of_a_layout_in_a_sets_files_imports_nothing(here: Path, source: Path) -> None:
    made = vprep(here, "shard", source, "--out", "set", "--layout", LAYOUT, "--seed", 1, "--fps", 10)
    assert made.returncode == 0, made.stderr
    mark = here / "imported"
    (here / "my_layouts.py").write_text(f"open({str(mark)!r}, 'w')\n")
    commands: list[list[object]] = [
        ["verify", "set"],
        ["stats", "set"],
        ["show", "set"],
        ["retry", "set"],
        ["subset", "set", "--rule", "kinetics100"],
        ["index", "set"],
    ]
    # Each command that reads a set succeeds; subset fails because kinetics100 needs more classes.
    codes = [vprep(here, *words).returncode for words in commands]
    assert codes == [0, 0, 0, 0, 2, 0]
    again = vprep(here, "shard", source, "--out", "set", "--seed", 1, "--fps", 10)
    assert again.stderr.splitlines()[-1] == (
        f"vprep: set was made with layout {LAYOUT}, and this command has folders; choose another --out"
    )
    program = """
import sys
sys.path.insert(0, "")
from vtrain.data import OneClip, open_shards
print(len(list(open_shards("set", OneClip(frames=2), batch=1, epochs=1))))
"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "prep"), str(ROOT / "train")])}
    read = subprocess.run([sys.executable, "-c", program], cwd=here, env=env, capture_output=True, text=True)
    assert read.stdout == "3\n", read.stderr
    assert not mark.exists()
    # On the command line, the same name does import the module.
    vprep(here, "shard", source, "--out", "set", "--layout", LAYOUT)
    assert mark.exists()
