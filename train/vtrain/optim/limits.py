"""Limits of settings."""

from collections.abc import Mapping
from math import inf

from vprep.errors import UsageError


def check_limits(group: str, settings: object, limits: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a value outside its limits, which are allowed values; `group` precedes its name in the message."""
    for name, (low, high) in limits.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            wanted = f"at least {low}" if high == inf else f"from {low} to {high}"
            raise UsageError(f"{group}.{name} is {value}; it must be {wanted}")
