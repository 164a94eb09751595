"""The command line: what it takes when nothing is named, what it prints, where results go, and what it refuses."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import begin, veval
from small_recipes import small

from veval import keep
from vtrain.train import train

pytestmark = pytest.mark.slow

COMMANDS = ("retrieval", "linear", "knn", "features", "test", "finetune", "report")
PLACE = ("--workers", 0)
FEW_STEPS = ("steps=2", "batch=4")


@pytest.fixture(scope="module")
def place(shards: Path, told: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shards, two pre-training runs and a fine-tuned one."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "data_shards").symlink_to(shards)
    (folder / "grey").symlink_to(told)
    for number, name in enumerate(("newer", "older")):
        train(small("pace", shards, "steps=2", f"seed={number}"), folder / "runs" / name)
    os.utime(folder / "runs" / "older" / "last.pt", (1e9, 1e9))
    train(small("supervised", shards, "steps=2"), folder / "runs" / "finetuned" / "tuned")
    (folder / "notes.md").write_text("about these videos\n")
    return folder


@pytest.fixture
def here(place: Path, tmp_path: Path) -> Path:
    """The same for a test that leaves something there."""
    for path in place.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "runs").unlink()
    (tmp_path / "runs" / "finetuned").mkdir(parents=True)
    for name in ("newer", "older", "finetuned/tuned"):
        (tmp_path / "runs" / name).symlink_to(place / "runs" / name)
    return tmp_path


def test_every_command_explains_itself_and_loads_nothing_heavy() -> None:
    program = f"""
import sys
from veval import cli
for words in ([], *([name] for name in {COMMANDS})):
    try:
        cli.main([*words, "--help"])
    except SystemExit as end:
        assert end.code == 0, words
assert not {{"pyarrow", "cv2", "numpy", "torch", "rich.table"}} & set(sys.modules), sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert f"Usage: veval {command} " in done.stdout


def test_bare_retrieval_takes_the_newest_run_and_the_shards_and_says_so(here: Path) -> None:
    done = veval("retrieval", cwd=here)
    assert done.returncode == 0, done.stderr
    first, second = done.stderr.splitlines()
    assert first == "weights runs/newer/last.pt (tiny), shards data_shards, fold 1: 8 of test, 16 of train"
    assert second.startswith("pace-p5, changed: 10 clips of 4 frames (centres, restart if short), ")
    out = here / "results" / "retrieval-newer-UCF101-fold1-1.json"
    assert done.stdout.splitlines()[-1] == "results/retrieval-newer-UCF101-fold1-1.json"
    result = json.loads(out.read_bytes())
    assert done.stdout.startswith(f"top1  {result['top1']:6.2f} %  [")
    assert result["weights"]["path"] == "runs/newer/last.pt"


def test_an_older_result_is_never_replaced_unless_it_is_named(here: Path) -> None:
    words = ("knn", *PLACE, "clips=1")
    for number in (1, 2):
        assert veval(*words, cwd=here).returncode == 0
        assert (here / "results" / f"knn-newer-UCF101-fold1-{number}.json").exists()
    kept = {path: path.read_bytes() for path in (here / "results").iterdir()}
    named = here / "new" / "folder" / "result.json"
    for k in (1, 2):
        assert veval(*words, "--k", k, "--out", named, cwd=here).returncode == 0
        assert json.loads(named.read_bytes())["k"] == k
    assert {path: path.read_bytes() for path in (here / "results").iterdir()} == kept


def test_retrieval_s_json_has_the_names_that_stay(here: Path) -> None:
    found = veval("retrieval", *PLACE, "--json", "--out", "r.json", cwd=here).json
    assert found == json.loads((here / "r.json").read_bytes())
    for name in ("top1", "top5", "top10", "top20", "top50"):
        assert 0 <= found[name] <= 100
        low, high = found["intervals"][name]
        assert low <= found[name] <= high
    assert (found["queries"], found["gallery"]) == (8, 16)
    assert found["protocol"]["clips"] == 10
    assert found["top50"] == 100  # the gallery has 16
    assert (found["larger_than_gallery"], found["dropped"]) == (["top20", "top50"], [])
    assert {"python", "torch", "numpy"} <= set(found["versions"])
    assert not (here / "results").exists()


