"""Progress on stderr: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

EVERY = 10.0  # seconds between lines


class Progress:
    """Counts videos done and failed, and says so."""

    def __init__(self, total: int, done: int = 0) -> None:
        self.total, self.done, self.first = total, done, done
        self.failures: Counter[str] = Counter()
        self._began = self._said = time.monotonic()
        self._bar: Bar | None = None
        if sys.stderr.isatty():
            words = TextColumn("{task.fields[words]}")
            self._bar = Bar(
                BarColumn(), MofNCompleteColumn(), words, TimeRemainingColumn(), console=Console(stderr=True)
            )
            self._task = self._bar.add_task("", total=total, completed=done, words="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif self.done > self.first:
            self._say()

    def video(self, cause: str | None) -> None:
        """One more video is done; `cause` when it failed."""
        self.done += 1
        if cause:
            self.failures[cause] += 1
        if self._bar:
            self._bar.update(self._task, completed=self.done, words=self._words())
        elif time.monotonic() - self._said > EVERY:
            self._say()

    def _say(self) -> None:
        self._said = time.monotonic()
        left = (self.total - self.done) / self._rate() if self._rate() else 0
        line = f"{self.done}/{self.total} videos, {self._words()}, {_clock(left)} left"
        print(line, file=sys.stderr, flush=True)

    def _words(self) -> str:
        failed = sum(self.failures.values())
        return f"{self._rate():.1f} videos/s, {failed} failed"

    def _rate(self) -> float:
        return (self.done - self.first) / max(time.monotonic() - self._began, 1e-9)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
