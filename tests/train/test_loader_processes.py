"""The processes of a loader: they end with it, and what they set is set back."""

import gc
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from vtrain.data import OneClip, open_shards

PROGRAM = """
import sys, time
from vtrain.data import open_shards, OneClip
print("ready", flush=True)
for number, batch in enumerate(open_shards(sys.argv[1], OneClip(), batch=4, workers=2)):
    print(number, flush=True)
    time.sleep(0.01)
"""


def start(folder: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a process that loads without end; return it with the ids of its workers."""
    words = [sys.executable, "-c", PROGRAM, str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    lines = iter(process.stdout)
    assert next(line for line in lines if line == "3\n")
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    return process, [int(word) for word in found.stdout.split()]


def gone(pids: list[int]) -> bool:
    for _ in range(200):
        if not any(Path(f"/proc/{pid}").exists() and "zombie" not in state(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "zombie"


def test_a_killed_worker_is_a_clear_error(shards: Path) -> None:
    process, workers = start(shards)
    os.kill(workers[0], signal.SIGKILL)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 1
    last = words.strip().splitlines()[-1]
    assert last.startswith("vtrain.data.workers.WorkerKilledError: a worker of the loader was killed (")
    assert last.endswith("most often memory was short: take fewer workers")
    assert gone(workers)


@pytest.mark.slow
def test_workers_end_when_the_main_process_is_killed(shards: Path) -> None:
    process, workers = start(shards)
    assert len(workers) == 2
    process.kill()
    process.communicate(timeout=60)
    assert gone(workers)


def test_ctrl_c_ends_all_processes_and_workers_print_nothing(shards: Path) -> None:
    process, workers = start(shards)
    os.killpg(process.pid, signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert words.count("Traceback") == 1  # KeyboardInterrupt in the main process
    assert "Process " not in words
    assert gone(workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_leaves_no_file_and_no_process_open(shards: Path, workers: int) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    def children() -> int:
        return len(subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout.split())

    before, processes = 0, 0
    for round in range(4):
        list(islice(open_shards(shards, OneClip(), batch=4, workers=workers), 2))
        gc.collect()
        if round == 0:
            before, processes = open_files(), children()
    assert open_files() <= before
    assert children() <= processes


STATE = """
import signal, sys
import cv2, torch
from vtrain.data import Loader, OneClip, ShardSet

def state():
    signals = [signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM)]
    return signals, cv2.getNumThreads(), torch.get_num_threads()

def check(when):
    assert state() == before, (when, before, state())

videos = ShardSet.open(sys.argv[1]).select()
if sys.argv[2] == "own":
    signal.signal(signal.SIGCHLD, lambda *_: None)
cv2.setNumThreads(3)
before = state()
if sys.argv[2] != "error":
    for number, batch in enumerate(Loader(videos, OneClip(), batch=4, workers=2)):
        check("in use")
        if number == 3:
            break
    check("left early")
    list(Loader(videos, OneClip(), batch=4, workers=2, epochs=1, position=len(videos)))
    check("nothing to do")
    list(Loader(videos, OneClip(), batch=4, workers=0, epochs=1))
    check("no workers")
else:
    try:
        list(Loader(videos, OneClip(frames=30, short="error"), batch=4, workers=1))
    except Exception as error:
        print(type(error).__name__)
    check("an error in the first batch")
print("same")
"""


@pytest.mark.parametrize(("case", "output"), [("own", "same"), ("default", "same"), ("error", "WorkError same")])
def test_a_loader_leaves_signal_handlers_and_threads_as_they_were(shards: Path, case: str, output: str) -> None:
    """In a process of its own: torch sets its handler of SIGCHLD once in a process."""
    words = [sys.executable, "-W", "ignore", "-c", STATE, str(shards), case]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == output.split()