def test_json_is_one_object_for_every_command(here: Path) -> None:
    found: dict[str, dict[str, Any]] = {}
    for command in ("retrieval", "linear", "knn", "features", "test"):
        found[command] = veval(command, *PLACE, "clips=1", "--json", cwd=here).json
    held_out = ("--select", "best-on-held-out", "--hold-out", 4, "--val-groups")
    for name, more in (("finetune", held_out), ("folds", ("--folds", "1,2"))):
        words = ("finetune", *PLACE, *FEW_STEPS, "test.clips=1", *more, "--json")
        found[name] = veval(*words, cwd=here).json
    found["report"] = veval("report", "--json", cwd=here).json
    for name in ("retrieval", "linear", "knn", "test", "finetune"):
        assert (found[name]["kind"], found[name]["schema"]) == (name, 1)
        assert found[name]["protocol"]["clips"] == 1
    assert found["finetune"]["protocol"]["selection"] == "best-on-held-out"
    assert found["finetune"]["fine_tuned"]["by"]["data"]["hold_out_by"] == "group"
    assert [one["data"]["fold"] for one in found["folds"]["folds"]] == [1, 2]
    assert found["features"]["videos"] == {"all": 24}
    assert len(keep.read(here / "features.parquet").keys) == 24
    assert {line["task"] for line in found["report"]["lines"]} == {"retrieval", "linear", "knn", "test", "finetune"}
    assert {path.name for path in (here / "results").iterdir()} == {
        "retrieval-newer-UCF101-fold1-1.json", "linear-newer-UCF101-fold1-1.json", "knn-newer-UCF101-fold1-1.json",
        "test-tuned-UCF101-fold1-1.json", "finetune-newer-UCF101-fold1-1.json", "finetune-newer-UCF101-fold1-2.json",
        "finetune-newer-UCF101-fold2-1.json",
    }  # fmt: skip
    assert {path.name for path in (here / "runs" / "finetuned").iterdir()} == {
        "tuned", "newer-UCF101-fold1-1", "newer-UCF101-fold1-2", "newer-UCF101-fold2-1"
    }  # fmt: skip


def test_bare_test_takes_the_newest_fine_tuned_run(here: Path) -> None:
    done = veval("test", *PLACE, "clips=1", cwd=here)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(
        "weights runs/finetuned/tuned/last.pt (tiny), shards data_shards, fold 1: 8 of test\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("retrieval --weights nowhere", "there is no nowhere; name a run's folder or a .safetensors file"),
        (
            "retrieval --weights runs",
            "runs holds no last.pt; name the folder of a run that has saved, or a .safetensors file",
        ),
        (
            "retrieval --split validation",
            "data_shards has no video of split 'validation' in fold 1 in the 3 shards that were named; "
            "fold 1 of dataset.json has 8 test, 16 train",
        ),
        ("retrieval --split train", "split 'train' is named twice; name splits that share no video"),
        ("retrieval --fold 4", "--fold is 4; there are 1, 2 and 3"),
        ("retrieval --shards runs", "no set in runs; one is made with: vprep shard VIDEOS --out runs"),
        ("retrieval --duplicates drop", "--duplicates is 'drop'; there are keep and 'leave out'"),
        ("retrieval klips=3", "no setting 'klips'; did you mean 'clips'?"),
        ("retrieval --out runs", "--out is runs, which is a folder; name a file"),
        (
            "retrieval --backbone r3d",
            "runs/newer holds weights of backbone 'tiny', wanted is 'r3d'; leave out --backbone",
        ),
        (
            "knn --protocol best",
            "no protocol 'best' for features; there are rspnet, ascnet, vcop, prp, pace-p5, pace-p4",
        ),
        (
            "test --weights runs/newer",
            "runs/newer/last.pt was trained by 'pace' and names no classes; testing takes a fine-tuned run: "
            "vtrain supervised --weights runs/newer/last.pt --shards SPEC",
        ),
        (
            "test --shards grey --split all",
            "grey has no video of split 'all' in fold 1 in the 2 shards that were named; fold 1 of dataset.json has "
            "no split at all",
        ),
        ("features --splits test,test", "split 'test' is named twice; name splits that share no video"),
        ("report", "no results in results; they are made by the other commands of veval"),
        ("report nothing.json", "there is no nothing.json; name files that veval wrote with --out"),
    ],
)
def test_what_was_asked_wrongly_is_one_sentence(words: str, message: str, here: Path) -> None:
    done = veval(*words.split(), cwd=here)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"veval: {message}\n")


@pytest.mark.parametrize("words", ["retrieval --weights notes.md", "report notes.md", "retrieval --device gpu"])
def test_so_it_is_where_others_have_words_in_the_sentence(words: str, here: Path) -> None:
    done = veval(*words.split(), cwd=here)
    *_, last = done.stderr.splitlines()
    assert (done.returncode, last[:7]) == (2, "veval: ")
    assert "Traceback" not in done.stderr


def test_where_there_is_nothing_the_first_thing_to_do_is_told(place: Path, tmp_path: Path) -> None:
    done = veval("retrieval", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, (
        "veval: no run in runs/ here; name weights by --weights RUN|FILE|random, or train some: "
        "vtrain METHOD --shards SPEC\n"
    ))  # fmt: skip
    (tmp_path / "runs").symlink_to(place / "runs")
    done = veval("retrieval", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, (
        "veval: no folder 'data_shards'; a set is made with: vprep shard VIDEOS --out data_shards\n"
    ))  # fmt: skip


