"""The errors that users see, and their exit codes.

UsageError   2   the command cannot be done as asked: nothing was done, the message says what to write instead
WorkError    1   the work failed: finished parts stay, the message says how to continue
StoppedError 130, 143 or 129   the work was stopped by SIGINT (Ctrl-C), SIGTERM or SIGHUP: 128 + the signal's number;
                 finished parts stay, the message says how to continue
"""

import contextlib
import difflib
import errno
import itertools
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from pathlib import Path

from vprep import signals, streams
from vprep.text import brief, one_line, shortened, without_secrets

ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "change its permissions"),
    errno.EROFS: "choose a place that can be written",
    errno.ENOMEM: "free some memory",
}


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
    streams.in_utf8(program)
    with streams.usable():
        code = _ended(program, command)
        unwritten = streams.flushed()
        if unwritten is None or isinstance(unwritten, BrokenPipeError):
            return code if unwritten is None else code or 1
        return code or _failed(program, streams.lost(unwritten))


def _ended(program: str, command: Callable[[], object]) -> int:
    """Run `command` and return its exit code; a signal ends it with a sentence."""
    try:
        with signals.handled(program):
            return _exit_code(program, command)
    except signals.Stop as stop:
        return _stopped(program, stop.sentence or signals.UNFINISHED, stop.number)


def _exit_code(program: str, command: Callable[[], object]) -> int:
    """Run `command` and return its exit code; say what went wrong."""
    try:
        copy_context().run(command)  # what a command notes for itself, such as --json, ends with it
    except SystemExit as end:  # the parser of the arguments has printed its own message
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except UsageError as error:
        return _failed(program, str(error), 2)
    except StoppedError as error:
        return _stopped(program, str(error), error.number)
    except WorkError as error:
        return _failed(program, str(error))
    except BrokenPipeError:
        return 1  # who reads the output has seen enough, and wants no message
    except OSError as error:  # an error of a disk or of a file is no bug
        where = error.filename if isinstance(error.filename, str) else _words(program)
        return _failed(program, f"{where}: {reason(error)}; {advice(error)} and run it again")
    except UnicodeEncodeError as error:  # pyarrow and json files take no other names
        return _failed(program, f"{not_utf8(str(error.object))}", 2)
    except MemoryError:
        return _failed(program, f"not enough memory for {_words(program)}; {ADVICE[errno.ENOMEM]} and run it again")
    return 0


def _failed(program: str, message: str, code: int = 1) -> int:
    print(f"{program}: {shortened(one_line(message))}", file=sys.stderr)
    return code


def _stopped(program: str, message: str, number: int) -> int:
    code = 128 + number
    return _failed(program, message, code) if signals.speaks() else code


def _words(program: str) -> str:
    return f"'{without_secrets(shlex.join([program, *sys.argv[1:]]))}'"


def not_utf8(name: str) -> str:
    """Return the sentence for a name that holds bytes which are not UTF-8."""
    return f"the name {name!a} is not UTF-8; rename it"


def advice(error: OSError) -> str:
    """Return what a user can do about an error of the system."""
    return ADVICE.get(error.errno or 0, "fix that")


@contextlib.contextmanager
def about(path: Path, draft: Path | None = None) -> Iterator[None]:
    """Let an error of the system name `path` where it names no file, as an error of a write, or names `draft`."""
    try:
        yield
    except OSError as error:
        if error.filename is None or error.filename == str(draft):
            error.filename = str(path)
        raise


def reason(error: OSError) -> str:
    """Return the system's message for an error, as in `no space left on device`."""
    return (error.strerror or str(error)).lower()


@contextlib.contextmanager
def writing(out: Path, advice: str = "choose another --out") -> Iterator[None]:
    """Turn an error of the disk that comes before any work into a UsageError, by default to choose another `--out`."""
    if "\udc80" <= max(str(out)) <= "\udcff":
        raise UsageError(not_utf8(str(out)))
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {reason(error)}; {advice}") from None


def refuse_secrets(words: Iterable[str]) -> None:
    """Refuse a URL with a user, a key or a query, before it can be printed or written."""
    for word in words:
        if (shown := without_secrets(word)) != word:
            raise UsageError(
                f"the URL {shown} holds a user or a key, or goes on with ? or #; leave that out, and put credentials "
                "in the environment"
            )


def refuse_stores(words: Iterable[str], stays: Callable[[str], bool]) -> None:
    """Refuse the URL of a store where a local path is wanted: after each option that `stays` on this machine."""
    for before, word in itertools.pairwise(["", *words]):
        option, _, value = word.partition("=") if word.startswith("-") else (before, "", word)
        option = option if option.startswith("-") else ""
        if re.match("(s3|gs|az)://", value, re.IGNORECASE) and stays(option):
            where = f"{option} names a place" if option else "this must be a place"
            raise UsageError(f"{brief(value)} is in a store, and {where} on this machine: name a local path")


def close_to(word: str, words: Iterable[str]) -> str:
    """Return the end of a sentence about `word`: which of `words` may have been meant; empty when none is close."""
    known = list(words)
    close = [name for name in known if word and word in name][:3] or difflib.get_close_matches(word, known, n=3)
    return f"; close to it: {', '.join(map(repr, close))}" if close else ""
