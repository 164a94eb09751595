"""The processes of a command on one node or several: who they are, what they tell each other, and how they end.

torchrun -> a store on the first node -> all have come -> the same inputs? -> the work -> all have finished

In a single process nothing of this happens, and torch is not imported.
"""

import contextlib
import importlib
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from vprep.errors import UsageError, WorkError
from vprep.json_text import parse_json
from vprep.signals import Stop, heard_while_waiting, when_parent_ends
from vprep.text import json_line
from vtrain.network_errors import AGAIN, is_of_network, said, sentence_of
from vtrain.signs_of_life import TOLD, Store, Watch, lost_after

STUCK = 6  # times as long, an exchange may wait for a process that lives but does not go on
POLL = 0.1  # seconds between two looks into the store
LINGER = 5.0  # seconds for which a process that fails waits until the others know

Words = Mapping[str, object]


class Meeting:
    """The processes that work together, seen from one of them. All must call `exchange` and `compare` equally often."""

    def __init__(self, store: Store, rank: int, world: int, program: str) -> None:
        self.rank, self.world = rank, world
        self.store = store
        self.lost_after = lost_after()
        self._count = 0  # exchanges so far
        self._linger = LINGER
        self._hosts = [socket.gethostname()] * world
        self._watch: Watch | None = None
        self._hosts = self._arrive()
        self._watch = Watch(
            store.clone(), rank, world, lost_after=self.lost_after, program=program, no_store=self._no_store(),
            lost=lambda other: f"{self.name_of(other)} has given no sign of life for {self.lost_after:g} s; {AGAIN}",
        )  # fmt: skip

    def name_of(self, rank: int) -> str:
        return f"rank {rank} on {self._hosts[rank]}"

    @property
    def stuck_after(self) -> timedelta:
        """How long an exchange of tensors may wait."""
        return timedelta(seconds=STUCK * self.lost_after)

    def exchange(self, text: str = "") -> list[str]:
        """Return the texts of all processes. This waits for all of them, however long they work before."""
        keys = self._put(text)
        while not self.store.check(keys):
            if self._watch is not None and self._watch.told:
                raise WorkError(self._watch.told)
            time.sleep(POLL)
        return [value.decode() for value in self.store.multi_get(keys)]

    def compare(self, words: Words, advice: str) -> None:
        """Refuse, in all processes, inputs in which one differs from the first one; `words` are named values."""
        texts = self.exchange(json_line(dict(words)))
        first = parse_json(texts[0])
        for rank, text in enumerate(texts):
            found = parse_json(text)
            for name in first:
                if found.get(name) != first[name]:
                    raise UsageError(
                        f"{name} differs between the processes: {_shown(first[name])} for {self.name_of(0)}, "
                        f"{_shown(found.get(name))} for {self.name_of(rank)}; {advice}"
                    )

    def tell(self, error: BaseException) -> None:
        """Let all others end, too, because this process ends with `error`. Only the first who tells is heard."""
        if self._watch is None or isinstance(error, GeneratorExit):
            return
        own, sentence = isinstance(error, LostError), sentence_of(error)
        self._watch.main_thread_ends(sentence)
        self._linger = POLL if own or isinstance(error, Stop) else LINGER
        with contextlib.suppress(RuntimeError):
            is_first = not self.store.check([TOLD])
            if is_first:
                told = sentence if own else f"{self.name_of(self.rank)} ended first: {sentence}"
                self.store.compare_set(TOLD, "", told)
            self.store.set(f"heard/{self.rank}", "")
            if is_first and self._linger == LINGER:
                self._wait_for("heard", LINGER)  # the store may end with this process

    def sentence_for(self, error: RuntimeError) -> str:
        """Return what to say about an error of the exchange: what another process has told, if it has."""
        with contextlib.suppress(RuntimeError):
            if self.store.check([TOLD]):
                return self.store.get(TOLD).decode()
        return f"another process is gone or cannot be reached ({said(error)}); {AGAIN}"

    def finish(self) -> None:
        """Wait until all have finished, so that nobody takes the end of another for a failure."""
        self.exchange("finished")

    def leave(self) -> None:
        """End the watch. The process that holds the store leaves last: the others would print torch's own errors."""
        with contextlib.suppress(RuntimeError):
            if self._holds_store:
                self._wait_for("left", self._linger)
            if self._watch is not None:
                self._watch.leave()
            self.store.set(f"left/{self.rank}", "")

    def _put(self, text: str) -> list[str]:
        self._count += 1
        keys = [f"{self._count}/{rank}" for rank in range(self.world)]
        self.store.set(keys[self.rank], text)
        return keys

    def _arrive(self) -> list[str]:
        """Return the hosts of all processes when all have come."""
        keys = self._put(socket.gethostname())
        until = time.monotonic() + self.lost_after
        while not self.store.check(keys):
            missing = [rank for rank, key in enumerate(keys) if not self.store.check([key])]
            if time.monotonic() > until and missing:
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise WorkError(not_together(self.lost_after, f"rank {missing[0]}{more} of {self.world} did not come"))
            time.sleep(POLL)
        return [value.decode() for value in self.store.multi_get(keys)]

    def _no_store(self) -> str:
        return f"{self.name_of(0)} cannot be reached any more; {AGAIN}"

    @property
    def _holds_store(self) -> bool:
        return self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"

    def _wait_for(self, word: str, seconds: float) -> None:
        """Wait until all others have written `word`, but not for long: some may be lost."""
        keys = [f"{word}/{rank}" for rank in range(self.world) if rank != self.rank]
        until = time.monotonic() + seconds
        while not self.store.check(keys) and time.monotonic() < until:
            time.sleep(POLL / 4)


