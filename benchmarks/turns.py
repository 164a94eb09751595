"""Run jobs in turns, so that a machine that becomes slower does so for all of them."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from vtrain.machine import wait_for

Jobs = dict[str, Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds that a job took. `cpu` counts all threads, and child processes that have ended."""

    wall: float
    cpu: float


Spent = dict[str, list[Usage]]  # by job, an entry for each round


def in_turns(jobs: Jobs, rounds: int, device: torch.device) -> Spent:
    """Run all jobs in each round; each round starts with the job after that which the last started with."""
    spent: Spent = {name: [] for name in jobs}
    names = list(jobs)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
            spent[name].append(usage(jobs[name], device))
    return spent


def usage(job: Callable[[], object], device: torch.device) -> Usage:
    wait_for(device)
    before, began = os.times(), time.perf_counter()
    job()
    wait_for(device)
    wall, after = time.perf_counter() - began, os.times()
    return Usage(wall, sum(after[:4]) - sum(before[:4]))


def ratio(above: list[Usage], below: list[Usage], what: str = "wall") -> float:
    """Return the median over the rounds of `above` / `below`."""
    return median(float(getattr(a, what)) / float(getattr(b, what)) for a, b in zip(above, below, strict=True))


def middle(spent: list[Usage], what: str = "wall") -> float:
    return median(float(getattr(usage, what)) for usage in spent)
