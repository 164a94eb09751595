"""Closed, full and broken standard streams, the locale C, and names that would command a terminal."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vprep import text
from vprep.errors import UsageError, about, exit_code

MakeVideo = Callable[..., Path]
LOCALE_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
DONE = "so the result is not printed in full; the files that the command wrote are complete"
RED = "\x1b[31m"


def shell(line: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `vprep` and `veval` are the commands."""
    commands = "".join(f'{name}() {{ {shlex.quote(sys.executable)} -m {name} "$@"; }}\n' for name in ("vprep", "veval"))
    return subprocess.run(
        ["bash", "-c", commands + line], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def accented(make_video: MakeVideo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four small videos of two classes, whose names are not ASCII."""
    folder = tmp_path_factory.mktemp("streams")
    for number, name in enumerate(("été", "日本")):
        make_video(folder / "vidéos" / name / f"ñ{number}.mp4", seconds=0.4)
        shutil.copy(folder / "vidéos" / name / f"ñ{number}.mp4", folder / "vidéos" / name / f"ü{number}.mp4")
    return folder


@pytest.mark.parametrize(
    ("redirection", "what"),
    [(">&-", "stdout is closed"), (">/dev/full", "stdout cannot be written (no space left on device)")],
)
@pytest.mark.parametrize("words", ["vprep stats SET", "vprep stats SET --json"])
def test_a_result_that_cannot_be_printed_is_a_failure_with_a_sentence(
    redirection: str, what: str, words: str, small_shards: Path, tmp_path: Path
) -> None:
    done = shell(f"{words.replace('SET', str(small_shards))} {redirection}", tmp_path)
    assert (done.returncode, done.stderr) == (1, f"vprep: {what}, {DONE}\n")


def test_help_on_a_full_disk_is_a_failure_with_a_sentence(tmp_path: Path) -> None:
    done = shell("vprep --help >/dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith(": no space left on device; free some space and run it again\n")


def test_a_reader_that_has_seen_enough_is_told_nothing(small_shards: Path, tmp_path: Path) -> None:
    done = shell(f"vprep stats {small_shards} | true; echo ${{PIPESTATUS[0]}}", tmp_path)
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize("lost", ["2>&-", "2>/dev/full", "2> >(true)"])
def test_lost_messages_stop_no_work_and_do_not_go_into_the_result(lost: str, accented: Path, tmp_path: Path) -> None:
    done = shell(f"vprep shard {accented / 'vidéos'} --out set --size 24x32 --json {lost}", tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["videos"] == 4
    refused = shell(f"vprep stats nothing {lost}", tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")


def test_without_any_stream_no_file_takes_the_place_of_one(accented: Path, tmp_path: Path) -> None:
    done = shell(f"vprep shard {accented / 'vidéos'} --out set --size 24x32 <&- >&- 2>&-", tmp_path)
    assert done.returncode == 1  # the result is not printed
    checked = shell("vprep verify set", tmp_path)
    assert checked.stdout.startswith("set: 4 videos in 1 shard are as written (hashes)\n")


def test_the_locale_c_stores_and_prints_every_name(accented: Path, tmp_path: Path) -> None:
    done = shell(f"vprep shard {accented / 'vidéos'} --out sét --size 24x32 --json", tmp_path, **LOCALE_C)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["out"] == "sét"
    assert json.loads((tmp_path / "sét" / "dataset.json").read_bytes())["classes"] == ["été", "日本"]
    assert "2, of 2 (été) to 2 videos (日本)" in shell("vprep stats sét", tmp_path, **LOCALE_C).stdout
    refused = shell("vprep stats né", tmp_path, **LOCALE_C)
    assert "'né'" in refused.stderr
    assert refused.returncode == 2


def test_a_source_whose_name_is_not_utf8_is_sharded_and_such_a_set_is_refused(accented: Path, tmp_path: Path) -> None:
    shutil.copytree(accented / "vidéos", tmp_path / os.fsdecode(b"\xff"))
    for _ in range(2):
        done = shell("vprep shard $'\\xff' --out set --size 24x32", tmp_path)
        assert done.returncode == 0, done.stderr
    refused = shell("vprep shard $'\\xff' --out $'s\\xfe' --size 24x32", tmp_path)
    assert refused.stderr.endswith("vprep: the name 's\\udcfe' is not UTF-8; rename it\n")
    assert refused.returncode == 2
    shutil.copytree(tmp_path / "set", tmp_path / os.fsdecode(b"s\xfe"))
    read = shell("vprep stats $'s\\xfe'", tmp_path)
    assert (read.returncode, len(read.stderr.splitlines())) == (2, 1)


def test_a_name_cannot_command_the_terminal(make_video: MakeVideo, tmp_path: Path) -> None:
    make_video(tmp_path / "in" / f"{RED}two\nlines" / "a.mp4", seconds=0.4)
    made = shell("vprep shard in --out set --size 24x32", tmp_path)
    assert made.returncode == 0, made.stderr
    (tmp_path / "labels.csv").write_text(f"path,label\n{RED}b.mp4,x\n")
    refused = shell("vprep shard in --labels labels.csv --out other", tmp_path)
    assert "the first being '\\x1b[31mb.mp4'" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    for words in ("stats set", "stats set --json", "verify set", "plan in", "show set"):
        done = shell(f"vprep {words}", tmp_path)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr


def test_control_characters_are_escapes_and_letters_of_all_languages_stay() -> None:
    assert text.printable("a\x1b[1m\x9b2J\r\u202eb\udcff\n\tc") == "a\\x1b[1m\\x9b2J\\r\\u202eb\\udcff\n\tc"
    assert text.one_line("a\nb") == "a\\nb"
    assert text.printable("été 日本 🎬 نص") == "été 日本 🎬 نص"
    names = ["\x9b2J", "\x1b", "\u202e", "\udcff", "é"]
    line = text.json_line(names)
    assert json.loads(line) == names
    assert line.encode("utf-8").decode().isprintable()


def test_a_message_stays_readable_however_long_a_name_is(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        raise UsageError(f"no '{'x' * 1_000_000}'; name another")

    assert exit_code("vprep", refuse) == 2
    words = capsys.readouterr().err
    assert len(words) < 2100
    assert words.endswith("x'; name another\n")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(22, "Invalid argument"), "data.tar: invalid argument; fix that and run it again"),
        (OSError(12, "Cannot allocate memory"), "data.tar: cannot allocate memory; free some memory and run it again"),
        (OSError(28, "No space left on device"), "data.tar: no space left on device; free some space and run it again"),
    ],
)
def test_an_error_of_the_system_names_the_file_that_was_read(
    error: OSError, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def read() -> None:
        with about(Path("data.tar")):
            raise error

    assert exit_code("vprep", read) == 1
    assert capsys.readouterr().err == f"vprep: {sentence}\n"


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(22, "Invalid argument"), "invalid argument; fix that"),
        (MemoryError(), "free some memory"),
    ],
)
def test_an_error_without_a_file_names_the_command(
    error: Exception, what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["vprep", "stats", "my set"])
    assert exit_code("vprep", fail) == 1
    words = capsys.readouterr().err
    assert "vprep stats 'my set'" in words
    assert words.endswith(f"{what} and run it again\n")
