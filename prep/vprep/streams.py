"""The standard streams of a command: each is open, speaks UTF-8, and a lost one never stops the work.

stdout   carries the result; when it cannot be written, the command fails with a sentence
stderr   carries messages and progress; when it cannot be written, they are lost and the work goes on
"""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO, cast


class Messages:
    """A stderr that loses what cannot be written: a full disk under a log, or a closed terminal, stops no work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


@contextlib.contextmanager
def usable() -> Iterator[None]:
    """Open the streams that are closed, and make stderr a `Messages`, for this context."""
    _open_closed()
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8")
    before = sys.stderr
    _escape_unknown(sys.stdout)
    sys.stderr = cast(TextIO, Messages(before))
    try:
        yield
    finally:
        sys.stderr = before


def in_utf8(program: str) -> None:
    """Start the program anew in Python's UTF-8 mode where the locale cannot write every name, as in the locale C."""
    begun = Path(sys.argv[0])
    is_program = program in (begun.name, begun.parent.name)  # and not a test or another program that calls a command
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode or not is_program:
        return
    os.environ["PYTHONUTF8"] = "1"  # for the processes that it starts
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606  no shell is wanted


def flushed() -> OSError | None:
    """Write what stdout still holds; return the error when that fails, after which Python exits without another one."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


def lost(error: OSError) -> str:
    """Return the sentence for a result that could not be printed."""
    what = (
        "is closed" if error.errno == errno.EBADF else f"cannot be written ({(error.strerror or str(error)).lower()})"
    )
    return f"stdout {what}, so the result is not printed in full; the files that the command wrote are complete"


def _open_closed() -> None:
    """Open the descriptors 0 to 2 that are closed; else the next file, perhaps the user's, would become stdout."""
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):  # writing to this stdout fails
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)  # the lowest free number
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)


def _escape_unknown(stream: object) -> None:
    """Let a stream write what its encoding lacks, such as a name that is not UTF-8, as an escape."""
    if callable(reconfigure := getattr(stream, "reconfigure", None)):
        reconfigure(errors="backslashreplace")
