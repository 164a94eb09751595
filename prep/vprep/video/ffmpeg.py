"""ffmpeg as a child process: found, asked for its version, run with a deadline."""

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

from vprep.errors import UsageError

VARIABLE = "VPREP_FFMPEG"
HEAD, TAIL = 4 << 20, 64 << 10  # bytes kept of what ffmpeg says; a broken file can make it say gigabytes


@dataclass(frozen=True, slots=True)
class Ffmpeg:
    """A working ffmpeg; `version` is what it says of itself after `ffmpeg version`."""

    path: str
    version: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of ffmpeg left."""

    output: bytes
    words: str
    code: int
    timed_out: bool


@cache
def find() -> Ffmpeg:
    """The ffmpeg named by VPREP_FFMPEG, else the static one that came with the installation."""
    named = os.environ.get(VARIABLE)
    path = named or bundled()
    origin = f"{VARIABLE}={named}" if named else path
    try:
        said = subprocess.run([path, "-version"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{origin} cannot be run ({_reason(error)}); name a working ffmpeg in {VARIABLE}") from None
    first = said.stdout.decode("utf-8", "replace").split("\n")[0].split()
    if said.returncode != 0 or first[:2] != ["ffmpeg", "version"] or len(first) < 3:
        raise UsageError(f"{origin} is no ffmpeg: it does not tell its version; name another in {VARIABLE}")
    return Ffmpeg(path, first[2])


def bundled() -> str:
    """The static ffmpeg of imageio-ffmpeg; never one that happens to be on PATH."""
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
    """Run `argv`; at the deadline, or soon after `stop` is set, it is killed.

    Its own process group keeps a Ctrl-C at the terminal away from it: whether it dies is decided here. What it
    makes goes to a file in memory: with a pipe both sides would wake each other for every 64 kB.
    """
    with _in_memory() as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            process_group=0,
            env=os.environ | (env or {}),
        )
        words, deadline = _Words(), time.monotonic() + timeout
        timed_out = not _listen(process, words, deadline, stop)
        try:
            code = process.wait(max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:  # it has closed its stderr and goes on
            os.killpg(process.pid, signal.SIGKILL)
            code, timed_out = process.wait(), True
        return Outcome(os.pread(output.fileno(), output.seek(0, os.SEEK_END), 0), words.text(), code, timed_out)


def _in_memory() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("frames"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _listen(process: subprocess.Popen[bytes], words: "_Words", deadline: float, stop: threading.Event | None) -> bool:
    """Hear the process out. False when the time was over; then, and when `stop` is set, it is killed."""
    in_time = True
    with process.stderr as pipe, selectors.DefaultSelector() as selector:  # type: ignore[union-attr]
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            in_time = left > 0
            if not in_time or (stop is not None and stop.is_set()):
                os.killpg(process.pid, signal.SIGKILL)  # with whatever a wrapper around ffmpeg has started
                return in_time
            if selector.select(min(left, 0.5)):
                piece = os.read(pipe.fileno(), 1 << 16)
                if not piece:
                    return in_time
                words.add(piece)


class _Words:
    """The beginning and the end of a long text."""

    def __init__(self) -> None:
        self.head = bytearray()
        self.tail = bytearray()

    def add(self, piece: bytes) -> None:
        room = HEAD - len(self.head)
        self.head += piece[:room]
        self.tail += piece[room:]
        if len(self.tail) > 16 * TAIL:
            del self.tail[:-TAIL]

    def text(self) -> str:
        return (self.head + self.tail[-TAIL:]).decode("utf-8", "replace")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return "it does not answer"
