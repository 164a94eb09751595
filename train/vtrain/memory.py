"""Memory that a step has freed stays with the process, for the next step wants as much again.

By default the C library gives large blocks back to the system at once, which then fills each with zeros when it is
asked for again: on a CPU a quarter to a third of a step's time (benchmarks/LOG.md).
"""

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt


def keep_memory() -> None:
    """For the rest of this process; where there is no glibc, nothing happens."""
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
