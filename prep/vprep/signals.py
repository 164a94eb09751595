"""End a command in order when it is stopped: by SIGINT (Ctrl-C), SIGTERM or SIGHUP (a closed terminal), all alike.

The first signal raises `Stop` in the main thread, so that drafts, locks and child processes go, and the command says
one sentence and ends with 128 + the signal's number. Work that can save its state asks for `deferred`. SIGHUP stays
ignored where it was ignored at the start, as under nohup.
"""

import _thread
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TWICE = 0.2  # seconds in which the same wish may come again: from `timeout`, a terminal and a launcher, for example
PR_SET_PDEATHSIG = 1  # of Linux's prctl
GRACE = 10.0  # seconds that a stopped command may take to end in order
_stopping = False  # since a signal has raised `Stop`
UNFINISHED = "stopped before it was done; no half-written file is left: run the same command again"

Handler = Callable[[int, FrameType | None], object] | int | None


class Stop(BaseException):
    """A signal has asked the command to end. `sentence` says what stands and how to go on."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number, self.sentence = number, ""


class Ending:
    """The handler of a command: raises `Stop`, or ends the process at once while modules are being imported.

    It ends at once at a second Ctrl-C, too, and where the command has not ended in order within GRACE.
    """

    def __init__(self, program: str, *, at_once: bool = False) -> None:
        self._program, self._at_once = program, at_once
        self._process, self._began = os.getpid(), 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a child that was forked just now; its parent ends it
        if number == signal.SIGHUP:
            leave_terminal()
        now = time.monotonic()
        if self._began:
            if number == signal.SIGINT and now - self._began > TWICE:
                self.end(number)
            return
        self._began = now
        _note_stopping(True)
        if self._at_once or _importing(frame):  # an import that is broken off may crash at the end of the process
            self.end(number)
        _thread.start_new_thread(self._end_late, (number,))
        raise Stop(number)

    def lost(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Raise again a `Stop` that came in a destructor, where Python only prints it."""
        if isinstance(unraisable.exc_value, Stop):
            self._began = 0.0
            _thread.start_new_thread(_send_again, (unraisable.exc_value.number,))
        else:
            sys.__unraisablehook__(unraisable)

    @property
    def is_ending(self) -> bool:
        return self._began > 0

    def _end_late(self, number: int) -> None:
        """End the process where `Stop` got lost, in a library for example, or where something hangs."""
        time.sleep(GRACE)
        self.end(number)

    def end(self, number: int) -> None:
        """End the process at once, with a sentence."""
        with contextlib.suppress(OSError):
            os.write(2, f"{self._program}: {UNFINISHED}\n".encode() if speaks() else b"")
        os._exit(128 + number)


def is_stopping() -> bool:
    """Return whether a signal is ending this command, for threads that wait."""
    return _stopping


def _note_stopping(is_so: bool) -> None:
    global _stopping
    _stopping = is_so


def speaks() -> bool:
    """Return whether this process says that it was stopped: of the ranks that one launcher starts, only the first."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


def end_at_once(program: str) -> None:
    """Until the command begins, let a signal end the process with a sentence."""
    _install(Ending(program, at_once=True))


@contextlib.contextmanager
def handled(program: str) -> Iterator[None]:
    """Raise `Stop` in this block when a signal comes. After the last command of a process, signals are ignored."""
    _note_stopping(False)
    ending = Ending(program)
    before, hook = _install(ending), sys.unraisablehook
    sys.unraisablehook = ending.lost
    try:
        yield
    finally:
        sys.unraisablehook = hook
        is_last = any(isinstance(handler, Ending) for handler in before.values())
        _restore(dict.fromkeys(before, signal.SIG_IGN) if is_last else before)


@contextlib.contextmanager
def deferred() -> Iterator[list[int]]:
    """Yield a list to which signals add their numbers, instead of ending the block. A second Ctrl-C raises `Stop`."""
    asked: list[int] = []
    process, began = os.getpid(), 0.0

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal began
        if os.getpid() != process:
            return  # a worker that was forked just now
        if number == signal.SIGHUP:
            leave_terminal()
        if asked and number == signal.SIGINT and time.monotonic() - began > TWICE:
            raise Stop(number)
        began = began or time.monotonic()
        asked.append(number)

    before = _install(ask)
    try:
        yield asked
    finally:
        _restore(before)


@contextlib.contextmanager
def heard_while_waiting() -> Iterator[None]:
    """Let a signal end the command also while the main thread waits outside of Python, which calls no handler there."""
    handler = signal.getsignal(signal.SIGTERM)
    if not isinstance(handler, Ending) or _thread.get_ident() != _main_thread():
        yield
        return
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    before = signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
    _thread.start_new_thread(_end_when_heard, (source, handler))
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(sink)


def _end_when_heard(source: int, handler: Ending) -> None:
    """Read the numbers of signals; a second after one, end the process if the main thread has not."""
    with open(source, "rb", buffering=0) as numbers:
        while number := numbers.read(1):
            if number[0] in SIGNALS:
                time.sleep(1.0)
                if not handler.is_ending:
                    handler.end(number[0])


@contextlib.contextmanager
def explained(sentence: Callable[[], str]) -> Iterator[None]:
    """Let a `Stop` in this block say `sentence`, unless an inner block has said another."""
    try:
        yield
    except Stop as stop:
        stop.sentence = stop.sentence or sentence()
        raise


def when_parent_ends() -> Callable[[signal.Signals], object]:
    """Return a function by which a process asks for a signal at the end of the thread that has started it.

    It does nothing on systems without prctl. A process that is about to fork gets it before, since the forked process
    must not wait for the loader of libraries, which another thread may hold.
    """
    import ctypes

    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return lambda number: prctl and prctl(PR_SET_PDEATHSIG, int(number))


def leave_terminal() -> None:
    """Discard further output if the terminal is gone, because each write to it would fail."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _install(handler: Handler) -> dict[signal.Signals, Handler]:
    """Set the handler of all signals and return those before it; change nothing outside of the main thread."""
    if _thread.get_ident() != _main_thread():
        return {}
    numbers = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in numbers}


def _main_thread() -> int | None:
    threading = sys.modules.get("threading")
    return _thread.get_ident() if threading is None else threading.main_thread().ident


def _send_again(number: int) -> None:
    time.sleep(0.1)
    os.kill(os.getpid(), number)


def _restore(before: dict[signal.Signals, Handler]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


def _importing(frame: FrameType | None) -> bool:
    """Return whether the interrupted code is part of an import."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
