"""Axes of charts: where a value stands between the ends, and the round values that are marked."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

STEPS = (1, 2, 5, 10)
FALLBACK = (0.0, 1.0)  # of an axis without values
MOST_DECADES = 3  # with more, the values between powers of ten are not marked


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear or logarithmic axis from `low` to `high`, with the values that are marked on it."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Return where `value` stands: 0 at the low end, 1 at the high end."""
        low, high, value = (_log(self.low), _log(self.high), _log(value)) if self.log else (self.low, self.high, value)
        return (value - low) / (high - low)

    def holds(self, value: float | None) -> bool:
        """Return whether the axis has a place for `value`."""
        return value is not None and math.isfinite(value) and (value > 0 or not self.log)


def axis(
    values: Iterable[float | None], *, log: bool = False, zero: bool = False, exact: bool = False, ticks: int = 5
) -> Axis:
    """Return an axis that holds all values, and 0 if `zero`, with about `ticks` marks.

    It ends at the least and the greatest value if `exact`, else at the marks around them.
    """
    known = [value for value in values if value is not None and math.isfinite(value) and (value > 0 or not log)]
    low, high = (min(known), max(known)) if known else FALLBACK
    if log:
        return _log_axis(*((low, high) if known else (1.0, 10.0)))
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
    step = round_step((high - low) / ticks)
    begin, end, slack = low / step, high / step, 1e-9
    first, last = (begin - slack, end + slack) if exact else (begin + slack - 1, end - slack + 1)
    marks = tuple(float(f"{place * step:.12g}") for place in range(math.ceil(first), math.floor(last) + 1))
    return Axis(low, high, marks) if exact else Axis(marks[0], marks[-1], marks)


def round_step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in STEPS if step * power >= least * (1 - 1e-9))


def number(value: float) -> str:
    """Return a value as text on an axis or beside a bar: four digits, thousands with commas."""
    if value == 0 or 1e-4 <= abs(value) < 1e7:
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        return "0" if text == "-0" else text
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _log_axis(low: float, high: float) -> Axis:
    first, last = math.floor(_log(low)), math.ceil(_log(high))
    last = max(last, first + 1)
    factors = (1, 2, 5) if last - first <= MOST_DECADES else (1,)
    skip = max(1, (last - first) // 6)
    marks = [factor * 10.0**power for power in range(first, last + 1, skip) for factor in factors]
    low, high = 10.0**first, 10.0**last
    return Axis(low, high, tuple(mark for mark in marks if mark <= high * (1 + 1e-9)), log=True)


def _log(value: float) -> float:
    return math.log10(value)
