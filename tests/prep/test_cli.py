"""The command line: exit codes, messages, and what goes to stdout and to stderr."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vprep.errors import exit_code
from vprep.quiet import is_quiet, with_json

RunVprep = Callable[..., subprocess.CompletedProcess[str]]


def test_every_command_explains_itself(run_vprep: RunVprep) -> None:
    printed = run_vprep("--help").stdout
    commands = ("shard", "retry", "plan", "verify", "stats", "show", "index", "subset", "synth", "doctor")
    for command in commands:
        assert re.search(rf"^\s*{command} ", printed, re.MULTILINE)
        assert run_vprep(command, "--help").returncode == 0


def test_help_loads_nothing_heavy() -> None:
    program = """
import sys
from vprep import cli
try:
    cli.main(["--help"])
except SystemExit:
    pass
assert not {"pyarrow", "cv2", "numpy", "torch", "rich.progress"} & set(sys.modules), sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_command_in_a_log_loads_no_bar(small_shards: Path) -> None:
    program = f"""
import sys
from vprep import cli
try:
    cli.main(["verify", {str(small_shards)!r}])
except SystemExit as end:
    assert not end.code
assert "vprep.progress" in sys.modules
assert "rich" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_json_prints_one_object_and_no_progress(run_vprep: RunVprep, videos: Path, tmp_path: Path) -> None:
    done = run_vprep("shard", videos, "--out", tmp_path / "out", "--json")
    info = json.loads(done.stdout)
    assert (info["videos"], info["failures"], info["causes"]) == (12, 0, {})
    assert done.stderr == "12 videos, layout folders, 2 classes\n"


def test_a_log_has_lines_of_progress(run_vprep: RunVprep, videos: Path, tmp_path: Path) -> None:
    done = run_vprep("shard", videos, "--out", tmp_path / "out")
    assert re.search(r"^12/12 videos, \d+\.\d videos/s, 0 failed, 0:00 left$", done.stderr, re.MULTILINE)
    assert "━" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shard", "nowhere"], "'nowhere' does not exist; name the folder that holds the videos"),
        (["shard", ".", "--size", "big"], "--size is 'big'; it must be HEIGHTxWIDTH, as in 128x171"),
        (
            ["shard", ".", "--max-failures", "lots"],
            "--max-failures is 'lots'; it must be a share from 0% to 100%, as in 5%",
        ),
        (["verify", "nowhere"], "no folder 'nowhere'; a set is made with: vprep shard VIDEOS --out nowhere"),
        (["verify", ".", "--depth", "deep"], "--depth is 'deep'; it must be one of sizes, hashes, frames"),
        (["retry", "nowhere"], "no folder 'nowhere'; a set is made with: vprep shard VIDEOS --out nowhere"),
        (["index", "nowhere"], "no tars in nowhere; name a folder that holds shards"),
    ],
)
def test_a_usage_error_is_one_sentence_with_exit_code_2(
    words: list[str], message: str, run_vprep: RunVprep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_vprep(*words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"vprep: {message}\n")


def test_an_unknown_option_has_exit_code_2(run_vprep: RunVprep) -> None:
    done = run_vprep("shard", ".", "--wurkers", "2")
    assert done.returncode == 2
    assert "--wurkers" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_that_is_no_ffmpeg_is_refused(run_vprep: RunVprep, videos: Path, tmp_path: Path) -> None:
    done = run_vprep("shard", videos, "--out", tmp_path / "out", env={"VPREP_FFMPEG": "/nowhere/ffmpeg"})
    assert done.returncode == 2
    assert done.stderr.endswith(
        "vprep: VPREP_FFMPEG=/nowhere/ffmpeg cannot be run (no such file or directory); "
        "name a working ffmpeg in VPREP_FFMPEG\n"
    )


def test_too_many_failures_are_an_error_once_the_set_is_finished(
    run_vprep: RunVprep, videos: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "videos", tmp_path / "out"
    shutil.copytree(videos, source)
    (source / "falling over" / "empty.mp4").touch()
    done = run_vprep("shard", source, "--out", out)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"vprep: 1 of 13 videos failed (7.7%), more than --max-failures 5%; {out / 'failures.parquet'} says why"
    )
    assert "1 failed: 1 zero_bytes\n  by class: 1 falling over\n" in done.stdout
    assert run_vprep("verify", out).returncode == 0
    assert run_vprep("shard", source, "--out", out, "--max-failures", "10%").returncode == 0


def test_plan_writes_nothing_and_predicts_what_shard_makes(run_vprep: RunVprep, videos: Path, tmp_path: Path) -> None:
    source = tmp_path / "videos"
    shutil.copytree(videos, source)
    shutil.copy(source / "falling over" / "v_falling_0.mp4", source / "jumping (high)" / "again.mp4")
    before = sorted(tmp_path.rglob("*"))
    info = json.loads(run_vprep("plan", source, "--json").stdout)
    assert sorted(tmp_path.rglob("*")) == before
    assert (info["videos"], info["classes"], info["shards"]) == (13, 2, 1)
    assert info["duplicates"] == [["falling over/v_falling_0.mp4", "jumping (high)/again.mp4"]]
    done = json.loads(run_vprep("shard", source, "--out", tmp_path / "out", "--json").stdout)
    assert done["shards"] == info["shards"]
    assert done["bytes"] == pytest.approx(info["disk_bytes"], rel=0.1)
    assert "same content: 1 group of videos" in run_vprep("plan", source).stdout


def on_terminal(*words: object, cwd: Path) -> str:
    """Run `vprep WORDS` with a terminal as stderr, and return what it showed there."""
    leader, follower = pty.openpty()
    argv = [sys.executable, "-m", "vprep.cli", *map(str, words)]
    env = os.environ | {"TERM": "xterm"}
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=follower, env=env, cwd=cwd)
    os.close(follower)
    said = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:  # Linux raises this when the other side of a terminal is closed
            break
        if not piece:
            break
        said += piece
    os.close(leader)
    assert process.wait() == 0, said
    return said.decode()


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("shard VIDEOS --out out", "12/12"),
        ("verify SET", "3/3"),
        pytest.param("plan VIDEOS", "12/12", marks=pytest.mark.slow),
        pytest.param("index COPY", "3/3", marks=pytest.mark.slow),
        pytest.param("stats SET --html page.html", "12/12", marks=pytest.mark.slow),
        pytest.param("synth --out new --classes 2 --per-class 4 --seconds 0.2", "8/8", marks=pytest.mark.slow),
    ],
)
def test_long_commands_show_a_bar_on_a_terminal_and_none_with_json(
    videos: Path, small_shards: Path, tmp_path: Path, words: str, count: str
) -> None:
    (tmp_path / "VIDEOS").symlink_to(videos)
    (tmp_path / "SET").symlink_to(small_shards)
    shutil.copytree(small_shards, tmp_path / "COPY")
    said = on_terminal(*words.split(), cwd=tmp_path)
    assert count in said
    assert "━" in said
    for made in ("out", "new"):
        shutil.rmtree(tmp_path / made, ignore_errors=True)
    assert "━" not in on_terminal(*words.split(), "--json", cwd=tmp_path)


def test_an_error_of_the_disk_is_one_sentence(run_vprep: RunVprep, small_shards: Path, tmp_path: Path) -> None:
    out = shutil.copytree(small_shards, tmp_path / "out")
    (out / "dataset.json").unlink()
    (out / "index.parquet").unlink()
    (out / "index.parquet").mkdir()
    done = run_vprep("index", out)
    assert done.returncode == 1
    assert re.fullmatch(r"vprep: \S+: is a directory; fix that and run it again\n", done.stderr)


def test_a_command_with_json_hides_nothing_of_the_next_command_in_the_same_process() -> None:
    assert exit_code("vprep", lambda: with_json(True)) == 0
    assert not is_quiet()
