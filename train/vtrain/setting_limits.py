"""Limits of settings."""

from collections.abc import Mapping
from math import inf

from vtrain.conversion import SettingError

Limits = tuple[float, float]
NOT_NEGATIVE: Limits = (0, inf)
POSITIVE: Limits = (1e-6, inf)
FRACTION: Limits = (0, 1)
WHOLE: Limits = (1, inf)


def check_limits(settings: object, limits: Mapping[str, Limits]) -> None:
    """Refuse a value outside its limits, which are allowed values."""
    for name, (low, high) in limits.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            wanted = f"at least {low}" if high == inf else f"from {low} to {high}"
            raise SettingError(f"{name} is {value}; it must be {wanted}")
