"""Parts of one set by processes of their own: at once, twice, killed, late; and the index when all are there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from store_server import Bucket

from vprep.sharding.lock import one_of_many, only_writer
from vprep.video.ffmpeg import bundled

MakeVideos = Callable[[Path, int], Path]
RunVprep = Callable[..., subprocess.CompletedProcess[str]]
Content = Callable[[Path], dict[str, bytes]]

VPREP = (sys.executable, "-m", "vprep.cli")
SHARDS = 5


@pytest.fixture(scope="module")
def source(make_videos: MakeVideos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten videos of 6 to 15 frames, and one file that is none."""
    folder = make_videos(tmp_path_factory.mktemp("parts of") / "source", 10)
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def whole(source: Path, run_vprep: RunVprep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set that one process makes of all shards."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = run_vprep(*words(source, out))
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def slow(tmp_path: Path) -> dict[str, str]:
    """The environment of an ffmpeg that takes a second for each video."""
    path = tmp_path / "ffmpeg"
    path.write_text(f'#!/bin/sh\ncase "$1" in -version) ;; *) sleep 1;; esac\nexec "{bundled()}" "$@"\n')
    path.chmod(0o755)
    return os.environ | {"VPREP_FFMPEG": str(path)}


def words(source: Path, out: Path | str, *more: object) -> list[str]:
    fixed = ("shard", source, "--out", out, "--shards", SHARDS, "--workers", 1, "--max-failures", "10%")
    return [str(word) for word in (*fixed, *more)]


def start(*argv: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen([*VPREP, *argv], stdout=-1, stderr=-1, text=True, env=env)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    said = process.communicate(timeout=60)
    return process.returncode, said[0], said[1].splitlines()[-1] if said[1] else ""


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_all_parts_at_once_on_an_empty_folder_make_the_bytes_of_one_run(
    source: Path, whole: Path, content: Content, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    parts = [start(*words(source, out, "--part", f"{number}/3", "--json")) for number in range(3)]
    said = [ended(part) for part in parts]
    assert [code for code, _, _ in said] == [0, 0, 0], said
    assert content(out) == content(whole)
    assert any(json.loads(printed).get("videos") == 10 for _, printed, _ in said)


def test_parts_one_after_the_other_say_what_is_complete_and_the_last_one_writes_the_index(
    source: Path, whole: Path, run_vprep: RunVprep, content: Content, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run_vprep(*words(source, out, "--part", "1/2"))
    assert done.stdout == (
        f"{out}: part 1/2 is made, 2 shards; 2 of 5 are complete, and the part that ends last writes the index\n"
    )
    done = run_vprep("shard", "--assemble", out)
    assert (done.returncode, done.stderr) == (
        1, f"vprep: 3 of 5 shards in {out} are missing (000.tar, 002.tar, 004.tar); run again --part 0/2\n"
    )  # fmt: skip
    assert not (out / "dataset.json").exists()
    assert run_vprep(*words(source, out, "--part", "0/2")).returncode == 0
    assert content(out) == content(whole)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    for late in (words(source, out, "--part", "0/2"), ["shard", "--assemble", out, "--max-failures", "10%"]):
        done = run_vprep(*late)
        assert (done.returncode, done.stdout.partition(" of ")[0]) == (0, f"{out}: 10 videos"), done.stderr
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    (out / "001.tar").unlink()
    done = run_vprep(*words(source, out, "--part", "1/2"))
    what = f"vprep: {out} lacks some of its files; run vprep shard on it, without --part or --assemble"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, what)


@pytest.mark.slow
def test_parts_at_once_in_a_store_make_the_same_bytes_and_name_those_that_are_missing(
    source: Path, whole: Path, run_vprep: RunVprep, content: Content, s3: Bucket
) -> None:
    out = s3.url("out")
    parts = [start(*words(source, out, "--part", f"{number}/3"), env=os.environ | s3.env)
             for number in (0, 1, 1)]  # fmt: skip
    assert [ended(part)[0] for part in parts] == [0, 0, 0]
    done = run_vprep("shard", "--assemble", out, env=s3.env)
    assert (done.returncode, done.stderr) == (
        1, f"vprep: 1 of 5 shards in {out} are missing (002.tar); run again --part 2/3\n"
    )  # fmt: skip
    last = start(*words(source, out, "--part", "2/3"), env=os.environ | s3.env)
    assert ended(last)[0] == 0
    assert s3.content("out") == content(whole)


def test_a_killed_part_is_named_and_its_second_start_completes_the_set(
    source: Path, whole: Path, slow: dict[str, str], run_vprep: RunVprep, content: Content, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with start(*words(source, out, "--part", "0/2"), env=slow) as killed:
        until(lambda: len(list((out / ".work").glob(".000.tar.*.draft"))) == 1)
        killed.send_signal(signal.SIGKILL)
    assert run_vprep(*words(source, out, "--part", "1/2")).returncode == 0
    done = run_vprep("shard", "--assemble", out)
    assert (done.returncode, done.stderr.endswith("004.tar); run again --part 0/2\n")) == (1, True)
    assert run_vprep(*words(source, out, "--part", "0/2")).returncode == 0
    assert content(out) == content(whole)


@pytest.mark.slow
def test_two_starts_of_one_part_do_no_harm(
    source: Path, whole: Path, slow: dict[str, str], run_vprep: RunVprep, content: Content, tmp_path: Path
) -> None:
    """The slow one still writes its first shard when the set is finished."""
    out = tmp_path / "out"
    first = start(*words(source, out, "--part", "0/2"), env=slow)
    until(lambda: list((out / ".work").glob(".000.tar.*.draft")))
    assert run_vprep(*words(source, out, "--part", "1/2")).returncode == 0
    assert run_vprep(*words(source, out, "--part", "0/2")).returncode == 0
    assert content(out).items() >= content(whole).items()
    code, _, said = ended(first)
    assert (code, content(out)) == (0, content(whole)), said


def test_a_part_excludes_a_whole_run_and_a_whole_run_excludes_a_part(
    source: Path, whole: Path, run_vprep: RunVprep, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    busy = f"vprep: another vprep is writing to {out}; wait for it, or choose another --out"
    with one_of_many(out), one_of_many(out):
        for argv in (words(source, out), ["retry", out], ["index", out]):
            done = run_vprep(*argv)
            assert (done.returncode, done.stderr.splitlines()[-1][: len(busy) - 23]) == (2, busy[:-23])
    assert not (out / ".lock").exists()
    with only_writer(out):
        done = run_vprep(*words(source, out, "--part", "0/2"))
        assert (done.returncode, done.stderr.splitlines()[-1]) == (2, busy)


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (["--part", "2/2"], "--part is '2/2'; parts count from 0, so the last of 2 is 1/2 (a job array of them is "
         "--array=0-1)"),
        (["--part", "1"], "--part is '1'; it must be I/N, as in 0/100 for the first of 100 parts"),
        (["--part", "0/2", "--fps", "9"], "OUT was made with fps 25.0, and this command has 9.0; choose another --out"),
        (["--part", "0/2", "--engine", "ray"], "--part makes a part on this machine, and --engine ray makes all; "
         "choose one of them"),
        (["--ray-address", "host:1"], "--ray-address is for --engine ray; add that, or leave --ray-address out"),
        (["--assemble", "x"], "--assemble names a set whose parts are made; leave out SOURCE, --part and --engine"),
    ],
)  # fmt: skip
def test_a_part_that_does_not_fit_is_refused(
    asked: list[str], what: str, source: Path, whole: Path, run_vprep: RunVprep
) -> None:
    done = run_vprep(*words(source, whole, *asked))
    said = done.stderr.splitlines()[-1].replace(str(whole), "OUT")
    assert (done.returncode, said) == (2, f"vprep: {what}")


def test_a_folder_without_a_plan_cannot_be_assembled(run_vprep: RunVprep, tmp_path: Path) -> None:
    done = run_vprep("shard", "--assemble", tmp_path / "none")
    what = f"vprep: no folder '{tmp_path}/none'; a set is made with: vprep shard VIDEOS --out {tmp_path}/none\n"
    assert (done.returncode, done.stderr) == (2, what)
    assert not (tmp_path / "none").exists()
    done = run_vprep("shard")
    assert (done.returncode, done.stderr) == (
        2, "vprep: SOURCE is missing; name the folder of videos, as in: vprep shard VIDEOS --out SET\n"
    )  # fmt: skip


def test_a_part_without_shards_says_so(source: Path, whole: Path, run_vprep: RunVprep, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run_vprep(*words(source, out, "--part", "6/7"))
    assert done.returncode == 0
    assert "part 6/7 is empty: the plan has 5 shards; --shards sets their number" in done.stderr.splitlines()