def test_classes_of_another_set_are_refused(here: Path) -> None:
    grey = small("supervised", here / "grey", "steps=1", "data.split=all")
    train(grey, here / "runs" / "grey")
    done = veval("test", *PLACE, "--weights", "runs/grey", cwd=here)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, (
        "veval: the weights name 3 classes, data_shards has 4, and they differ (class 0 is 'a dark' there and "
        "'DiscFalls' here); test on the data set that was fine-tuned on"
    ))  # fmt: skip


FINETUNING = [
    ("--select best", "--select is 'best'; there are last, best-on-test, best-on-held-out"),
    (
        "--select best-on-held-out",
        "--select best-on-held-out, and nothing is held out; say how many videos: --hold-out 800",
    ),
    ("--hold-out 16", "16 videos are to be held out of 16; hold out 0 to 15"),
    ("test.clips=x", "clips is 'x'; it is a whole number: write one"),
    (
        "--protocol pace-p5",
        "no protocol 'pace-p5' for testing; there are rspnet, ascnet, vcop, prp, pace, rspnet-ssv2",
    ),
    (
        "--into runs/newer",
        "runs/newer was begun with name=small pace, asked is finetune-tiny; ask the same, or name another --into",
    ),
    ("--into grey", "grey is there already and holds no fine-tuning; name another --into"),
    (
        "weights=grey",
        "the recipe's weights is grey, that of runs/newer/last.pt is runs/newer/last.pt; choose the network by "
        "--weights alone, and leave it out of the settings",
    ),
]


@pytest.mark.parametrize(("words", "message"), FINETUNING)
def test_what_cannot_be_tested_is_not_trained(words: str, message: str, here: Path) -> None:
    done = veval("finetune", *words.split(), cwd=here)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (2, "", f"veval: {message}")
    assert [path.name for path in (here / "runs" / "finetuned").iterdir()] == ["tuned"]


def test_a_fold_that_is_not_there_is_told_before_another_is_trained(here: Path) -> None:
    for folds, message in (
        ("1,9", "--fold is 9; there are 1, 2 and 3"),
        ("one", "--folds is 'one'; write numbers with commas, as in 1,2,3"),
    ):
        done = veval("finetune", "--folds", folds, cwd=here)
        assert (done.returncode, done.stderr) == (2, f"veval: {message}\n")


def test_too_few_videos_of_a_class_are_told_before_any_is_read(here: Path) -> None:
    done = veval("linear", "--few", 5, "--features", "f.parquet", cwd=here)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, (
        "veval: 4 of 4 classes have fewer than 5 videos (class 0 has 4); take a smaller k, or allow fewer"
    ))  # fmt: skip
    assert not list(here.glob("f.parquet*"))


def test_one_file_of_features_serves_retrieval_linear_and_knn(here: Path) -> None:
    words = (*PLACE, "clips=2", "--features", "f.npz", "--json")
    first = veval("retrieval", *words, cwd=here).json
    kept = (here / "f.npz").stat()
    assert veval("retrieval", *words, cwd=here).json["top1"] == first["top1"]
    for command in ("linear", "knn"):
        found = veval(command, *words, "--few", 2, cwd=here).json
        assert (found["train"], found["test"], found["protocol"]["few"]) == (8, 8, 2)
        assert found["protocol"]["pool"] == "pool5"
        rows = [one["label"] == one["predicted"] for one in found["videos"]]
        assert found["top1"] == 100 * sum(rows) / 8
    assert (here / "f.npz").stat() == kept
    done = veval("retrieval", *PLACE, "clips=3", "--features", "f.npz", cwd=here)
    assert done.returncode == 2
    assert done.stderr.endswith("f.npz is of protocol clips 2, asked is 3; remove it, or choose another --out\n")


def test_features_of_two_processes_are_those_of_one(here: Path) -> None:
    words = ("features", *PLACE, "clips=2")
    assert veval(*words, "--out", "one.parquet", cwd=here).returncode == 0
    said = [here / "first", here / "second"]
    both = []
    for rank, folder in enumerate(said):
        folder.mkdir()
        env = {"RANK": str(rank), "WORLD_SIZE": "2"}
        both.append(begin(*words, "--out", "two.parquet", "--json", cwd=here, env=env, said=folder))
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert (here / "two.parquet").read_bytes() == (here / "one.parquet").read_bytes()
    told = json.loads((said[0] / "stdout").read_text())
    assert (told["videos"], told["dropped"]) == ({"all": 24}, [])
    assert [(said[1] / name).read_text() for name in ("stdout", "stderr")] == ["", ""]


