"""Process several videos at once and return the results in order.

The threads only wait for their ffmpeg, which does the work. The thread and the ffmpeg of a worker stay on one
processor. ffmpeg runs its stages in threads of its own; on one processor they lose 7 % less than when they spread
over processors that are busy with other videos (benchmarks/LOG.md).
"""

import contextlib
import itertools
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from vprep.processors import processors

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 8  # finished results per worker that may wait for a slow result before them
MOST_WAITING = 256 << 20  # bytes of these results


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    size: Callable[[Result], int],
    stop: threading.Event,
) -> Generator[Result, None, None]:
    """Yield `work(item)` for each item, in the order of the items, computed by `workers` threads.

    When the caller stops, fails or is interrupted, `stop` is set and no work continues in the background. `size` is
    the bytes of a result; the pool does not run ahead by more than MOST_WAITING.
    """
    todo = iter(items)
    waiting: deque[Future[Result]] = deque()
    with contextlib.ExitStack() as claims:
        seats = itertools.cycle(_seats(workers, claims))
        executor = claims.enter_context(ThreadPoolExecutor(workers, initializer=lambda: _pin_thread(next(seats))))
        try:
            while True:
                while len(waiting) < workers or _may_run_ahead(waiting, workers, size):
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


def _seats(workers: int, claims: contextlib.ExitStack) -> list[int]:
    """Return the usable processors, first those that no other pool on this machine has claimed before.

    A claim is a name that only one process can have; it ends with `claims`, or with the process.
    """
    usable = processors()
    first = os.getpid() % len(usable)  # where all are claimed, pools should not all begin with the same one
    usable, claimed = usable[first:] + usable[:first], list[int]()
    for number in usable if hasattr(os, "sched_setaffinity") else ():
        claim = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):
            claim.bind(f"\0vprep-processor-{number}")
            claimed.append(number)
        claims.enter_context(claim)
        if len(claimed) == workers:
            break
    return [*claimed, *(number for number in usable if number not in claimed)]


def _may_run_ahead(waiting: deque[Future[Result]], workers: int, size: Callable[[Result], int]) -> bool:
    if len(waiting) >= workers * AHEAD:
        return False
    done = (future for future in waiting if future.done() and not future.exception())
    return sum(size(future.result()) for future in done) < MOST_WAITING


def _pin_thread(processor: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {processor})  # 0 is this thread
