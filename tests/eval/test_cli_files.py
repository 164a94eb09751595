"""The command line, on files of features, with several processes and with videos that cannot be read."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import begin, veval
from rich.cells import cell_len
from terminals import BAR, on_terminal

from veval.features import feature_file
from veval.results import neighbours, result
from veval.results.neighbours import read_neighbours

pytestmark = pytest.mark.slow

COMMANDS = ("retrieval", "linear", "knn", "features", "test", "finetune", "report")
PLACE = ("--workers", 0)
FEW_STEPS = ("steps=2", "batch=4")


def test_too_few_videos_of_a_class_are_refused_before_any_is_read(here: Path) -> None:
    done = veval("linear", "--few", 5, "--features", "f.parquet", cwd=here)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, (
        "veval: 4 of 4 classes have fewer than 5 videos (class 0 has 4); choose a --few of at most 4"
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
    assert done.stderr.endswith("f.npz was made with protocol clips 2, not 3; remove it, or name another file\n")


def test_features_of_two_processes_are_those_of_one(here: Path) -> None:
    words = ("features", *PLACE, "clips=2")
    assert veval(*words, "--out", "one.parquet", cwd=here).returncode == 0
    printed = [here / "first", here / "second"]
    both = []
    for rank, folder in enumerate(printed):
        folder.mkdir()
        env = {"RANK": str(rank), "WORLD_SIZE": "2"}
        both.append(begin(*words, "--out", "two.parquet", "--json", cwd=here, env=env, printed=folder))
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert (here / "two.parquet").read_bytes() == (here / "one.parquet").read_bytes()
    found = json.loads((printed[0] / "stdout").read_text())
    assert (found["videos"], found["dropped"]) == ({"all": 24}, [])
    assert [(printed[1] / name).read_text() for name in ("stdout", "stderr")] == ["", ""]


def test_retrieval_by_two_processes_prints_one_result(here: Path) -> None:
    words = ("retrieval", *PLACE, "clips=2", "--json")
    alone = veval(*words, cwd=here).json
    done = veval(*words, cwd=here, env={"RANK": "0", "WORLD_SIZE": "2"})
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, (
        "veval: 2 processes share their work through a file; name one with --features FILE.parquet"
    ))  # fmt: skip
    env = {"RANK": "1", "WORLD_SIZE": "2"}
    (here / "second").mkdir()
    other = begin(*words, "--features", "f.npz", cwd=here, env=env, printed=here / "second")
    found = veval(*words, "--features", "f.npz", cwd=here, env={"RANK": "0", "WORLD_SIZE": "2"}).json
    other.join()
    assert (other.exitcode, (here / "second" / "stdout").read_text()) == (0, "")
    assert found["videos"] == alone["videos"]


def test_extraction_continues_after_it_was_killed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veval.features.extract.PART_VIDEOS", 2)  # videos of a part, which is what is lost
    words = ("features", *PLACE, "--out")
    assert veval(*words, "whole.parquet", cwd=here).returncode == 0
    folder = here / "killed.parquet.parts"
    process = begin(*words, "killed.parquet", cwd=here, printed=here)
    while len(list(folder.glob("all-*.parquet"))) < 3 and process.is_alive():
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -9
    there = {path.name: path.stat().st_mtime_ns for path in folder.glob("all-*.parquet")}
    assert 3 <= len(there) < 12
    other = veval(*words, "killed.parquet", "clips=3", cwd=here)
    assert (other.returncode, "was made with protocol clips 10, not 3" in other.stderr) == (2, True)
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


@pytest.mark.parametrize("command", ["retrieval", "finetune", "test", "features"])
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
        assert len(feature_file.read(here / "features.parquet").keys) == 23
        return
    assert found["queries" if command == "retrieval" else "videos"] == 7
    report = veval("report", cwd=here)
    assert "1 videos could not be read and are left out" in report.stdout


def test_a_report_has_the_width_of_its_terminal_and_a_pipe_is_as_wide_as_columns_says(here: Path) -> None:
    assert veval("retrieval", *PLACE, "clips=1", cwd=here).returncode == 0
    assert "\n 1  Pace " in veval("report", cwd=here).stdout

    def widest(text: str) -> int:
        return max(map(cell_len, text.splitlines()))

    narrow, wide = (on_terminal("report", cwd=here, columns=columns).stdout for columns in (80, 200))
    assert widest(narrow) <= 80 < widest(wide) <= 200
    assert "Left out in 80 columns: hashes of weights, intervals of further metrics." in narrow
    assert "Left out" not in wide
    piped = veval("report", cwd=here).stdout
    assert (widest(piped) <= 100, "Left out in 100 columns" in piped) == (True, True)
    assert widest(veval("report", cwd=here, env={"COLUMNS": "72"}).stdout) <= 72


def test_a_report_has_one_form(here: Path) -> None:
    assert veval("knn", *PLACE, "clips=1", cwd=here).returncode == 0
    markdown = veval("report", "--markdown", "results", cwd=here).stdout
    assert "| 1 | Pace | tiny | synth | " in markdown
    assert veval("report", "--latex", cwd=here).stdout.count("\\begin{tabular}") == 1
    head, line = veval("report", "--csv", cwd=here).stdout.splitlines()
    assert (head[:14], line[:13]) == ("run,task,data,", "1,knn,synth,1")
    done = veval("report", "--csv", "--latex", cwd=here)
    assert (done.returncode, done.stderr) == (
        2,
        "veval: --latex and --csv are different forms of a report; name one of them\n",
    )


@pytest.mark.parametrize("command", ["retrieval", "linear", "knn", "features", "test", "finetune"])
def test_a_terminal_shows_a_bar_and_with_json_nothing(command: str, here: Path) -> None:
    words = (command, *PLACE, "--shards", "data_shards", *(FEW_STEPS if command == "finetune" else ()))
    words += ("test.clips=1" if command == "finetune" else "clips=1",)
    shown = on_terminal(*words, cwd=here, columns=100)
    assert shown.returncode == 0, shown.stdout
    assert re.search(rf"{BAR}.* \d+/\d+ .* left, (tested videos|features of videos), ", shown.stdout)
    (here / "features.parquet").unlink(missing_ok=True)
    plain = on_terminal(*words, "--json", cwd=here, columns=100)
    assert (plain.returncode, BAR in plain.stdout, " left" in plain.stdout) == (0, False, False)


def test_retrieval_says_that_it_keeps_fewer_neighbours_where_a_result_cannot_hold_them(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "LARGEST", 1500)
    done = veval("retrieval", *PLACE, "clips=1", "--out", "r.json", cwd=here)
    kept = result.read(here / "r.json")["keep"]
    assert 0 < kept < 10
    assert f"{kept} neighbours of each query are kept; 10 would be too large for a result\n" in done.stderr


def test_retrieval_keeps_as_many_neighbours_as_the_user_says(here: Path) -> None:
    found = veval("retrieval", *PLACE, "clips=1", "--json", cwd=here).json
    assert (found["keep"], {len(video["neighbours"]) for video in found["videos"]}) == (10, {10})
    assert {query.label for query in read_neighbours(found).queries} == set(found["class_names"])
    few = veval("retrieval", *PLACE, "clips=1", "--keep", 2, "--json", cwd=here).json
    nearest = read_neighbours(found).queries, read_neighbours(few).queries
    assert [one.neighbours[:2] for one in nearest[0]] == [one.neighbours for one in nearest[1]]
    none = veval("retrieval", *PLACE, "clips=1", "--keep", 0, "--json", cwd=here).json
    assert (none["keep"], none["gallery_videos"], "neighbours" in none["videos"][0]) == (0, [], False)
    assert [none[f"top{k}"] for k in (1, 5, 10)] == [found[f"top{k}"] for k in (1, 5, 10)]


def test_one_hot_labels_as_features_are_always_correct(here: Path) -> None:
    """The file is the command's own, but for the features in it."""
    words = ("clips=1", "--features", "f.npz", "--json")
    assert veval("retrieval", *PLACE, *words, cwd=here).returncode == 0
    with np.load(here / "f.npz") as found:
        arrays = dict(found)
    arrays["pool5"] = np.eye(4, arrays["pool5"].shape[1], dtype=np.float32)[arrays["label"]]
    np.savez(here / "f.npz", **arrays)
    for command in ("retrieval", "knn", "linear"):
        found = veval(command, *PLACE, *words, cwd=here).json
        assert (found["top1"], found["intervals"]["top1"]) == (100, [100, 100])
