"""Full disks, lost folders, signals, concurrent runs, other files: messages, exit codes, and what is left."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from vprep.video.ffmpeg import bundled

MakeVideos = Callable[[Path, int], Path]
RunVprep = Callable[..., subprocess.CompletedProcess[str]]
Content = Callable[[Path], dict[str, bytes]]
Wrap = Callable[..., dict[str, str]]

SHARDS = 3
VPREP = (sys.executable, "-m", "vprep.cli")


@pytest.fixture(scope="module")
def source(make_videos: MakeVideos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen videos of 6 to 17 frames. Tests that change the folder restore it."""
    return make_videos(tmp_path_factory.mktemp("faults") / "source", 12)


@pytest.fixture(scope="module")
def complete(source: Path, run_vprep: RunVprep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set of a run that nothing disturbs."""
    out = tmp_path_factory.mktemp("complete") / "out"
    done = run_vprep(*words(source, out))
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def planned(complete: Path) -> dict[str, list[str]]:
    """The sources of each shard, in order."""
    plan: dict[str, list[str]] = {}
    for row in pq.read_table(complete / "plan.parquet", columns=["shard", "source"]).to_pylist():
        plan.setdefault(row["shard"], []).append(row["source"])
    return plan


@pytest.fixture
def wrap(tmp_path: Path) -> Wrap:
    """A function that writes a script that runs `before` and then ffmpeg, and returns the environment that names it."""

    def write(before: str, *, version: str = f'exec "{bundled()}" "$@"') -> dict[str, str]:
        path = tmp_path / "ffmpeg"
        path.write_text(f'#!/bin/sh\ncase "$1" in -version) {version};; esac\n{before}\nexec "{bundled()}" "$@"\n')
        path.chmod(0o755)
        return {"VPREP_FFMPEG": str(path)}

    return write


def words(source: Path, out: Path, *more: object) -> list[object]:
    return ["shard", source, "--out", out, "--shards", SHARDS, "--workers", 2, *more]


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """Return stderr of a failed run without the lines of every run; a traceback would show up in it."""
    return "\n".join(line for line in done.stderr.splitlines() if not line.endswith(("0 classes", " left")))


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


class Disk:
    """A disk of a fixed size, in a mount namespace of its own that ends with its first process."""

    def __init__(self, folder: Path, size: int) -> None:
        self._first = subprocess.Popen(["unshare", "-rm", "sleep", "1000"], stderr=subprocess.PIPE)
        own = f"/proc/{self._first.pid}"
        until(lambda: self._first.poll() is not None or Path(f"{own}/comm").read_text() == "sleep\n")
        self._enter = ["nsenter", f"--target={self._first.pid}", "-U", "-m", "--preserve-credentials"]
        self.folder = folder
        self.seen = Path(f"{own}/root{folder}")
        """The same folder as seen from outside the namespace."""
        if self.run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder).returncode:
            self.close()
            pytest.skip("unshare -rm and mount -t tmpfs are not permitted here, so there is no disk that can be full")

    def run(self, *argv: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._enter, *map(str, argv)], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )

    def change(self, options: str) -> None:
        assert self.run("mount", "-o", f"remount,{options}", self.folder).returncode == 0

    def close(self) -> None:
        self._first.kill()
        self._first.communicate()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    with contextlib.ExitStack() as stack:

        def make(size: int) -> Disk:
            (tmp_path / "disk").mkdir()
            made = Disk(tmp_path / "disk", size)
            stack.callback(made.close)
            return made

        yield make


def full(out: Path) -> str:
    return (
        f"vprep: {out}: no space left on device; finished shards stay: "
        f"free some space and run the same command again to continue"
    )


@pytest.mark.parametrize(
    ("shards", "spare"),
    [(0, 4 << 10), *(pytest.param(*one, marks=pytest.mark.slow) for one in ((0, 60 << 10), (1, 100 << 10)))],
)
def test_a_full_disk_ends_the_run_with_one_sentence_and_the_same_command_continues_once_there_is_space(
    shards: int, spare: int, source: Path, complete: Path, disk: Callable[[int], Disk], content: Content
) -> None:
    good = content(complete)
    small = disk(spare + sum(len(good[f"00{number}.tar"]) for number in range(shards)))
    out = small.folder / "out"
    done = small.run(*VPREP, *words(source, out))
    assert sentence(done) == full(out)
    assert done.returncode == 1
    there = content(small.seen / "out")
    assert {name: good[name] for name in good if name in there and name.endswith("tar")} == {
        name: data for name, data in there.items() if name.endswith("tar")
    }
    assert len([name for name in there if name.endswith("tar")]) == shards
    assert not [name for name in there if name.endswith(".draft") or name == "dataset.json"]
    small.change(f"size={16 << 20}")
    done = small.run(*VPREP, *words(source, out))
    assert done.returncode == 0, done.stderr
    assert content(small.seen / "out") == good


@pytest.mark.slow
def test_a_disk_that_is_full_again_and_again_does_not_change_the_set(
    source: Path, complete: Path, disk: Callable[[int], Disk], content: Content
) -> None:
    # From slightly too little for the shards to just enough for the index and dataset.json, which are written last.
    good = content(complete)
    size = sum(len(data) for name, data in good.items() if name.endswith("tar")) - 4096
    small = disk(size)
    out = small.folder / "out"
    refusals = 0
    while (done := small.run(*VPREP, *words(source, out))).returncode:
        assert sentence(done) == full(out)
        assert done.returncode == 1
        there = content(small.seen / "out")
        assert [name for name in there if name.endswith("tar") and there[name] != good.get(name)] == []
        refusals += 1
        size += 16 << 10
        small.change(f"size={size}")
    assert 3 <= refusals <= 12
    assert content(small.seen / "out") == good


def test_a_read_only_disk_is_refused_and_a_set_on_it_can_be_verified(
    source: Path, complete: Path, disk: Callable[[int], Disk]
) -> None:
    rom = disk(16 << 20)
    shutil.copytree(complete, rom.seen / "set")
    rom.change("ro")
    for name in ("set", "new"):
        done = rom.run(*VPREP, *words(source, rom.folder / name))
        where = rom.folder / name
        assert sentence(done) == f"vprep: cannot write to {where}: read-only file system; choose another --out"
        assert done.returncode == 2
    assert rom.run(*VPREP, "verify", rom.folder / "set", "--depth", "frames").returncode == 0


@pytest.mark.parametrize(("below", "why"), [("file/out", "not a directory"), ("file", "file exists")])
def test_an_out_folder_that_cannot_be_created_is_refused(
    below: str, why: str, source: Path, run_vprep: RunVprep, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    done = run_vprep(*words(source, tmp_path / below))
    assert sentence(done) == f"vprep: cannot write to {tmp_path / below}: {why}; choose another --out"
    assert done.returncode == 2
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(("shard", "number"), [("001.tar", 0), ("001.tar", -1), ("002.tar", -1)])
def test_a_source_that_disappears_ends_the_run_and_counts_no_video_as_failed(
    shard: str,
    number: int,
    source: Path,
    complete: Path,
    planned: dict[str, list[str]],
    wrap: Wrap,
    run_vprep: RunVprep,
    content: Content,
    tmp_path: Path,
) -> None:
    # The folder disappears right before ffmpeg opens this video; the very last video has none after it.
    out, away = tmp_path / "out", source.with_name("away")
    name = planned[shard][number]
    env = wrap(f'case "$*" in *{name}*) [ -d "{away}" ] || mv "{source}" "{away}";; esac')
    try:
        done = run_vprep(*words(source, out), env=env)
    finally:
        away.rename(source)
    assert sentence(done) == (
        f"vprep: {source} is gone or empty; restore it and run the same command again to continue"
    )
    assert done.returncode == 1
    assert shard not in {path.name for path in out.glob("*.tar")}
    assert run_vprep(*words(source, out)).returncode == 0
    assert content(out) == content(complete)


def test_a_source_that_does_not_exist_is_refused(run_vprep: RunVprep, tmp_path: Path) -> None:
    done = run_vprep(*words(tmp_path / "none", tmp_path / "out"))
    where = tmp_path / "none"
    assert sentence(done) == f"vprep: '{where}' does not exist; name the folder that holds the videos"
    assert done.returncode == 2


def test_only_one_of_two_processes_writes_and_the_other_is_refused(
    source: Path, complete: Path, wrap: Wrap, content: Content, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    env = os.environ | wrap("sleep 0.2")
    argv = [*VPREP, *map(str, words(source, out))]
    both = [subprocess.Popen(argv, stdout=-1, stderr=-1, text=True, env=env) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    done = [subprocess.CompletedProcess(argv, p.returncode, *s) for p, s in zip(both, said, strict=True)]
    first, second = sorted(done, key=lambda one: one.returncode)
    assert (first.returncode, second.returncode) == (0, 2)
    assert sentence(second) == (f"vprep: another vprep is writing to {out}; wait for it, or choose another --out")
    assert content(out) == content(complete)


def processes_of(session: int) -> list[str]:
    """Return the running processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text().rpartition(")")
            state, _, _, its = rest.split()[:4]
            if int(its) == session and state != "Z":
                found.append(name)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_signal_ends_the_run_at_once_and_the_same_command_continues(
    number: signal.Signals,
    times: int,
    source: Path,
    complete: Path,
    wrap: Wrap,
    run_vprep: RunVprep,
    content: Content,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    env = os.environ | wrap('case "$*" in *v0*) sleep 0.1;; *) sleep 1;; esac')
    argv = [*VPREP, *map(str, words(source, out))]
    process = subprocess.Popen(argv, stdout=-1, stderr=-1, text=True, env=env, start_new_session=True)
    until((out / "000.tar").exists)
    began = time.monotonic()
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.02)
    said = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert process.returncode == 128 + number
    shards = len(list(out.glob("*.tar")))
    assert sentence(subprocess.CompletedProcess(argv, 1, *said)) == (
        f"vprep: stopped; {shards} shards in {out} are complete: run the same command again to continue"
    )
    assert 1 <= shards < SHARDS
    assert processes_of(process.pid) == []
    assert run_vprep(*words(source, out)).returncode == 0
    assert content(out) == content(complete)


def test_a_folder_with_other_files_is_refused_and_not_changed(
    source: Path, run_vprep: RunVprep, content: Content, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("three years of work")
    done = run_vprep(*words(source, out))
    assert sentence(done) == (f"vprep: {out} holds 'thesis.tex' and is no set; choose an empty folder for --out")
    assert done.returncode == 2
    assert content(out) == {"thesis.tex": b"three years of work"}


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (["--fps", "10"], "fps 25.0, and this command has 10.0"),
        (["--size", "64x64"], "height 128, and this command has 64"),
        (["--short-side", "64"], "short-side none, and this command has 64"),
        (["--quality", "5"], "quality 3, and this command has 5"),
        (["--seed", "1"], "seed 0, and this command has 1"),
        (["--shards", "2"], "shards 3, and this command has 2"),
        (["--layout", "folders"], "layout flat, and this command has folders"),
    ],
)
def test_settings_other_than_the_sets_are_refused(
    asked: list[str], what: str, source: Path, complete: Path, run_vprep: RunVprep
) -> None:
    before = times(complete)
    done = run_vprep(*words(source, complete, *asked))
    assert sentence(done).splitlines()[-1] == f"vprep: {complete} was made with {what}; choose another --out"
    assert done.returncode == 2
    assert times(complete) == before


