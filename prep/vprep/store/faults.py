"""What went wrong with a store, in one sentence. The messages of obstore name requests and headers: none is shown."""

import re

from vprep.errors import UsageError, WorkError
from vprep.store.location import Location
from vprep.text import brief

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_OBJECT = re.compile(r'with invalid path: .*?Path "(.*?)"(?:: | contained)')
_LATER = (408, 409, 425, 429)  # of 4xx, those that ask to try again
_NO_KEYS = ("169.254.", "metadata.google", "fd00:ec2")  # where a machine of a cloud is asked for its keys
_BROKEN = ("HTTP error", "error sending request", "error decoding response body", "timed out", "connection")
SETTINGS = "correct the settings of the store in the environment (AWS_*, GOOGLE_*, AZURE_*)"
_EXPIRED = ("ExpiredToken", "TokenRefreshRequired")
KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what the store uses in their place"


class MissingError(WorkError):
    """There is no such object."""


class ChangedError(WorkError):
    """An object is not the one that was asked for: it was overwritten."""


class ExistsError(WorkError):
    """An object was there before."""


class AwayError(WorkError):
    """The store did not answer for longer than was waited."""


def is_passing(error: Exception) -> bool:
    """Return whether another try may succeed: the store was away, busy, or cut a connection."""
    text = str(error)
    if isinstance(error, FileNotFoundError | PermissionError) or any(word in text for word in (*_NO_KEYS, "BadScheme")):
        return False
    if status := _status(text):
        return status >= 500 or status in _LATER or "RequestTimeout" in text
    return any(word in text for word in _BROKEN)


def panic(error: BaseException, location: Location) -> Exception:
    """Return the error for one with which obstore cannot go on, as with an environment that it cannot use."""
    return UsageError(f"{location} cannot be opened ({type(error).__name__}); {SETTINGS}")


def fault(error: Exception, location: Location) -> Exception:
    """Return the error of this program for one of obstore's about the object at `location`."""
    text, kind = str(error), type(error).__name__
    code = _CODE.search(text)
    if "NoSuchBucket" in text or "ContainerNotFound" in text or "The specified bucket does not exist" in text:
        return UsageError(f"no bucket '{location.host}' ({location.scheme}); make it, or correct the URL {location}")
    if "invalid path" in text:
        found = _OBJECT.search(text)
        return UsageError(
            f"{location} holds an object with an empty part, . or .., or a control character in its name"
            f"{f' ({brief(found[1])})' if found else ''}; rename or move it"
        )
    if kind == "AlreadyExistsError" or isinstance(error, FileExistsError):
        return ExistsError(f"{location} exists already")
    if kind == "PreconditionError" or _status(text) == 412:
        return ChangedError(f"{location} changed while it was being read; run the same command again")
    if isinstance(error, FileNotFoundError) or _status(text) == 404:
        return MissingError(f"{location} does not exist")
    if "RequestTimeTooSkewed" in text:
        return WorkError(f"the store refuses {location}, because its clock and this machine's differ: set the clock")
    if any(word in text for word in _EXPIRED):
        return WorkError(f"the store refuses {location} ({code[1] if code else 'expired'}): renew the credentials")
    if "BadScheme" in text:
        return UsageError(f"the endpoint of {location} is http, not https; to allow that, set AWS_ALLOW_HTTP=true")
    if "Config error" in text:
        return UsageError(f"{location} cannot be opened ({_reason(text)}); {SETTINGS}")
    if any(host in text for host in _NO_KEYS):
        return UsageError(f"no credentials for {location}; {KEYS}")
    if kind in ("PermissionDeniedError", "UnauthenticatedError") or _status(text) in (401, 403):
        return UsageError(f"the store refuses access to {location} ({_reason(text)}); {KEYS}")
    return WorkError(f"{location}: the store answers with an error ({_reason(text)})")


def _status(text: str) -> int:
    found = _STATUS.search(text)
    return int(found[1]) if found else 0


def _reason(text: str) -> str:
    """Return the status and the code of an answer; where there was none, the first words of obstore."""
    code = _CODE.search(text)
    words = [str(_status(text) or ""), code[1] if code else ""]
    return " ".join(filter(None, words)) or re.sub(r"[^\w ,.-]", " ", text.partition("\n")[0])[:60].strip()
