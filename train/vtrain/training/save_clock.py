"""When a state is due by time. Steps alone would not do: at one step in 7 seconds, 500 steps are an hour.

The largest state of a recipe here has 450 MB. It takes some 2 s to save on a local disk (0.9 s for 177 MB were
measured), and 5 s where 100 MB/s are written. Each ten minutes, this is less than one percent of the time.
"""

import time
from collections.abc import Callable
from math import inf

from vtrain.distributed import first_says, world

FIRST = 45.0  # seconds from the start to the first state: with the start itself, within a minute


class SaveClock:
    """Decides when a state is due by time; of several processes, the first one's clock decides for all."""

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = minutes * 60 if minutes else inf
        self._clock = clock
        self._due = clock() + min(FIRST, self._every) if minutes else inf

    def due(self, may_wait: bool) -> bool:
        """Return whether a state is due, the same on all ranks.

        Several processes have to ask the first one, which waits for the device, so they ask only if they `may_wait`.
        """
        if world() > 1 and (not may_wait or self._every == inf):
            return False
        return first_says(self._clock() >= self._due)

    def saved(self) -> None:
        """Start to count anew."""
        self._due = self._clock() + self._every
