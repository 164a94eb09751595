"""What can go wrong, and with which exit code.

UsageError   2   asked wrongly: nothing was done, the message says what to write instead
WorkError    1   failed while working: what is finished stays, the message says how to go on
"""

import sys
from collections.abc import Callable


class UsageError(Exception):
    """The command cannot be carried out as it was asked."""


class WorkError(Exception):
    """The work stopped before its end, or its result is not what it should be."""


def exit_code(program: str, command: Callable[[], object]) -> int:
    """Run `command`; what went wrong is one sentence on stderr. A bug still shows its traceback."""
    try:
        command()
    except UsageError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except WorkError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:  # a disk or a file that refuses is no bug
        named = f"{error.filename}: " if error.filename else ""
        said = (error.strerror or str(error)).lower()
        print(f"{program}: {named}{said}; mend that and run it again", file=sys.stderr)
        return 1
    return 0
