"""Show progress on stderr: a bar on a terminal, plain lines in a log."""

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
    """Counts the videos that are done and those that failed, and shows both."""

    def __init__(self, total: int, done: int = 0) -> None:
        self.total, self.done, self.first = total, done, done
        self.failures: Counter[str] = Counter()
        self._began = self._printed = time.monotonic()
        self._bar: Bar | None = None
        if sys.stderr.isatty():
            text = TextColumn("{task.fields[text]}")
            self._bar = Bar(
                BarColumn(), MofNCompleteColumn(), text, TimeRemainingColumn(), console=Console(stderr=True)
            )
            self._task = self._bar.add_task("", total=total, completed=done, text="")

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
            self._print()

    def video(self, cause: str | None) -> None:
        """Count one more video; `cause` says why it failed, if it did."""
        self.done += 1
        if cause:
            self.failures[cause] += 1
        if self._bar:
            self._bar.update(self._task, completed=self.done, text=self._text())
        elif time.monotonic() - self._printed > EVERY:
            self._print()

    def _print(self) -> None:
        self._printed = time.monotonic()
        left = (self.total - self.done) / self._rate() if self._rate() else 0
        line = f"{self.done}/{self.total} videos, {self._text()}, {_clock(left)} left"
        print(line, file=sys.stderr, flush=True)

    def _text(self) -> str:
        failed = sum(self.failures.values())
        return f"{self._rate():.1f} videos/s, {failed} failed"

    def _rate(self) -> float:
        return (self.done - self.first) / max(time.monotonic() - self._began, 1e-9)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
