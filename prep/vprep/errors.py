"""What can go wrong, and with which exit code.

UsageError   2   asked wrongly: nothing was done, the message says what to write instead
WorkError    1   failed while working: what is finished stays, the message says how to go on
"""


class UsageError(Exception):
    """The command cannot be carried out as it was asked."""


class WorkError(Exception):
    """The work stopped before its end, or its result is not what it should be."""
