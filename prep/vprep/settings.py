"""What the user asked of the shards. Two sets with equal settings and inputs have equal bytes."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from vprep.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that decides about the bytes of a set, besides its videos."""

    height: int = 128
    width: int = 171
    short_side: int | None = None  # keeps the aspect, instead of height and width
    fps: float = 25.0
    quality: int = 3  # ffmpeg's -q:v, 2 (best) to 31
    shards: int | None = None
    shard_mb: int = 256
    seed: int = 0
    layout: str = "auto"
    ffmpeg: str = ""

    def __post_init__(self) -> None:
        sides = [self.short_side] if self.short_side is not None else [self.height, self.width]
        _within("--short-side" if self.short_side is not None else "--size", sides, 8, 4096)
        _within("--quality", [self.quality], 2, 31)
        _within("--shard-mb", [self.shard_mb], 1, 8192)
        _within("--fps", [self.fps], 0.1, 240)
        if self.shards is not None:
            _within("--shards", [self.shards], 1, 1_000_000)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_size(text: str) -> tuple[int, int]:
    """`128x171` is 128 high and 171 wide."""
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not found:
        raise UsageError(f"--size is '{text}'; wanted is HEIGHTxWIDTH, as in 128x171")
    return int(found[1]), int(found[2])


def read_share(text: str) -> float:
    """`5%` and `0.05` are the same share."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--max-failures is '{text}'; wanted is a share from 0% to 100%, as in 5%")
    return share


def _within(name: str, values: list[int] | list[float], low: float, high: float) -> None:
    for value in values:
        if not low <= value <= high:
            raise UsageError(f"{name} is {value:g}; wanted is {low:g} to {high:g}")