def test_another_ffmpeg_is_refused(source: Path, complete: Path, wrap: Wrap, run_vprep: RunVprep) -> None:
    before = times(complete)
    version = json.loads((complete / "dataset.json").read_text())["settings"]["ffmpeg"]
    done = run_vprep(*words(source, complete), env=wrap("", version="echo ffmpeg version 4.2; exit"))
    assert sentence(done) == (
        f"vprep: {complete} was made with ffmpeg {version}, and this is ffmpeg 4.2; name the same one in VPREP_FFMPEG, "
        f"or choose another --out"
    )
    assert done.returncode == 2
    assert times(complete) == before


def test_a_video_added_after_the_plan_is_refused(source: Path, complete: Path, run_vprep: RunVprep) -> None:
    before = times(complete)
    shutil.copy(source / "v00.mp4", source / "v99.mp4")
    try:
        done = run_vprep(*words(source, complete))
    finally:
        (source / "v99.mp4").unlink()
    assert sentence(done) == (
        f"vprep: the source has 1 videos that the plan in {complete} lacks ('v99.mp4'); choose another --out for them"
    )
    assert done.returncode == 2
    assert times(complete) == before


@pytest.mark.slow
def test_retry_of_a_timed_out_video_gives_the_same_set_as_a_run_without_timeout(
    source: Path, complete: Path, wrap: Wrap, run_vprep: RunVprep, content: Content, tmp_path: Path
) -> None:
    out, slow = tmp_path / "out", tmp_path / "slow"
    slow.touch()
    env = wrap(f'case "$*" in *v05.mp4*) [ -e "{slow}" ] && exec sleep 60;; esac')
    done = run_vprep(*words(source, out, "--timeout", 3, "--max-failures", "10%", "--json"), env=env)
    assert (done.returncode, json.loads(done.stdout)["causes"]) == (0, {"timeout": 1})
    lost = content(out)
    assert run_vprep("retry", out, "--cause", "too_short", "--json", env=env).returncode == 0
    assert content(out) == lost
    slow.unlink()
    done = run_vprep("retry", out, "--cause", "timeout", "--json", env=env)
    assert (done.returncode, json.loads(done.stdout)["causes"]) == (0, {})
    assert content(out) == content(complete)


def test_retry_of_a_set_without_failures_says_so_and_leaves_it(
    complete: Path, run_vprep: RunVprep, content: Content, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(complete, out)
    done = run_vprep("retry", out, "--cause", "timeout", "--json")
    assert (done.returncode, json.loads(done.stdout)["causes"]) == (0, {})
    assert done.stderr.splitlines()[0] == "nothing to retry: no video failed by timeout"
    assert content(out) == content(complete)


def test_only_a_shard_that_was_removed_is_made_again(
    source: Path, complete: Path, run_vprep: RunVprep, content: Content, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(complete, out)
    (out / "001.tar").unlink()
    before = times(out)
    done = run_vprep(*words(source, out))
    assert done.returncode == 0, done.stderr
    assert content(out) == content(complete)
    after = times(out)
    assert {name for name in ("000.tar", "002.tar") if after[name] != before[name]} == set()