class LostError(WorkError):
    """Another process is lost, or has ended first."""


MEETINGS: list[Meeting] = []  # of this process: one at a time
_met_before = 0  # meetings so far, the same number in all processes: a store keeps the texts of earlier ones


def meeting() -> Meeting | None:
    """Return the meeting with the other processes; None in a single process."""
    return MEETINGS[0] if MEETINGS else None


def wait_for_all() -> None:
    """Wait for all processes, without the limit that an exchange of tensors has."""
    if MEETINGS:
        MEETINGS[0].exchange()


def demand_same(words: Words, advice: str) -> None:
    """Refuse, in all processes, values in which one of them differs from the first one."""
    if MEETINGS:
        MEETINGS[0].compare(words, advice)


@contextlib.contextmanager
def joined(program: str = "vtrain") -> Iterator[Meeting | None]:
    """Join the processes that torchrun has started, for the length of a block; a single process does nothing.

    They leave when all have finished. An error in the block ends the others with a sentence that names it.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or MEETINGS:
        yield meeting()
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch's store warns of lost processes in 30 lines
    if "TORCHELASTIC_RUN_ID" in os.environ:
        when_parent_ends()(signal.SIGTERM)  # a torchrun that is killed ends nobody
    with heard_while_waiting():
        found = _met(program)
    MEETINGS.append(found)
    try:
        with telling(found):
            try:
                yield found
            except SystemExit as end:
                if end.code:
                    raise
            found.finish()
    finally:
        MEETINGS.clear()
        found.leave()


@contextlib.contextmanager
def telling(found: Meeting | None) -> Iterator[None]:
    """Tell the other processes of an error in this block; one of the exchange with them becomes one sentence."""
    try:
        yield
    except RuntimeError as error:
        if not is_of_network(error):
            _tell(found, error)
            raise
        words = found.sentence_for(error) if found else f"another process cannot be reached ({said(error)}); {AGAIN}"
        lost = LostError(words)
        _tell(found, lost)
        raise lost from None
    except BaseException as error:
        _tell(found, error)
        raise


def _tell(found: Meeting | None, error: BaseException) -> None:
    if found is not None:
        found.tell(error)


def _met(program: str) -> Meeting:
    """Return the meeting when all processes have come, of which torchrun, or whoever starts them, tells the number."""
    dist: Any = importlib.import_module("torch.distributed")
    global _met_before
    _met_before += 1
    limit = lost_after()
    try:
        store, rank, world = next(dist.rendezvous("env://", timeout=timedelta(seconds=limit)))
        return Meeting(dist.PrefixStore(f"playspeed/{_met_before}", store), rank, world, program)
    except ValueError as error:
        raise UsageError(f"WORLD_SIZE is set, but {error}; start several processes by torchrun") from None
    except RuntimeError as error:
        if not is_of_network(error):
            raise
        raise WorkError(not_together(limit, said(error))) from None


def not_together(limit: float, why: str) -> str:
    """Return what is said when not all processes have come."""
    advice = "see that all nodes are up and reach each other, and start all processes again"
    return f"the processes did not come together within {limit:g} s ({why}); {advice}"


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
