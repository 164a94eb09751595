"""End every ffmpeg of this process when it is killed, at whatever moment.

The system's own way, a signal when the parent ends, can only be asked for between fork and exec, where Python code is
not safe beside threads. So a small process waits for the end of a pipe whose only writer is this process. Each ffmpeg
inherits the other end of the pipe, by which it is found, also if this process was killed while it forked.
"""

import contextlib
import os
import sys
import threading
from functools import cache
from pathlib import Path

_KEEPER = """
import os, signal
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
pipe = os.readlink("/proc/self/fd/0")

def holds(number):
    try:
        folder = f"/proc/{number}/fd"
        return any(os.readlink(f"{folder}/{name}") == pipe for name in os.listdir(folder))
    except OSError:
        return False

os.read(0, 1)
left = True
while left:
    left = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid() and holds(name)]
    for number in left:
        try:
            os.kill(number, signal.SIGKILL)
        except OSError:
            pass
"""
_starting = threading.Lock()


def inherited() -> tuple[int, ...]:
    """Return the descriptors that an ffmpeg must inherit to end with this process; none on systems without /proc."""
    with _starting:  # a cache alone would let two threads start two keepers
        return _started()


@cache
def _started() -> tuple[int, ...]:
    if not Path("/proc/self/fd").is_dir() or not sys.executable:
        return ()
    end, _ = os.pipe()  # the other end stays open until this process ends
    null = os.open(os.devnull, os.O_RDWR)
    descriptors = [(os.POSIX_SPAWN_DUP2, end, 0), *((os.POSIX_SPAWN_DUP2, null, number) for number in (1, 2))]
    with contextlib.suppress(OSError):
        argv = [sys.executable, "-I", "-S", "-c", _KEEPER]
        os.posix_spawn(sys.executable, argv, os.environ, file_actions=descriptors, setsid=True)
    os.close(null)
    return (end,)
