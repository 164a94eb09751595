"""ffmpeg as a child process: found, asked for its version, run with a deadline."""

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
        f"imageio-ffmpeg has no ffmpeg for this kind of machine; install one (6.0 or later) and name it in {VARIABLE}"
    )


def run(argv: Sequence[str], *, timeout: float, stop: threading.Event | None = None) -> Outcome:
    """Run `argv`; at the deadline, or soon after `stop` is set, it is killed.

    Its own process group keeps a Ctrl-C at the terminal away from it: whether it dies is decided here.
    """
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
    )
    output: list[bytes] = []
    words = _Words()
    timed_out = False
    try:
        for is_output, piece in _pieces(process, time.monotonic() + timeout, stop):
            if is_output:
                output.append(piece)
            else:
                words.add(piece)
    except TimeoutError:
        timed_out = True
    finally:
        if process.poll() is None and (timed_out or (stop is not None and stop.is_set())):
            os.killpg(process.pid, signal.SIGKILL)  # with whatever a wrapper around ffmpeg has started
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        code = process.wait()
    return Outcome(b"".join(output), words.text(), code, timed_out)


def _pieces(
    process: subprocess.Popen[bytes], deadline: float, stop: threading.Event | None
) -> Iterator[tuple[bool, bytes]]:
    """What comes out of both pipes, as it comes, until both are closed."""
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, pipe is process.stdout)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if stop is not None and stop.is_set():
                return
            for ready, _ in selector.select(min(left, 0.5)):
                piece = os.read(ready.fd, 1 << 20)
                if piece:
                    yield ready.data, piece
                else:
                    selector.unregister(ready.fileobj)


class _Words:
    """The beginning and the end of a long text."""

    def __init__(self) -> None:
        self.head = bytearray()
        self.tail = bytearray()

    def add(self, piece: bytes) -> None:
        room = HEAD - len(self.head)
        self.head += piece[:room]
        self.tail += piece[room:] if room > 0 else piece
        if len(self.tail) > 16 * TAIL:
            del self.tail[:-TAIL]

    def text(self) -> str:
        return (self.head + self.tail[-TAIL:]).decode("utf-8", "replace")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return "it does not answer"
