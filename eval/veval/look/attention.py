"""Pace's attention maps (figure 5): the mean of the squared channels of conv5, a column for each pace.

The map is that of attention transfer (Zagoruyko and Komodakis, ICLR 2017). All clips of a row begin at the same frame,
so each ends at another one, and it is the last frame that is shown.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch

from veval.evaluation import Weights
from veval.features.forward import for_clips
from veval.look import maps
from veval.look.asked import Ready, recipe_of
from veval.look.clips import Clips, PacedClips, mapped, read
from veval.look.drawn import Drawn, protocol_line, shown_of, weights_line
from veval.look.figure import Figure, Row, Tile
from veval.look.shading import range_of
from veval.protocol import for_weights

PACES = (1, 2, 3, 4)  # of the paper
FORMULA = (
    "Map: the mean over channels of the squares of the last feature map (attention transfer, on conv5). All clips of a "
    "row begin at the same frame, so they end at others."
)


def figure(
    network: Weights, ready: Ready, drawn: Drawn, *, paces: Sequence[Fraction],
    device: torch.device,
) -> Figure:  # fmt: skip
    """Return the figure of the videos."""
    protocol = for_weights("features", network.info, None, ready.settings)
    plan = PacedClips(
        paces=tuple(paces), frames=protocol.frames, short="restart" if protocol.short == "restart" else "loop",
        looks=protocol.plan().looks,
    )  # fmt: skip
    net = for_clips(network.net, protocol, device)
    found = []
    for clips in read(ready.videos, plan, protocol.normalise):
        found.append(_row(clips, [maps.attention(each) for each in mapped(net, clips.given, device)], paces, drawn))
    return Figure(
        title="Attention of conv5 at each pace",
        columns=[f"pace {pace}" for pace in paces],
        rows=[row for row, _ in found],
        about=[about for _, about in found],
        notes=[weights_line(network.info), FORMULA, protocol_line(protocol), drawn.sentence(found[0][0].map_shape)],
        seconds=protocol.frames / 10,
        **drawn.settings(),
    )


def paces_of(word: str) -> list[Fraction]:
    """Return the paces that the weights were trained at; 1 to 4 where these are not known."""
    recipe = recipe_of(word)
    paces = getattr(getattr(recipe, "method", None), "sampling", None)
    return [Fraction(pace) for pace in getattr(paces, "paces", PACES)]


def _row(
    clips: Clips, found: Sequence[torch.Tensor], paces: Sequence[Fraction], drawn: Drawn
) -> tuple[Row, dict[str, Any]]:
    tiles, about = [], []
    for pace, frames, seen, map_THW in zip(paces, clips.frames, clips.seen, found, strict=True):
        last = len(seen) - 1
        tile = Tile(
            clip=seen, still=last, map=map_THW.numpy(), caption=shown_of(frames, frames[last], moves=drawn.moves)
        )
        low, high = range_of([tile.still_map])
        tiles.append(tile)
        about.append({"pace": str(pace), "frames": frames, "shown": frames[last], "low": low, "high": high})
    return Row(label=clips.label, tiles=tiles), {"key": clips.key, "class": clips.class_name, "clips": about}
