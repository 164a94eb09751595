"""Try again for a stated time what a store that is away, busy or slow has not done."""

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from vprep import signals
from vprep.errors import UsageError, WorkError
from vprep.store.faults import AwayError, fault, is_passing, panic
from vprep.store.location import Location

log = logging.getLogger("vprep.store")

Result = TypeVar("Result")
POLL = 0.2  # seconds between looks at a signal
QUIET = 20.0  # seconds of failures before it is said that a store is away
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
    began, pause, is_said = time.monotonic(), patience.first, False
    while True:
        try:
            return _heard(act, location)
        except (UsageError, WorkError):
            raise
        except Exception as error:  # obstore's own, and those of Python that it raises in their place
            if _is_local(error):
                raise
            if not is_passing(error):
                raise fault(error, location) from None
            away = time.monotonic() - began
            if away + pause > patience.seconds:
                raise AwayError(
                    f"the store of {location} has been away for {away:.0f} seconds; run the same command again to "
                    "continue when it is back"
                ) from None
        if away > QUIET and not is_said:
            is_said = True
            log.warning(
                "the store of %s does not answer; it is asked again for %.0f seconds", location, patience.seconds
            )
        _sleep(pause * random.uniform(0.5, 1), location)  # noqa: S311  no secret
        pause = min(2 * pause, patience.most)


def _heard(act: Callable[[], Result], location: Location) -> Result:
    """Return what `act` returns, in a thread of its own: a request that hangs keeps no command that is stopped."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(act())
        except Exception as error:  # raised again below
            future.set_exception(error)
        except BaseException as error:  # how obstore ends where it has a bug
            future.set_exception(panic(error, location))

    threading.Thread(target=run, name="vprep store", daemon=True).start()
    while not wait([future], POLL).done:
        _refuse_stopping(location)
    return future.result()


def _sleep(seconds: float, location: Location) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        _refuse_stopping(location)
        time.sleep(min(left, POLL))


def _refuse_stopping(location: Location) -> None:
    """End the wait of a thread when the command is stopped."""
    if signals.is_stopping():
        raise AwayError(f"stopped while the store of {location} was asked")


def _is_local(error: Exception) -> bool:
    """Return whether an error is of this machine, such as a full disk, rather than of the store."""
    return isinstance(error, OSError) and error.errno is not None
