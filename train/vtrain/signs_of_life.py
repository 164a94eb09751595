"""End this process with one sentence when another one of the same command is lost, fails or hangs.

torch's own exchange notices a process that was killed on CPUs only, and one that hangs after half an hour at the
earliest. So each process gives signs of life through the store that all of them share, and looks for those of the next
rank. Who finds it silent, or fails, leaves a sentence in the store, by which all others end.

Two threads do this, so that it works while the main thread waits for a GPU, for a network or for a file.
"""

import contextlib
import faulthandler
import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Protocol, Self

from vprep.errors import UsageError

VARIABLE = "VTRAIN_LOST_AFTER"  # seconds without a sign of life after which a process counts as lost
LOST_AFTER = 300.0
TOLD = "told"  # the key of the sentence by which all end
GRACE = 2.0  # seconds in which the main thread may end by itself, and in order
ENDING = 20.0  # seconds that it may take when it is ending already


class Store(Protocol):
    """Texts by key that all processes share; torch's has these methods. An error of the network is a RuntimeError."""

    def set(self, key: str, value: str, /) -> None: ...
    def get(self, key: str, /) -> bytes: ...
    def multi_get(self, keys: list[str], /) -> list[bytes]: ...
    def check(self, keys: list[str], /) -> bool: ...
    def compare_set(self, key: str, expected: str, value: str, /) -> bytes: ...
    def clone(self) -> Self: ...


class Watch:
    """Watches the other processes until `leave`. `lost` says that a rank has been silent for some seconds."""

    def __init__(
        self, store: Store, rank: int, world: int, *, lost_after: float, lost: Callable[[int], str],
        no_store: str, program: str,
    ) -> None:  # fmt: skip
        self.told = ""  # the sentence by which all end
        self._store, self._rank, self._next = store, rank, (rank + 1) % world
        self._lost_after, self._lost, self._no_store, self._program = lost_after, lost, no_store, program
        self._pause = min(1.0, lost_after / 10)  # between two signs
        self._grace = min(GRACE, lost_after)
        self._left = Event()
        self._ending = ""
        self._nowhere = Path(os.devnull).open("w")  # noqa: SIM115  until `leave`
        self._unanswered = 0.0  # seconds since the store has answered
        self._is_broken = False  # the connection with the store
        self._threads = [Thread(target=work, daemon=True) for work in (self._give_signs, self._judge)]
        for thread in self._threads:
            thread.start()

    def main_thread_ends(self, sentence: str) -> None:
        """Note that the main thread is ending with an error, which may hang, too, before it can say so."""
        self._ending = sentence
        # Should torch hang with Python's lock, no thread here could end the process.
        faulthandler.dump_traceback_later(2 * ENDING, exit=True, file=self._nowhere)

    def leave(self) -> None:
        """Watch no longer."""
        self._left.set()
        if self._ending:
            faulthandler.cancel_dump_traceback_later()
        self._nowhere.close()
        for thread in self._threads:
            thread.join(self._grace)

    def _give_signs(self) -> None:
        count, sign, silent = 0, b"", 0.0
        clock = _Awake(self._pause)
        try:
            while not self._left.wait(self._pause):
                count += 1
                self._store.set(f"alive/{self._rank}", str(count))
                self._listen()
                found = self._sign_of_next()
                silent = 0.0 if found != sign else silent + clock.passed()
                sign = found
                if silent > self._lost_after and not self.told:
                    self._store.compare_set(TOLD, "", self._lost(self._next))
                self._unanswered = 0.0
        except RuntimeError:
            self._is_broken = True

    def _listen(self) -> None:
        if not self.told and self._store.check([TOLD]):
            self.told = self._store.get(TOLD).decode()
            self._store.set(f"heard/{self._rank}", "")

    def _sign_of_next(self) -> bytes:
        key = f"alive/{self._next}"
        return self._store.get(key) if self._store.check([key]) else b""

    def _judge(self) -> None:
        """End the process when the sentence has been told, or the store is gone, and the main thread goes on."""
        clock, late = _Awake(self._pause), 0.0
        while not self._left.wait(self._pause):
            passed = clock.passed()
            self._unanswered += passed
            is_gone = self._is_broken or self._unanswered > self._lost_after
            late = late + passed if self.told or is_gone or self._ending else 0.0
            if late > (ENDING if self._ending else self._grace):
                self._end(self._ending or self.told or self._no_store)

    def _end(self, sentence: str) -> None:
        if not self._left.is_set():
            with contextlib.suppress(OSError):
                os.write(2, f"{self._program}: {sentence}\n".encode())
            os._exit(1)


def lost_after() -> float:
    """Return after how many seconds without a sign of life a process counts as lost."""
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text or LOST_AFTER)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86400:
        raise UsageError(f"{VARIABLE} is '{text}'; write a number of seconds from 1 to 86400")
    return seconds


class _Awake:
    """Counts the time in which this process ran: it may have been stopped itself, as by Ctrl-Z or a scheduler."""

    def __init__(self, pause: float) -> None:
        self._most = 2 * pause
        self._before = time.monotonic()

    def passed(self) -> float:
        """Return the seconds since the last call."""
        now = time.monotonic()
        passed, self._before = now - self._before, now
        return min(passed, self._most)
