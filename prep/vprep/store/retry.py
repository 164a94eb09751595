"""Try again for a stated time what a store that is away, busy or slow has not done."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from vprep.errors import UsageError, WorkError
from vprep.store.faults import AwayError, fault, is_passing
from vprep.store.location import Location

Result = TypeVar("Result")
OF_REQUEST: dict[str, Any] = {  # obstore's own tries, which the loop below repeats; each takes a second or so
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=1), "base": 2},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a store may be away."""

    seconds: float = 120.0
    """After so many seconds of failures without a success between them, the work ends with one sentence."""

    first: float = 0.1
    most: float = 5.0
    """The first and the longest wait between two tries; each wait doubles, and up to a half of it is left to chance."""


def tried(act: Callable[[], Result], location: Location, patience: Patience) -> Result:
    """Return what `act` returns, tried again while the store is away; any other error is one sentence."""
    began, wait = time.monotonic(), patience.first
    while True:
        try:
            return act()
        except (UsageError, WorkError):
            raise
        except Exception as error:  # obstore's own, and those of Python that it raises in their place
            if _is_local(error):
                raise
            if not is_passing(error):
                raise fault(error, location) from None
            away = time.monotonic() - began
            if away + wait > patience.seconds:
                raise AwayError(
                    f"the store of {location} has been away for {away:.0f} seconds; run the same command again to "
                    "continue when it is back"
                ) from None
        time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  no secret
        wait = min(2 * wait, patience.most)


def _is_local(error: Exception) -> bool:
    """Return whether an error is of this machine, such as a full disk, rather than of the store."""
    return isinstance(error, OSError) and error.errno is not None
