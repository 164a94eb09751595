"""Full and read-only disks, runs of another user, and disks without locks: what the commands say and leave."""

import errno
import json
import os
import shutil
import sys
import zoneinfo  # noqa: F401  loaded before another user runs, who may not read Python's folder
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Done, run, veval, vtrain
from own_disk import as_nobody, on_a_disk, without_locks

from veval import cli as veval_cli
from vprep import cli as vprep_cli
from vtrain import cli as vtrain_cli

Main = Callable[[list[str]], Any]
PAGE = 4096  # bytes; the smallest disk
MAINS: dict[str, Main] = {"veval": veval_cli.main, "vtrain": vtrain_cli.main, "vprep": vprep_cli.main}
RUN, TUNED = ("--weights", "runs/newer"), ("--weights", "runs/finetuned/tuned")
FAST = ("--workers", "0")
TINY = ("--recipe", "tiny", "steps=4", "save_every=2", "batch=4", "size=16", "frames=4")


def command(line: tuple[str, ...], cwd: Path) -> Done:
    return run(MAINS[line[0]], *line[1:], cwd=cwd, env=None)


def left(folder: Path) -> list[str]:
    """Return the files in a folder that are not empty; refuse a draft and a json that is not complete."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert not [path for path in files if path.name.endswith(".draft")]
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
    return [str(path.relative_to(folder)) for path in files if path.stat().st_size]


FULL = [
    ("veval", "retrieval", *RUN, "--out", "disk/r.json", *FAST),
    ("veval", "features", *RUN, "--out", "disk/f.parquet", *FAST),
    ("veval", "test", *TUNED, "--logits", "disk/l.npz", "--out", "t.json", *FAST),
    ("veval", "finetune", *RUN, "--into", "disk/tuned", "--out", "f.json", *TINY, *FAST),
    ("vtrain", "pace", "--shards", "data_shards", "--out", "disk/run", *TINY, "workers=0"),
    ("vtrain", "export", "runs/newer", "--out", "disk/a.safetensors"),
    ("vtrain", "export", "runs/newer", "--out", "disk/a.ts"),
    ("vprep", "show", "data_shards", "--out", "disk/sheet.png"),
    ("vprep", "show", "data_shards", "--out", "disk/video.mp4"),
    ("vprep", "subset", "data_shards", "--rule", "classes:classes.txt", "--out", "disk/s.parquet"),
    ("vprep", "synth", "--out", "disk/videos", "--classes", "2", "--per-class", "4", "--seconds", "0.4"),
    ("vprep", "shard", "videos", "--out", "disk/set", "--shards", "2"),
]


@pytest.mark.parametrize("line", FULL, ids=lambda line: " ".join(line[:2]))
def test_a_full_disk_is_one_sentence_and_the_same_command_works_when_there_is_space(
    line: tuple[str, ...], here: Path, shards: Path
) -> None:
    (here / "classes.txt").write_text("StarSpins\n")
    (here / "videos").symlink_to(shards.parent / "videos")

    def act(mount: Callable[[str], None]) -> Any:  # noqa: ANN401  what JSON holds
        (here / "disk" / "full").write_bytes(bytes(PAGE))
        failed = command(line, here)
        there = left(here / "disk")
        (here / "disk" / "full").unlink()
        mount("remount,size=64m")
        again = command(line, here)
        return failed.returncode, failed.stderr.splitlines(), there, again.returncode, again.stderr, left(here / "disk")

    code, words, there, again, why, after = on_a_disk(here / "disk", PAGE, act)
    assert (code, there) == (1, ["full"]) or code == 2
    assert words[-1].startswith(f"{line[0]}: "), words
    assert "no space left on device" in words[-1].lower()
    assert "disk/" in words[-1]
    assert not [word for word in words if word.startswith("Traceback")]
    assert again == 0, why
    assert len(after) >= 1


def test_a_result_that_cannot_be_stored_is_printed(here: Path) -> None:
    def act(mount: Callable[[str], None]) -> Any:  # noqa: ANN401  what JSON holds
        (here / "disk" / "full").write_bytes(bytes(PAGE - 1))
        done = veval("retrieval", *RUN, "--out", "disk/r.json", "--json", *FAST, cwd=here)
        return done.returncode, done.stdout, done.stderr.splitlines()[-1]

    code, printed, words = on_a_disk(here / "disk", PAGE, act)
    if code == 1:  # a disk that is found full before the work prints nothing
        assert set(json.loads(printed)) >= {"top1", "videos", "protocol"}
        assert words.endswith("keep the result that is printed here")
    else:
        assert (code, printed) == (2, "")


READ_ONLY = [
    (("vtrain", "pace", "--resume", "--out", "disk/run"), 2),
    (("veval", "retrieval", "--weights", "disk/run", "--shards", "disk/set", "--out", "r.json", *FAST), 0),
    (("veval", "retrieval", "--weights", "disk/run", "--shards", "disk/set", "--out", "disk/r.json", *FAST), 2),
    (("veval", "test", "--weights", "disk/tuned", "--shards", "disk/set", "--out", "t.json", *FAST), 0),
    (("veval", "finetune", "--weights", "disk/run", "--into", "disk/new", "--out", "f.json", *TINY), 2),
    (("vtrain", "export", "disk/run", "--out", "a.safetensors"), 0),
    (("vtrain", "export", "disk/run", "--out", "disk/a.safetensors"), 2),
    (("vprep", "verify", "disk/set"), 0),
    (("vprep", "stats", "disk/set"), 0),
    (("vprep", "index", "disk/set"), 2),
    (("vprep", "subset", "disk/set", "--rule", "classes:classes.txt", "--out", "disk/s.parquet"), 2),
    (("vprep", "shard", "disk/set", "--out", "disk/new"), 2),
]


def furnish(disk: Path, here: Path) -> None:
    """Copy a run, a fine-tuned run and a set to `disk`."""
    for name, source in (("run", "runs/newer"), ("tuned", "runs/finetuned/tuned"), ("set", "data_shards")):
        shutil.copytree(here / source, disk / name)
    (here / "classes.txt").write_text("StarSpins\n")


def test_on_a_read_only_disk_what_reads_works_and_what_writes_is_refused(here: Path) -> None:
    def act(mount: Callable[[str], None]) -> Any:  # noqa: ANN401  what JSON holds
        furnish(here / "disk", here)
        (here / "disk" / "set" / "v.mp4").write_bytes(b"x")
        mount("remount,ro")
        ends = [command(line, here) for line, _ in READ_ONLY]
        return [(done.returncode, done.stderr) for done in ends]

    for (line, wanted), (code, words) in zip(READ_ONLY, on_a_disk(here / "disk", 64 << 20, act), strict=True):
        assert (code, "Traceback" in words) == (wanted, False), (line, words)
        if wanted:
            assert "cannot write to disk" in words.splitlines()[-1], line
            assert "read-only file system; " in words.splitlines()[-1], line


@pytest.mark.skipif(os.getuid() != 0, reason="only root can run a command as another user")
@pytest.mark.parametrize(
    ("line", "wanted", "words"),
    [
        (("vtrain", "pace", "--resume", "--out", "../run", "--shards", "../set"), 2, "cannot write to ../run: "
         "permission denied; copy the run to where you can write"),
        (("veval", "retrieval", "--weights", "../run", "--shards", "../set", *FAST), 0, ""),
        (("veval", "test", "--weights", "../tuned", "--shards", "../set", *FAST), 0, ""),
        (("vprep", "index", "../set"), 2, "cannot write to ../set: permission denied; make the folder writable"),
        (("vprep", "stats", "../set"), 0, ""),
        (("veval", "retrieval", "--weights", "../closed", "--shards", "../set", *FAST), 1, "permission denied"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_run_of_another_user_is_evaluated_but_not_continued(
    line: tuple[str, ...], wanted: int, words: str, here: Path
) -> None:
    furnish(here, here)
    shutil.copytree(here / "run", here / "closed")
    (here / "closed" / "last.pt").chmod(0o600)
    (here / "mine").mkdir()
    os.chown(here / "mine", 65534, 65534)
    opened = [folder for folder in here.parents if folder.name.startswith(("pytest-", "popen-"))] + [here]
    for folder in opened:
        folder.chmod(0o755)

    def main(argv: list[str]) -> None:
        as_nobody()
        MAINS[line[0]](argv)

    done = run(main, *line[1:], cwd=here / "mine", env={"HOME": "/nonexistent"})
    assert done.returncode == wanted, done.stderr
    assert "Traceback" not in done.stderr
    assert words in done.stderr.splitlines()[-1] if words else True


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has filters of system calls")
@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_the_work_is_done_with_a_warning(error: int, here: Path, shards: Path) -> None:
    def locked_out(program: str) -> Main:
        def main(argv: list[str]) -> None:
            without_locks(error)
            MAINS[program](argv)

        return main

    reason = os.strerror(error).lower()
    trained = run(locked_out("vtrain"), "pace", "--shards", "data_shards", "--out", "r", *TINY, cwd=here, env=None)
    assert trained.returncode == 0, trained.stderr
    assert f"warning: no lock ({reason}); make sure that nobody else trains in r" in trained.stderr.splitlines()
    source = shards.parent / "videos"
    made = run(locked_out("vprep"), "shard", source, "--out", "new", "--size", "24x32", cwd=here, env=None)
    assert made.returncode == 0, made.stderr
    assert f"warning: no lock ({reason}); make sure that nobody else writes here" in made.stderr.splitlines()


def test_without_a_home_and_with_no_folder_for_temporary_files_the_commands_work(here: Path) -> None:
    nowhere = {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent"}
    done = veval("retrieval", *RUN, "--out", "r.json", *FAST, cwd=here, env=nowhere)
    assert done.returncode == 0, done.stderr
    done = vtrain("export", "runs/newer", "--out", "a.ts", cwd=here, env=nowhere)
    assert done.returncode == 0, done.stderr
