"""The errors that users see, and their exit codes.

UsageError   2   the command cannot be done as asked: nothing was done, the message says what to write instead
WorkError    1   the work failed: finished parts stay, the message says how to continue
StoppedError 130, 143 or 129   the work was stopped by SIGINT (Ctrl-C), SIGTERM or SIGHUP: 128 + the signal's number;
                 finished parts stay, the message says how to continue
"""

import contextlib
import difflib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vprep import signals


class UsageError(Exception):
    """The command cannot be carried out as it was asked."""


class WorkError(Exception):
    """The work stopped before its end, or its result is wrong."""


class StoppedError(WorkError):
    """The work was stopped by the signal `number`, and its state is saved."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


def exit_code(program: str, command: Callable[[], object]) -> int:
    """Run `command` and return its exit code; an error is one sentence on stderr. A bug still shows its traceback."""
    try:
        with signals.handled(program):
            return _exit_code(program, command)
    except signals.Stop as stop:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"{program}: {stop.sentence or signals.UNFINISHED}", file=sys.stderr, flush=True)
        return 128 + stop.number


def _exit_code(program: str, command: Callable[[], object]) -> int:
    try:
        command()
    except UsageError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except StoppedError as error:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"{program}: {error}", file=sys.stderr, flush=True)
        return 128 + error.number
    except WorkError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:  # an error of a disk or of a file is no bug
        file = f"{error.filename}: " if error.filename else ""
        print(f"{program}: {file}{reason(error)}; fix that and run it again", file=sys.stderr)
        return 1
    return 0


def reason(error: OSError) -> str:
    """Return the system's message for an error, as in `no space left on device`."""
    return (error.strerror or str(error)).lower()


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn an error of the disk into the advice to choose another `--out`."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {reason(error)}; choose another --out") from None


def close_to(word: str, words: Iterable[str]) -> str:
    """Return the end of a sentence about `word`: which of `words` may have been meant; empty when none is close."""
    known = list(words)
    close = [name for name in known if word and word in name][:3] or difflib.get_close_matches(word, known, n=3)
    return f"; close to it: {', '.join(map(repr, close))}" if close else ""
