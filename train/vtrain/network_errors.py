"""What is said of an error of the exchange with other processes, and of the error that has ended one of them."""

import re

from vprep.errors import UsageError, WorkError, reason
from vprep.signals import Stop

AGAIN = (
    "what was saved stays: run all processes again, a training that has saved with --resume, a fine-tuning of veval "
    "with --into"
)
OWN_WORDS = r"connection (closed|reset) by peer|connection was likely closed|timed out[^.:]*|broken pipe"
NETWORK = ("gloo", "nccl", "tcpstore", "connection closed by peer", "connection reset by peer", "broken pipe")


def said(error: RuntimeError) -> str:
    """Return the network's own words in an error of torch."""
    words = re.search(OWN_WORDS, str(error), re.IGNORECASE)
    return words[0].lower() if words else str(error).splitlines()[0][:80]


def is_of_network(error: RuntimeError) -> bool:
    """Return whether an error came from the exchange with other processes; torch has no class of its own for some."""
    import torch.distributed as dist

    words = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in words for word in NETWORK)


def sentence_of(error: BaseException) -> str:
    """Return what the other processes say of the error that has ended one."""
    if isinstance(error, UsageError | WorkError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {reason(error)}"
    if isinstance(error, Stop):
        return "it was stopped by a signal"
    if isinstance(error, SystemExit):
        return "its command line was refused"
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
