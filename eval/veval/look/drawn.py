"""How maps are drawn, as the options say, and the sentences in a figure that say so."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from veval.evaluation import WeightsInfo
from veval.look.figure import Scale
from veval.protocol import Protocol
from vprep.errors import UsageError

TILES = (32, 1024)  # least and most pixels of a tile's side
LEGEND = "lowest", "highest value of a map (the numbers below it)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The options of drawing."""

    scale: Scale = "clip"
    alpha: float = 0.5
    tile: int | None = None
    threshold: float | None = None
    moves: bool = False  # clips and maps play

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"--alpha is {self.alpha:g}; it must be from 0 (the frame alone) to 1 (the map alone)")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UsageError(f"--threshold is {self.threshold:g}; it must be above 0, and at most 1")
        if self.tile is not None and not TILES[0] <= self.tile <= TILES[1]:
            raise UsageError(f"--tile is {self.tile}; it must be from {TILES[0]} to {TILES[1]} pixels")

    def settings(self, **more: Any) -> dict[str, Any]:  # noqa: ANN401  entries of `Figure`
        """Return the entries of a figure with maps."""
        return {"scale": self.scale, "alpha": self.alpha, "tile": self.tile, "legend": LEGEND, **more}

    def sentence(self, shape: tuple[int, ...]) -> str:
        """Return how maps become colours; `shape` is time, height and width of a map."""
        time, height, width = shape
        mean = "" if time == 1 else f"Maps move: linear between their {time} steps of time. "
        if time > 1 and not self.moves:
            mean = f"Maps are the mean over their {time} steps of time. "
        box = (
            f" The box is around the largest connected area from {self.threshold:.0%} of the map's range."
            if self.threshold is not None
            else ""
        )
        return (
            f"{mean}Maps of {height} x {width} are enlarged bilinearly and are {self.alpha:.0%} of what is drawn; "
            f"below them the frame is grey, so that all colour is the map's.{box}"
        )


def weights_line(info: WeightsInfo) -> str:
    """Return which weights a figure is of."""
    about = [info.like if info.is_random else info.method, info.backbone, info.recipe or info.like_recipe]
    about += [f"step {info.kept_step or info.step}"] if info.step else []
    start = "untrained weights" if info.is_random else f"weights {info.path}"
    return f"{start} ({', '.join(str(word) for word in about if word)}, hash {info.hash[:8]})"


def protocol_line(protocol: Protocol) -> str:
    """Return which clips a figure is of."""
    square = "largest square" if protocol.crop_size is None else f"{protocol.crop_size} stored pixels"
    return (
        f"Clips of {protocol.frames} frames, {protocol.crop} crop of the {square} at {protocol.size} x "
        f"{protocol.size}, {protocol.normalise}, as at test time."
    )


def shown_of(frames: list[int], shown: int, *, moves: bool) -> str:
    """Return which frames a clip has, and which of them stands for it where nothing moves; for a caption."""
    step = {after - before for before, after in pairwise(frames)}
    every = f" by {step.pop()}" if len(step) == 1 and not step & {0, 1} else ""
    span = f"{min(frames)} to {max(frames)}{every}"
    return f"frames {span}" if moves else f"frame {shown} of {span}"
