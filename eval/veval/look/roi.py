"""RSPNet's similarity activation maps (section 4.4, equation 4, figure 5).

Two clips of a video are a positive pair. The map of a clip shows which of its positions make the pair similar: for the
task of relative speed (RSP) and for that of appearance (A-VID), each by its own head. As in training, the first clip
goes through the network and the second through its momentum copy.

Differs from the authors' code: the maps have the names of their own tasks, the shown frame is the middle one, the clips
are in their own order, and frames are shown as they were.

N clips, D outputs of a head, C channels, T time, H W height and width
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from veval.look import maps
from veval.look.asked import Ready
from veval.look.clips import Clips, mapped, read
from veval.look.drawn import Drawn, protocol_line, shown_of, weights_line
from veval.look.figure import Figure, Row, Tile
from veval.look.shading import box_of, range_of
from veval.look.trained import Trained
from veval.protocol import Protocol, for_weights
from vprep.errors import UsageError
from vtrain.inference import evaluating

TASKS = {"motion": "RSP: relative speed", "appearance": "A-VID: appearance"}
FORMULA = (
    "Map of clip i: ((W_j x_j)' W_i) F_i, equation 4 of RSPNet, where F is the last feature map, x its mean, and W the "
    "head of the task without bias; its mean is the product that the cosine is made of. Clip 1 goes through the "
    "network, clip 2 through its momentum copy."
)


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """A network with its head for a task: what comes before the mean, and the weights of the linear layer."""

    before: nn.Module
    weight: Tensor

    @classmethod
    def of(cls, head: nn.Sequential) -> "Side":
        at = next(number for number, step in enumerate(head) if isinstance(step, nn.AdaptiveAvgPool3d))
        *between, linear = list(head)[at + 2 :]  # after the mean, and after its axes are dropped
        if between or not isinstance(linear, nn.Linear):
            raise UsageError(
                "this run has head=mlp, and a similarity map exists only where one linear layer follows the mean: "
                "name a run with head=linear, conv or convbn"
            )
        return cls(head[:at], linear.weight.detach().cpu())

    def of_mean(self, map_CTHW: Tensor) -> Tensor:
        """Return the map whose mean the linear layer gets, on the CPU."""
        where = next(self.before.parameters(), map_CTHW)
        with torch.no_grad(), evaluating(self.before):
            found: Tensor = self.before(map_CTHW[None].to(where))[0].cpu()
        return found


def figure(net: Trained, ready: Ready, drawn: Drawn, *, step: int = 1, device: torch.device) -> Figure:
    """Return the figure of the videos; `step` is the speed of both clips."""
    protocol = for_weights("features", net.info, None, ready.settings)
    plan = replace(protocol, clips=2, how="starts", step=step).plan()
    module = net.module.to(device)
    sides = {task: _sides(module, task) for task in _tasks(net.config)}
    found = [
        _row(clips, _pair(module, clips, device), sides, drawn)
        for clips in read(ready.videos, plan, protocol.normalise)
    ]
    tasks = [_heading(task, net) for task in sides]
    return Figure(
        title="RSPNet: where two clips of a video are similar",
        columns=[f"clip {number}{': ' + word if word else ''}" for number in (1, 2) for word in ("", *tasks)],
        rows=[row for row, _ in found],
        about=[about for _, about in found],
        notes=_notes(net, protocol, drawn, found[0][0], step),
        seconds=protocol.frames / 10,
        **drawn.settings(),
    )


def _tasks(config: Any) -> list[str]:  # noqa: ANN401  RSPNet's config
    """Return the tasks with a head for pairs of clips; that of SP predicts the speed of a single clip."""
    return [task for task in TASKS if task == "appearance" or config.motion == "rsp"]


def _heading(task: str, net: Trained) -> str:
    weight = net.config.motion_weight if task == "motion" else net.config.appearance_weight
    return f"{TASKS[task]}{'' if weight or net.info.is_random else ' (not trained)'}"


def _sides(module: Any, task: str) -> list[Side]:  # noqa: ANN401  an RSPNet
    return [Side.of(getattr(heads, task)) for heads in (module.heads, module.key_heads)]


def _pair(module: Any, clips: Clips, device: torch.device) -> list[Tensor]:  # noqa: ANN401  an RSPNet
    """Return the feature maps [C, T, H, W] of both clips."""
    nets = (module.backbone, module.key_backbone)
    return [mapped(net, clip[None], device)[0] for net, clip in zip(nets, clips.given, strict=True)]


def pair_maps(pair: Sequence[Tensor], sides: Sequence[Side]) -> tuple[list[Tensor], float]:
    """Return the maps [T, H, W] of both clips for a task, and the cosine of their features."""
    seen = [side.of_mean(features) for features, side in zip(pair, sides, strict=True)]
    first, second = (side.weight for side in sides)
    found = [maps.similarity(seen[0], first, second, seen[1]), maps.similarity(seen[1], second, first, seen[0])]
    return found, maps.cosine(seen[0], first, second, seen[1])


def _row(
    clips: Clips, pair: Sequence[Tensor], sides: dict[str, list[Side]], drawn: Drawn
) -> tuple[Row, dict[str, Any]]:
    side = clips.seen[0].shape[1]
    middle = len(clips.seen[0]) // 2
    of_tasks = {task: pair_maps(pair, both) for task, both in sides.items()}
    tiles, about = [], []
    for number, frames in enumerate(clips.frames):
        seen = clips.seen[number]
        caption = shown_of(frames, frames[middle], moves=drawn.moves)
        tiles.append(Tile(clip=seen, still=middle, caption=caption))
        entry: dict[str, Any] = {"frames": frames, "shown": frames[middle], "maps": {}}
        for task, (both, cosine) in of_tasks.items():
            tile = Tile(
                clip=seen, still=middle, map=both[number].numpy(), threshold=drawn.threshold,
                caption=f"cosine {cosine:.2f}",
            )  # fmt: skip
            low, high = range_of([tile.still_map])
            entry["maps"][task] = {"cosine": cosine, "low": low, "high": high, "box": box_of(tile, side)}
            tiles.append(tile)
        about.append(entry)
    same = " - both clips are the same frames" if clips.frames[0] == clips.frames[1] else ""
    return Row(label=clips.label + same, tiles=tiles), {"key": clips.key, "class": clips.class_name, "clips": about}


def _notes(net: Trained, protocol: Protocol, drawn: Drawn, row: Row, step: int) -> list[str]:
    speed = f" Both clips play at {step}x." if step > 1 else ""
    return [
        weights_line(net.info),
        FORMULA,
        f"{protocol_line(protocol)}{speed}",
        drawn.sentence(row.map_shape),
    ]
