"""The settings of a set. Two sets of the same videos with the same settings have the same bytes."""

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vprep.errors import UsageError

RATES = (0.1, 240.0)  # least and greatest frames per second of a set, and of a video that keeps its own rate
NATIVE: Literal["native"] = "native"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the bytes of a set depend on, besides its videos."""

    height: int = 128
    width: int = 171
    short_side: int | None = None  # keeps the aspect ratio, instead of height and width
    fps: float | Literal["native"] = 25.0  # native: each video keeps its own rate
    quality: int = 3  # ffmpeg's -q:v, 2 (best) to 31
    shards: int | None = None
    shard_mb: int = 256
    seed: int = 0
    layout: str = "auto"
    ffmpeg: str = ""

    def __post_init__(self) -> None:
        if self.short_side is None:
            require_range("--size", self.height, 8, 4096)
            require_range("--size", self.width, 8, 4096)
        else:
            require_range("--short-side", self.short_side, 8, 4096)
        require_range("--quality", self.quality, 2, 31)
        require_range("--shard-mb", self.shard_mb, 1, 8192)
        if self.fps != NATIVE and not RATES[0] <= self.fps <= RATES[1]:
            raise _bad_fps(f"{self.fps:.10g}")
        if self.shards is not None:
            require_range("--shards", self.shards, 1, 1_000_000)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_size(text: str) -> tuple[int, int]:
    """Return height and width: `128x171` is 128 high and 171 wide."""
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not found:
        raise UsageError(f"--size is '{text}'; it must be HEIGHTxWIDTH, as in 128x171")
    return int(found[1]), int(found[2])


def read_fps(text: str) -> float | Literal["native"]:
    """Return frames per second, or `native`."""
    if text == NATIVE:
        return NATIVE
    try:
        return float(text)
    except ValueError:
        raise _bad_fps(text) from None


def _bad_fps(text: str) -> UsageError:
    low, high = RATES
    return UsageError(f"--fps is '{text}'; it must be a number from {low:g} to {high:g}, or {NATIVE}")


def read_share(text: str) -> float:
    """Return a share between 0 and 1 from `5%` or `0.05`."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--max-failures is '{text}'; it must be a share from 0% to 100%, as in 5%")
    return share


def require_range(option: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside [low, high]."""
    if not low <= value <= high:
        raise UsageError(f"{option} is {value:.10g}; it must be from {low:.10g} to {high:.10g}")