@pytest.mark.slow
def test_retrieval_by_two_processes_is_told_once(here: Path) -> None:
    words = ("retrieval", *PLACE, "clips=2", "--json")
    alone = veval(*words, cwd=here).json
    done = veval(*words, cwd=here, env={"RANK": "0", "WORLD_SIZE": "2"})
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, (
        "veval: 2 processes share their work over a file; name one: --features FILE.parquet"
    ))  # fmt: skip
    env = {"RANK": "1", "WORLD_SIZE": "2"}
    (here / "second").mkdir()
    other = begin(*words, "--features", "f.npz", cwd=here, env=env, said=here / "second")
    found = veval(*words, "--features", "f.npz", cwd=here, env={"RANK": "0", "WORLD_SIZE": "2"}).json
    other.join()
    assert (other.exitcode, (here / "second" / "stdout").read_text()) == (0, "")
    assert found["videos"] == alone["videos"]


def test_features_that_were_killed_go_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veval.features.PART_VIDEOS", 2)  # a part is what is lost
    words = ("features", *PLACE, "--out")
    assert veval(*words, "whole.parquet", cwd=here).returncode == 0
    folder = here / "killed.parquet.parts"
    process = begin(*words, "killed.parquet", cwd=here, said=here)
    while len(list(folder.glob("all-*.parquet"))) < 3 and process.is_alive():
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -9
    there = {path.name: path.stat().st_mtime_ns for path in folder.glob("all-*.parquet")}
    assert 3 <= len(there) < 12
    other = veval(*words, "killed.parquet", "clips=3", cwd=here)
    assert (other.returncode, "is of protocol clips 10, asked is 3" in other.stderr) == (2, True)
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("all-*.parquet")} == there
    assert veval(*words, "killed.parquet", cwd=here).returncode == 0
    assert (here / "killed.parquet").read_bytes() == (here / "whole.parquet").read_bytes()
    assert not folder.exists()


def damaged(shards: Path, copy: Path, split: str) -> str:
    """A copy of the set in which the frames of one video of this split are zeros; its key."""
    copy.mkdir()
    for path in shards.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    row = next(row for row in pq.read_table(shards / "index.parquet").to_pylist() if row["split1"] == split)
    with (copy / row["shard"]).open("r+b") as file:
        file.seek(row["offset"] + 2)
        file.write(bytes(row["size"] - 2))
    return str(row["key"])


@pytest.mark.parametrize(
    "command", ["retrieval", "finetune", *(pytest.param(name, marks=pytest.mark.slow) for name in ("test", "features"))]
)
def test_a_video_that_cannot_be_read_is_an_error_and_with_skip_bad_it_is_counted(
    command: str, here: Path, shards: Path
) -> None:
    key = damaged(shards, here / "damaged", "test")
    words = (command, *PLACE, "--shards", "damaged", "test.clips=1" if command == "finetune" else "clips=1")
    words += FEW_STEPS if command == "finetune" else ()
    done = veval(*words, cwd=here)
    *_, last = done.stderr.splitlines()
    assert done.returncode == 1
    assert f"'{key}'" in last
    assert "vprep verify damaged" in last
    found = veval(*words, "--skip-bad", "--json", cwd=here).json
    assert [one["key"] for one in found["dropped"]] == [key]
    if command == "features":
        assert len(keep.read(here / "features.parquet").keys) == 23
        return
    assert found["queries" if command == "retrieval" else "videos"] == 7
    told = veval("report", cwd=here)
    assert "1 videos could not be read and are left out" in told.stdout


def test_a_report_of_a_pipe_is_wide_enough_to_be_read(here: Path) -> None:
    assert veval("knn", *PLACE, "clips=1", cwd=here).returncode == 0
    told = veval("report", cwd=here).stdout
    assert any("knn" in line and "UCF101" in line and "tiny" in line for line in told.splitlines())
    markdown = veval("report", "--markdown", "results", cwd=here).stdout
    assert markdown.startswith("|  | task | data | fold | method | backbone | recipe | ")
    assert "| 1 | knn | UCF101 | 1 | Pace | tiny | " in markdown


@pytest.mark.slow
def test_labels_in_place_of_features_are_found_always(here: Path) -> None:
    """The file is one that the command has made; only what the network says of each video is another."""
    words = ("clips=1", "--features", "f.npz", "--json")
    assert veval("retrieval", *PLACE, *words, cwd=here).returncode == 0
    with np.load(here / "f.npz") as found:
        arrays = dict(found)
    arrays["pool5"] = np.eye(4, arrays["pool5"].shape[1], dtype=np.float32)[arrays["label"]]
    np.savez(here / "f.npz", **arrays)
    for command in ("retrieval", "knn", "linear"):
        found = veval(command, *PLACE, *words, cwd=here).json
        assert (found["top1"], found["intervals"]["top1"]) == (100, [100, 100])
