"""The worker pool: several items at once, results in order."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from vprep.processors import processors
from vprep.sharding.worker_pool import in_order


def test_results_have_the_order_of_the_items_whichever_is_done_first() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.05 if item == 0 else 0)
        return item

    done = list(in_order(slow_first, range(40), workers=4, size=lambda _: 0, stop=threading.Event()))
    assert done == list(range(40))


def test_the_pool_does_not_run_ahead_by_more_than_fits() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    results = in_order(lambda item: item, items(), workers=2, size=lambda _: 1 << 40, stop=threading.Event())
    for _ in range(10):
        next(results)
    assert taken < 10 + 2 * 8
    results.close()


def test_an_exception_reaches_the_caller_and_stops_the_others() -> None:
    stop = threading.Event()

    def work(item: int) -> int:
        if item == 3:
            raise ValueError(item)
        return item

    results = in_order(work, range(100), workers=2, size=lambda _: 0, stop=stop)
    with pytest.raises(ValueError, match="3"):
        list(results)
    assert stop.is_set()


def test_each_worker_stays_on_one_processor() -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system cannot tell on which processors a thread may run")

    def where(_: int) -> frozenset[int]:
        time.sleep(0.02)
        return frozenset(os.sched_getaffinity(0))

    usable = processors()
    seats = set(in_order(where, range(30), workers=len(usable), size=lambda _: 0, stop=threading.Event()))
    assert seats == {frozenset({processor}) for processor in usable}
    assert os.sched_getaffinity(0) == set(usable)


def test_pools_of_other_processes_begin_with_other_processors() -> None:
    if not hasattr(os, "sched_setaffinity") or len(processors()) < 2:
        pytest.skip("this takes two processors on which threads can be kept")
    program = """
import os, sys, threading
from vprep.sharding.worker_pool import in_order
where = lambda _: (print(*os.sched_getaffinity(0), flush=True), sys.stdin.readline())
list(in_order(where, [0], workers=1, size=lambda _: 0, stop=threading.Event()))
"""

    def seats() -> list[str]:
        pools = [subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) for _ in range(2)]
        found = [pool.stdout.readline() for pool in pools if pool.stdout is not None]
        for pool in pools:
            pool.communicate("\n")
        return found

    # Once more where other processes have claimed the processors.
    assert any(first != second for first, second in (seats() for _ in range(20)))
