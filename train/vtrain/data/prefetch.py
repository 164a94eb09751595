"""Copy batches to a device on a stream of its own, while the previous batch is used."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

import torch

from vtrain.data.batch import Batch

Item = TypeVar("Item")
POLL = 0.2  # seconds between two checks of the thread whether its items are still needed


class _End(Generic[Item]):
    """The last entry of the queue: there are no more items, because of `error` if that is not None."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """Yield the same items; a thread makes each one before it is asked for."""
    made: queue.Queue[Item | _End[Item]] = queue.Queue(1)
    done = threading.Event()
    thread = threading.Thread(target=_produce, args=(items, made, done), name="vtrain prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(item := made.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        done.set()
        thread.join()


def _produce(items: Generator[Item, None, None], made: "queue.Queue[Item | _End[Item]]", done: threading.Event) -> None:
    error = None
    try:
        for item in items:
            if not _put(made, item, done):
                break
    except BaseException as raised:  # raised again in the thread that takes the items
        error = raised
    finally:
        items.close()
        _put(made, _End(error), done)


def _put(made: "queue.Queue[Any]", item: object, done: threading.Event) -> bool:
    """Put an item into the queue when there is space; return False when it is no longer needed."""
    while not done.is_set():
        try:
            made.put(item, timeout=POLL)
        except queue.Full:
            continue
        return True
    return False


class CudaCopies:
    """Copies batches on a stream of its own, and keeps each source alive until its copy is complete."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.Stream(device)
        self._in_flight: deque[tuple[torch.Event, Batch]] = deque()

    def start(self, batch: Batch) -> tuple[Batch, torch.Event]:
        """Start to copy a batch; return the copy, and an event that is reached when the copy is complete."""
        while self._in_flight and self._in_flight[0][0].query():
            self._in_flight.popleft()
        pinned = batch.pin()
        with self._stream:
            copy = pinned.to(self._device)
            complete = torch.Event(self._device)
            complete.record(self._stream)
        self._in_flight.append((complete, pinned))
        return copy, complete

    def finish(self, copy: Batch, complete: torch.Event) -> Batch:
        """Return the copy for use on the current stream, which waits for it; the host does not wait."""
        current = torch.accelerator.current_stream(self._device)
        current.wait_event(complete)
        for tensor in (copy.clips, copy.label, copy.row, copy.valid, copy.speed, *copy.targets.values()):
            tensor.record_stream(current)
        return copy


def on_device(
    batches: Generator[Batch, None, None],
    device: torch.device,
    copies: Callable[[torch.device], Any] = CudaCopies,
) -> Iterator[Batch]:
    """Yield the batches on `device`; each is copied while the previous batch is used."""
    if device.type == "cpu":
        yield from batches
        return
    copier = copies(device)
    for copy, complete in prefetch(copier.start(batch) for batch in batches):
        yield copier.finish(copy, complete)
