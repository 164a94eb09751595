"""What a service for experiments must do for the follower, and what it is told of a run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from os import environ
from pathlib import Path
from typing import Any, Protocol

from vprep.errors import UsageError
from vtrain import run_folder

_SECRETS = re.compile("KEY|TOKEN|PASSWORD|SECRET", re.IGNORECASE)
_USER_IN_ADDRESS = re.compile(r"(\b[\w+.-]+://)[^/@\s]+@")
_PASSING = re.compile(
    r"connect|time-?d? ?out|network|unreachable|temporar|resolve|\b(?:429|500|502|503|504)\b", re.IGNORECASE
)
MOST_SAID = 300  # letters of an error
LEAST_SECRET = 6  # letters; a shorter value of a variable hides too many words


class SinkError(Exception):
    """The service failed; the message holds no credentials. `passing` says that another try may succeed."""

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


def sink_error(service: str, error: Exception) -> SinkError:
    """Return an error of a service's package as one of ours: its first line, without credentials."""
    said = (str(error).splitlines() or [""])[0] or type(error).__name__
    is_passing = isinstance(error, OSError) or _PASSING.search(f"{type(error).__name__} {error}") is not None
    return SinkError(redacted(f"{service}: {said[:MOST_SAID]}"), passing=is_passing)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedRun:
    """What a service is told of a run."""

    identifier: str  # the same each time this run is followed to this service
    name: str
    project: str
    config: dict[str, Any]
    is_new: bool  # nothing was sent before


class Sink(Protocol):
    """A service. Every method raises `SinkError` where the service fails."""

    def open(self, run: FollowedRun) -> int | None:
        """Begin or continue the run; return the last step that the service has, -1 for none, None if it cannot say."""
        ...

    def send(self, step: int, numbers: Mapping[str, float]) -> bool:
        """Send the numbers of one step; return whether any of them was new to the service."""
        ...

    def close(self, *, finished: bool) -> None:
        """Send what is left; `finished` says that the run has ended."""
        ...


def config_of(folder: Path) -> dict[str, Any]:
    """Return the recipe of a run and the machine and versions of its last start, without credentials."""
    config: dict[str, Any] = {"run": str(folder.resolve())}
    for name, file in (("recipe", run_folder.RECIPE), ("environment", run_folder.ENVIRONMENT)):
        if (folder / file).is_file():
            try:
                found = run_folder.read_json(folder / file)
            except UsageError:
                continue
            config[name] = found[-1] if isinstance(found, list) and found else found
    return dict(_without_credentials(config))


def numbers_of(line: Mapping[str, object]) -> dict[str, float]:
    """Return the finite numbers in a line of metrics, without the step."""
    return {
        name: float(value)
        for name, value in line.items()
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
    }


def redacted(text: str) -> str:
    """Return a message without credentials: those in addresses, and the values of variables that hold keys."""
    text = _USER_IN_ADDRESS.sub(r"\1", text)
    for name, value in environ.items():
        if _SECRETS.search(name) and len(value) >= LEAST_SECRET:
            text = text.replace(value, "***")
    return text


def _is_finite(value: float) -> bool:
    try:
        return isfinite(value)
    except OverflowError:
        return False


def _without_credentials(value: Any) -> Any:  # noqa: ANN401  any value of JSON
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {str(key): _without_credentials(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_credentials(item) for item in value]
    return value
