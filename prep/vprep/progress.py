"""Progress on stderr: a bar on a terminal, a line every few seconds in a log."""

import contextlib
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from vprep.quiet import is_quiet

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

Item = TypeVar("Item")
BAR = 20  # characters
EVERY = 10.0  # seconds between lines


class Progress:
    """Counts the finished items of the work, and shows them if `visible`."""

    def __init__(self, total: int, done: int = 0, *, visible: bool = True) -> None:
        self.total, self.done, self.first = total, done, done
        visible = visible and not is_quiet()
        self._visible = visible
        self._began = time.monotonic()
        self._printed = self._began
        self._bar: Bar | None = None
        if visible and sys.stderr.isatty():
            self._bar = _bar()
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

    def move(self, done: int) -> None:
        """Move the bar, if there is one."""
        self.done = done
        if self._bar:
            self._bar.update(self._task, completed=done)

    def show(self, count: str, text: str, *, now: bool = False) -> None:
        """Put `text` beside the bar; in a log print `count` and `text` when the last line is old enough, or `now`.

        Beside the bar the time that is left comes first, because a narrow terminal shows only the beginning.
        """
        left = f"{clock(self.seconds_left)} left"
        if self._bar:
            self._bar.update(self._task, text=f"{left}, {text}")
        elif self._visible and (now or time.monotonic() - self._printed > EVERY):
            self._printed = time.monotonic()
            print(f"{count}, {text}, {left}", file=sys.stderr, flush=True)

    @property
    def per_second(self) -> float:
        return (self.done - self.first) / max(time.monotonic() - self._began, 1e-9)

    @property
    def seconds_left(self) -> float:
        return (self.total - self.done) / self.per_second if self.per_second else 0.0


def tracked(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield items of the work as they are finished, and show how many there are; `what` names them, as in videos."""
    with Progress(total) as progress, contextlib.ExitStack() as stack:
        if isinstance(items, Generator):
            stack.enter_context(contextlib.closing(items))  # also when the one who takes the items stops
        for number, item in enumerate(items, 1):
            progress.move(number)
            progress.show(f"{number}/{total} {what}", f"{progress.per_second:.1f} {what}/s")
            yield item


def _bar() -> "Bar":
    from rich.console import Console  # here, because it takes longer to import than a small set to verify
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # of the line: bar and count are never cut
    text = TextColumn("{task.fields[text]}", markup=False, table_column=rest)
    return Bar(BarColumn(BAR), MofNCompleteColumn(), text, console=Console(stderr=True), expand=True)


def clock(seconds: float) -> str:
    """Return a duration as M:SS or H:MM:SS."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
