"""Follow a run: send each line of its metrics once, until the run ends.

The journal says what was sent. A service that can say which step it has is believed; with one that cannot, lines that
were on their way when a follower was killed are not sent again, and the follower says which.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from vprep import signals
from vprep.errors import StoppedError, UsageError, WorkError
from vprep.printing import note
from vtrain import run_folder
from vtrain.follow.journal import Journal, journal_path
from vtrain.follow.sink import FollowedRun, Sink, SinkError, config_of, numbers_of
from vtrain.follow.tail import Tail, is_training

AT_ONCE = 200  # lines between two notes in the journal
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds before each further try
Value = TypeVar("Value")


@dataclass(slots=True, kw_only=True)
class Follower:
    """A run that is followed to a service."""

    service: str
    sink: Sink
    run: FollowedRun
    journal: Journal
    waits: tuple[float, ...] = WAITS
    asked: list[int] = field(default_factory=list)  # signals that ask it to stop
    sent: int = 0  # lines, by this process

    def begin(self) -> None:
        """Open the run at the service, and find out what it has."""
        known = self._retried(lambda: self.sink.open(self.run))
        journal = self.journal
        if known is not None:
            journal.sent = known
        elif journal.sending > journal.sent:
            note(
                f"warning: a follower was killed while it sent the steps {journal.sent + 1} to {journal.sending}; "
                f"{self.service} cannot say which of them it has, so some may be missing there: none is sent again"
            )
            journal.sent = journal.sending

    def send(self, lines: Iterator[dict[str, Any]]) -> None:
        """Send the lines that were not sent."""
        new = (line for line in lines if line["step"] > self.journal.sent)
        while batch := list(islice(new, AT_ONCE)):
            self.journal.begin(max(line["step"] for line in batch))
            try:
                for line in batch:
                    self._line(line)
            finally:
                self.journal.done(self.journal.sent)

    def _line(self, line: dict[str, Any]) -> None:
        self.stop_if_asked()
        step, numbers = line["step"], numbers_of(line)
        if step > self.journal.sent:
            self.sent += bool(numbers) and self._retried(lambda: self.sink.send(step, numbers))
            self.journal.sent = step

    def close(self, *, finished: bool) -> None:
        """Let the service write what it still holds."""
        self._retried(lambda: self.sink.close(finished=finished))

    def pause(self, seconds: float) -> None:
        """Wait, and stop if a signal asks for it."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.stop_if_asked()
            time.sleep(min(0.2, left))

    def stop_if_asked(self) -> None:
        if self.asked:
            said = f"stopped; {self.sent} lines were sent: run the same command again to go on"
            raise StoppedError(said, self.asked[0])

    def _retried(self, call: Callable[[], Value]) -> Value:
        """Return what `call` returns; where the service fails for a while, try again."""
        for seconds in (*self.waits, None):
            try:
                return call()
            except SinkError as error:
                if seconds is None or not error.passing:
                    raise self._given_up(error) from None
                note(f"{error}; next try in {seconds:g} s")
                self.pause(seconds)
        raise AssertionError("the last try returns or raises")

    def _given_up(self, error: SinkError) -> WorkError:
        tries = f"after {len(self.waits) + 1} tries " if error.passing else ""
        return WorkError(f"{error}; {tries}{self.sent} lines were sent: run the same command again to go on")


def follow(
    folder: Path, service: str, sink: Sink, *, project: str, name: str, once: bool, every: float,
    waits: tuple[float, ...] = WAITS,
) -> dict[str, Any]:  # fmt: skip
    """Send the metrics of a run to `sink` until it ends, or with `once` those that are there; return what was sent."""
    refuse_no_run(folder)
    tail = Tail(folder / run_folder.METRICS)
    with Journal(journal_path(folder, service)) as journal, signals.deferred() as asked:
        run = FollowedRun(
            identifier=journal.identifier,
            name=name or folder.resolve().name,
            project=project,
            config=config_of(folder),
            is_new=journal.is_new,
        )
        follower = Follower(service=service, sink=sink, run=run, journal=journal, waits=waits, asked=asked)
        follower.begin()
        try:
            finished = _until_the_end(folder, tail, follower, once=once, every=every)
        except BaseException:
            with suppress(SinkError):
                sink.close(finished=False)
            raise
        follower.close(finished=finished)
        return {
            "run": str(folder), "to": service, "project": project, "name": run.name, "id": run.identifier,
            "sent": follower.sent, "step": max(0, journal.sent), "damaged": tail.damaged, "finished": finished,
        }  # fmt: skip


def refuse_no_run(folder: Path) -> None:
    """Refuse a folder that holds no run."""
    if not (folder / run_folder.RECIPE).is_file() and not (folder / run_folder.METRICS).is_file():
        what = "is no run" if folder.is_dir() else "is not there"
        raise UsageError(f"{folder} {what}; name the folder of a run, such as runs/NAME")


def as_line(info: dict[str, Any]) -> str:
    """Return what was done as a sentence."""
    damaged = f", {info['damaged']} damaged left out" if info["damaged"] else ""
    end = "the run has ended" if info["finished"] else "run it again for those to come"
    lines = "line" if info["sent"] == 1 else "lines"
    return (
        f"{info['run']}: {info['sent']} {lines} sent to {info['to']} (project {info['project']}, run {info['name']}), "
        f"up to step {info['step']}{damaged}; {end}"
    )


def _until_the_end(folder: Path, tail: Tail, follower: Follower, *, once: bool, every: float) -> bool:
    """Send new lines as they come; return whether the run has ended."""
    is_first = True
    while True:
        is_going_on = is_training(folder)  # asked before the lines are read, so that none of the last is missed
        follower.send(tail.lines())
        if not is_going_on or once:
            return not is_going_on
        if is_first:
            note(f"{follower.sent} lines sent to {follower.service}; following until the run ends, or until Ctrl-C")
            is_first = False
        follower.pause(every)
