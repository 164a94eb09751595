"""SIGINT, SIGTERM, SIGHUP and SIGKILL: one sentence, an exit code, and no process or draft that is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vprep.atomic import atomic_write, draft_of
from vprep.errors import WorkError

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
UNFINISHED = "stopped before it was done; no half-written file is left: run the same command again"
# A command that works for a minute, with an ffmpeg that would, too.
WORKING = """
import gc, sys, time
from pathlib import Path
from vprep import signals
signals.end_at_once("vprep")
from vprep.errors import exit_code
from vprep.video.ffmpeg import run

class Late:
    def __del__(self):
        print("began", flush=True)
        time.sleep(60)

def work():
    if sys.argv[1] == "destructor":
        Late()
        time.sleep(60)
    elif sys.argv[1] == "import":
        import slow_to_import
    elif sys.argv[1] == "ffmpeg":
        run(["sh", "-c", f"echo $$ > {sys.argv[2]}; sleep 60; true"], timeout=90)
    else:
        print("began", flush=True)
        time.sleep(60)

sys.exit(exit_code("vprep", work))
"""


def start(*words: object, before: str = "", folder: Path | None = None) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", before + WORKING, *map(str, words)]
    return subprocess.Popen(argv, stdout=-1, stderr=-1, text=True, cwd=folder)


def until_begun(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "began\n"


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=20)
    return process.returncode, said


@pytest.fixture
def slow_to_import(tmp_path: Path) -> Path:
    (tmp_path / "slow_to_import.py").write_text("import time\nprint('began', flush=True)\ntime.sleep(60)\n")
    return tmp_path


@pytest.mark.parametrize("number", NUMBERS)
def test_a_stopped_command_says_one_sentence_and_its_exit_code_names_the_signal(number: signal.Signals) -> None:
    with start("work") as process:
        until_begun(process)
        process.send_signal(number)
        process.send_signal(number)  # `timeout` sends it twice
        assert ended(process) == (128 + number, f"vprep: {UNFINISHED}\n")


@pytest.mark.parametrize("where", ["destructor", "import"])
def test_a_signal_in_a_destructor_or_an_import_is_not_lost(where: str, slow_to_import: Path) -> None:
    with start(where, before="import sys; sys.path.append('.')\n", folder=slow_to_import) as process:
        until_begun(process)
        process.send_signal(signal.SIGINT)
        assert ended(process) == (130, f"vprep: {UNFINISHED}\n")


def test_a_hangup_stays_ignored_where_it_was_ignored_as_under_nohup() -> None:
    with start("work", before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n") as process:
        until_begun(process)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 143


@pytest.mark.parametrize("program", ["vprep", "vtrain", "veval"])
def test_a_signal_while_a_command_imports_its_modules_ends_it_with_the_sentence(program: str) -> None:
    """At once after the first line of `__main__`; before that, Python itself answers."""
    sends = "import os, signal, sys; sys.meta_path.insert(0, type('S', (), {'find_spec': lambda *words: "
    sends += f"os.kill(os.getpid(), signal.SIGTERM) if words[0] == '{program}.cli' else None}}))\n"
    code = f"{sends}import runpy; runpy.run_module('{program}', run_name='__main__', alter_sys=True)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (143, f"{program}: {UNFINISHED}\n")


def is_alive(number: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{number}/status").read_text()
    except OSError:
        return False


def test_a_killed_command_leaves_no_ffmpeg_nor_what_that_has_started(tmp_path: Path) -> None:
    with start("ffmpeg", tmp_path / "number") as process:
        deadline = time.monotonic() + 20
        while not (tmp_path / "number").exists() or not (tmp_path / "number").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        shell = int((tmp_path / "number").read_text())
        while not (inner := children(shell)):
            assert time.monotonic() < deadline
        process.kill()
        while any(map(is_alive, [shell, *inner])):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def children(number: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(number)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


@pytest.fixture
def killed() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_the_draft_of_a_killed_writer_goes_with_the_next_write_of_the_same_file(killed: int, tmp_path: Path) -> None:
    left = [f".out.json.{killed}.draft", f".out.json.{killed}.export.draft"]
    others = [
        f".out.json.{os.getppid()}.draft",
        f".other.json.{killed}.draft",
        f".out.json.notes.{killed}",
        "out.draft",
    ]
    for name in left + others:
        (tmp_path / name).touch()
    with atomic_write(tmp_path / "out.json") as file:
        file.write(b"complete")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "out.json"])


@pytest.mark.parametrize("kind", ["link", "dangling link", "second name", "pipe", "folder"])
def test_what_stands_under_the_name_of_a_draft_is_not_written_through(kind: str, tmp_path: Path) -> None:
    mine, draft = tmp_path / "mine.txt", draft_of(tmp_path / "out.json")
    mine.write_text("mine")
    if kind.endswith("link"):
        draft.symlink_to(mine if kind == "link" else tmp_path / "new.txt")
    elif kind == "second name":
        draft.hardlink_to(mine)
    elif kind == "pipe":
        os.mkfifo(draft)
    else:
        draft.mkdir()
    refused = pytest.raises(WorkError, match=r"draft is a link, or not a plain file, .*; remove it")
    with refused, atomic_write(tmp_path / "out.json") as file:
        file.write(b"complete")
    assert mine.read_text() == "mine"
    assert not (tmp_path / "out.json").exists()
    assert not (tmp_path / "new.txt").exists()
    assert os.path.lexists(draft)


def test_the_draft_of_a_writer_elsewhere_stays_while_it_writes(killed: int, tmp_path: Path) -> None:
    """Its number may be nobody's on this machine; its lock shows that it lives."""
    locked = tmp_path / f".out.json.{killed}.draft"
    code = "import fcntl, sys; file = open(sys.argv[1], 'wb'); fcntl.flock(file, fcntl.LOCK_EX); print(); input()"
    writer = subprocess.Popen([sys.executable, "-c", code, locked], stdin=-1, stdout=-1)
    assert writer.stdout is not None
    writer.stdout.readline()
    with atomic_write(tmp_path / "out.json") as file:
        file.write(b"complete")
    assert locked.exists()
    writer.communicate(b"\n")
    with atomic_write(tmp_path / "out.json") as file:
        file.write(b"again")
    assert not locked.exists()


@pytest.mark.parametrize("ranks", [("0", "2", True), ("1", "2", False), ("1", "1", True)])
def test_of_several_ranks_the_first_says_that_they_were_stopped(ranks: tuple[str, str, bool]) -> None:
    rank, world, speaks = ranks
    process = start("work", before=f"import os; os.environ |= dict(RANK='{rank}', WORLD_SIZE='{world}')")
    until_begun(process)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (143, f"vprep: {UNFINISHED}\n" if speaks else "")
