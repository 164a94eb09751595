"""Several videos at once, results in order.

The threads only wait for their ffmpeg; that is where the work is done. A worker is one processor: its thread,
and with it its ffmpeg, stays on one. ffmpeg runs its stages in threads of its own, and kept together they lose
7 % less than when they spread over processors that are busy with other videos (benchmarks/LOG.md).
"""

import contextlib
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from vprep.processors import processors

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 8  # finished results that may wait for a slow one before them, per worker
MOST_WAITING = 256 << 20  # bytes of them


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    size: Callable[[Result], int],
    stop: threading.Event,
) -> Generator[Result, None, None]:
    """`work` on each item by `workers` threads; results in the order of the items.

    When the caller stops, or fails, or is interrupted, `stop` is set and no work goes on behind its back.
    """
    usable = processors()
    # Two runs with few workers each should not both begin with the same processors.
    first = os.getpid() % len(usable)
    seats = itertools.cycle(usable[first:] + usable[:first])
    todo = iter(items)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, initializer=lambda: _stay(next(seats))) as executor:
        try:
            while True:
                while len(waiting) < workers or _room(waiting, workers, size):
                    item = next(todo, None)
                    if item is None:
                        break
                    waiting.append(executor.submit(work, item))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            stop.set()
            executor.shutdown(wait=False, cancel_futures=True)


def _room(waiting: deque[Future[Result]], workers: int, size: Callable[[Result], int]) -> bool:
    if len(waiting) >= workers * AHEAD:
        return False
    done = (future for future in waiting if future.done() and not future.exception())
    return sum(size(future.result()) for future in done) < MOST_WAITING


def _stay(processor: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {processor})  # 0 is this thread
