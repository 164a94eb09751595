"""Run commands on a terminal of a chosen width."""

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from commands import Done, begin

from veval import cli

BAR = "━"


def on_terminal(*words: object, cwd: Path, columns: int, main: Callable[[list[str]], None] = cli.main) -> Done:
    """Run `veval WORDS` on a terminal; stdout is all that it showed, without the codes of the terminal.

    `main` may be that of another program.
    """
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    said = bytearray()
    reading = Thread(target=_read, args=(leader, said))
    reading.start()
    with TemporaryDirectory() as name:
        for stream in ("stdout", "stderr"):
            (Path(name) / stream).symlink_to(os.ttyname(follower))
        process = begin(*words, cwd=cwd, env={"TERM": "xterm"}, printed=Path(name), main=main)
        process.join()
    os.close(follower)
    reading.join()
    os.close(leader)
    assert process.exitcode is not None
    return Done(process.exitcode, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode()), "")


def _read(leader: int, said: bytearray) -> None:
    try:
        while piece := os.read(leader, 4096):
            said += piece
    except OSError:  # Linux raises this when the other side of a terminal is closed
        return
