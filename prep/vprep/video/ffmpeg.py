"""Find ffmpeg, check its version, and run it with a deadline."""

import os
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

import imageio_ffmpeg

from vprep.errors import UsageError, reason
from vprep.video.keeper import inherited

VARIABLE = "VPREP_FFMPEG"
HEAD, TAIL = 4 << 20, 64 << 10  # bytes kept of ffmpeg's log; a broken file can make it gigabytes long
STOPPED = 5.0  # seconds; a wait of half a second that takes longer was one of a stopped process


@dataclass(frozen=True, slots=True)
class Ffmpeg:
    """A working ffmpeg; `version` is the word after `ffmpeg version` in its output."""

    path: str
    version: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one run of ffmpeg; `log` is its stderr."""

    output: bytes
    log: str
    code: int
    timed_out: bool


@cache
def find() -> Ffmpeg:
    """Return the ffmpeg named by VPREP_FFMPEG, else the static ffmpeg that was installed with this package."""
    named = os.environ.get(VARIABLE)
    path = named or bundled()
    origin = f"{VARIABLE}={named}" if named else path
    try:
        answer = subprocess.run([path, "-version"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{origin} cannot be run ({_reason(error)}); name a working ffmpeg in {VARIABLE}") from None
    first = answer.stdout.decode("utf-8", "replace").split("\n")[0].split()
    if answer.returncode != 0 or first[:2] != ["ffmpeg", "version"] or len(first) < 3:
        raise UsageError(f"{origin} is no ffmpeg: it reports no version; name another in {VARIABLE}")
    return Ffmpeg(path, first[2])


def bundled() -> str:
    """Return the static ffmpeg of imageio-ffmpeg, never one on PATH."""
    folder = Path(imageio_ffmpeg.__file__).parent / "binaries"
    for path in sorted(folder.glob("ffmpeg*")):
        return str(path)
    raise UsageError(
        f"imageio-ffmpeg has no ffmpeg for this kind of machine; install one (5.1 or later) and name it in {VARIABLE}"
    )


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    stop: threading.Event | None = None,
    env: Mapping[str, str] | None = None,
) -> Outcome:
    """Run `argv` and return its result; kill it at the deadline, or soon after `stop` is set.

    It has a process group of its own, so that a Ctrl-C at the terminal does not reach it, and it ends when this
    process is killed. Its output goes to a file in memory: with a pipe, both sides would wake each other for every
    64 kB.
    """
    with _in_memory() as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            process_group=0,
            pass_fds=inherited(),
            env=os.environ | (env or {}),
        )
        log, deadline = _Log(), time.monotonic() + timeout
        timed_out = not _read_log(process, log, deadline, stop)
        try:
            code = process.wait(max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:  # it has closed its stderr and is still running
            os.killpg(process.pid, signal.SIGKILL)
            code, timed_out = process.wait(), True
        return Outcome(os.pread(output.fileno(), output.seek(0, os.SEEK_END), 0), log.text(), code, timed_out)


def _in_memory() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("frames"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _read_log(process: subprocess.Popen[bytes], log: "_Log", deadline: float, stop: threading.Event | None) -> bool:
    """Read stderr to its end and return whether it ended in time. At the deadline or at `stop`, kill the process.

    Time in which this process itself was stopped (Ctrl-Z, SIGSTOP) does not count.
    """
    in_time = True
    with process.stderr as pipe, selectors.DefaultSelector() as selector:  # type: ignore[union-attr]
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            left = deadline - now
            in_time = left > 0
            if not in_time or (stop is not None and stop.is_set()):
                os.killpg(process.pid, signal.SIGKILL)  # also what a wrapper around ffmpeg has started
                return in_time
            ready = selector.select(min(left, 0.5))
            slept = time.monotonic() - now
            deadline += slept if slept > STOPPED else 0.0
            if ready:
                piece = os.read(pipe.fileno(), 1 << 16)
                if not piece:
                    return in_time
                log.add(piece)


class _Log:
    """The beginning and the end of a log of any length."""

    def __init__(self) -> None:
        self.head = bytearray()
        self.tail = bytearray()

    def add(self, piece: bytes) -> None:
        left = HEAD - len(self.head)
        self.head += piece[:left]
        self.tail += piece[left:]
        if len(self.tail) > 16 * TAIL:
            del self.tail[:-TAIL]

    def text(self) -> str:
        return (self.head + self.tail[-TAIL:]).decode("utf-8", "replace")


def _reason(error: Exception) -> str:
    return reason(error) if isinstance(error, OSError) else "it does not answer"
