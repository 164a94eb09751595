"""Hands batches over to a device: copied on a stream of its own, one batch ahead of use."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

import torch

from vtrain.data.batch import Batch

Item = TypeVar("Item")
POLL = 0.2  # seconds after which a thread looks whether it is still wanted


class _End(Generic[Item]):
    """The last thing in the queue: why there is no more."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Generator[Item, None, None], depth: int = 1) -> Generator[Item, None, None]:
    """The same items, made by a thread, `depth` of them before they are asked for."""
    made: queue.Queue[Item | _End[Item]] = queue.Queue(depth)
    done = threading.Event()
    thread = threading.Thread(target=_run, args=(items, made, done), name="vtrain ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := made.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        done.set()
        thread.join()


def _run(items: Generator[Item, None, None], made: "queue.Queue[Item | _End[Item]]", done: threading.Event) -> None:
    error = None
    try:
        for item in items:
            if not _put(made, item, done):
                break
    except BaseException as raised:  # handed to the thread that asks
        error = raised
    finally:
        items.close()
        _put(made, _End(error), done)


def _put(made: "queue.Queue[Any]", item: object, done: threading.Event) -> bool:
    while not done.is_set():
        try:
            made.put(item, timeout=POLL)
        except queue.Full:
            continue
        return True
    return False


class CudaCopies:
    """Copies batches on a stream of their own. What is copied from stays untouched until the copy is done."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.Stream(device)
        self._under_way: deque[tuple[torch.Event, Batch]] = deque()

    def start(self, batch: Batch) -> tuple[Batch, torch.Event]:
        """Begin the copy; the event comes when it is done."""
        while self._under_way and self._under_way[0][0].query():
            self._under_way.popleft()
        pinned = batch.pin()
        with self._stream:
            copy = pinned.to(self._device)
            ready = torch.Event(self._device)
            ready.record(self._stream)
        self._under_way.append((ready, pinned))
        return copy, ready

    def take(self, copy: Batch, ready: torch.Event) -> Batch:
        """The copied batch, for the stream that is current now; the host does not wait."""
        current = torch.accelerator.current_stream(self._device)
        current.wait_event(ready)
        for tensor in (copy.clips, copy.label, copy.row, copy.valid, copy.speed, *copy.targets.values()):
            tensor.record_stream(current)
        return copy


def on_device(
    batches: Generator[Batch, None, None],
    device: torch.device,
    copies: Callable[[torch.device], Any] = CudaCopies,
) -> Iterator[Batch]:
    """The batches on `device`, each copied while the one before it is worked on."""
    if device.type == "cpu":
        yield from batches
        return
    copier = copies(device)
    for copy, ready in ahead(copier.start(batch) for batch in batches):
        yield copier.take(copy, ready)
