"""PRP's activation maps (figure 6): conv5 summed over its channels, with a column for each network.

The paper compares discriminative perception (DP), generative perception (GP) with and without motion attention (MA),
and both together (DG-P): runs with branches=DP, GP and DG-P, and with mask=none.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from veval.evaluation import RANDOM, Weights
from veval.features.forward import for_clips
from veval.inputs import LIKE
from veval.look import maps
from veval.look.asked import Ready, recipe_of
from veval.look.clips import Clips, mapped, read
from veval.look.drawn import Drawn, protocol_line, shown_of, weights_line
from veval.look.figure import Figure, Row, Tile
from veval.look.shading import range_of
from veval.output import short_name
from veval.protocol import Protocol, for_weights
from vtrain.methods import prp

FORMULA = (
    "Map: the sum over channels of the absolute values of the last feature map (conv5). The clip is the middle one of "
    "the video."
)


def figure(
    networks: Sequence[Weights], labels: Sequence[str], ready: Ready, drawn: Drawn, *,
    device: torch.device,
) -> Figure:  # fmt: skip
    """Return the figure of the videos, with a column for each network; `labels` are their headings."""
    columns = [_column(network, ready, device) for network in networks]
    rows = [_row(of_video, labels, drawn) for of_video in zip(*columns, strict=True)]
    notes = [f"{label}: {weights_line(network.info)}" for label, network in zip(labels, networks, strict=True)]
    protocols = dict.fromkeys(protocol_line(_protocol(network, ready)) for network in networks)
    return Figure(
        title="Activation of conv5",
        columns=["frame", *labels],
        rows=[row for row, _ in rows],
        about=[about for _, about in rows],
        notes=[FORMULA, *protocols, drawn.sentence(rows[0][0].map_shape), *notes],
        seconds=_protocol(networks[0], ready).frames / 10,
        **drawn.settings(),
    )


def labels(words: Sequence[str]) -> list[str]:
    """Return what figures call networks: PRP's by its branches as the paper does, all by their own name, each once."""
    found = [f"{_branches(word)}{_name(word)}" for word in words]
    return [f"{label} ({number + 1})" if found.count(label) > 1 else label for number, label in enumerate(found)]


def _name(word: str) -> str:
    bare = word.removeprefix(LIKE)
    return bare if bare == RANDOM else f"{'untrained ' if bare != word else ''}{short_name(Path(bare))}"


def _branches(word: str) -> str:
    recipe = recipe_of(word)
    if recipe is None or not isinstance(recipe.method, prp.Config):
        return ""
    config = recipe.method
    attention = {"none": " (w/o MA)"}.get(config.sampling.mask, " (w/ MA)") if config.branches != "DP" else ""
    return f"{config.branches}{attention}, "


def _protocol(network: Weights, ready: Ready) -> Protocol:
    return for_weights("features", network.info, None, ready.settings)


def _column(network: Weights, ready: Ready, device: torch.device) -> list[tuple[Clips, torch.Tensor]]:
    """Return the clip of each video for a network, and its map."""
    protocol = _protocol(network, ready)
    plan = replace(protocol, clips=1, how="starts").plan()
    net = for_clips(network.net, protocol, device)
    return [
        (clips, maps.activation(mapped(net, clips.given, device)[0]))
        for clips in read(ready.videos, plan, protocol.normalise)
    ]


def _row(
    of_video: Sequence[tuple[Clips, torch.Tensor]], labels: Sequence[str], drawn: Drawn
) -> tuple[Row, dict[str, Any]]:
    first = of_video[0][0]
    middle = len(first.seen[0]) // 2
    caption = shown_of(first.frames[0], first.frames[0][middle], moves=drawn.moves)
    tiles, about = [Tile(clip=first.seen[0], still=middle, caption=caption)], []
    for (clips, map_THW), label in zip(of_video, labels, strict=True):
        middle = len(clips.seen[0]) // 2
        tile = Tile(clip=clips.seen[0], still=middle, map=map_THW.numpy())
        low, high = range_of([tile.still_map])
        frames = clips.frames[0]
        about.append({"network": label, "frames": frames, "shown": frames[middle], "low": low, "high": high})
        tiles.append(tile)
    return Row(label=first.label, tiles=tiles), {"key": first.key, "class": first.class_name, "maps": about}
