"""What PRP reconstructs: the clip that the network sees, the frames to reconstruct, their weights, and its frames.

The numbers are those of the loss: `vtrain.methods.prp.network` computes target, weights and prediction.

B batch, T frames, C channels, H W height and width
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from veval.look.asked import Ready
from veval.look.clips import Clips, pixels, read
from veval.look.drawn import Drawn, protocol_line, weights_line
from veval.look.figure import Figure, Floats, Pixels, Row, Tile
from veval.look.trained import Trained
from veval.protocol import for_weights
from vprep.errors import UsageError
from vtrain.inference import evaluating
from vtrain.methods.prp.mask import LEAST, MOST

COLUMNS = 8  # frames of a strip
LINES = "input", "target", "weight of errors", "prediction"
EXPLAINED = (
    "Input: what the network sees. Target: the frames to reconstruct. Weight: of an error at each position, by the "
    "motion in the clip (the motion attention, mean over colours). Prediction: what the decoder makes of the input; "
    "the error is the weighted mean square of the loss, on pixels from 0 to 1."
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reconstruction:
    """A clip's target and what the network makes of it."""

    clips: Clips
    position: list[float]  # of each target frame, as the number of a frame of the video; in between: interpolated
    rate: int  # the network sees each rate-th of them
    target: Pixels
    made: Pixels
    weight: Floats
    error: float  # the part of the loss


def figure(
    net: Trained, ready: Ready, drawn: Drawn, *, speed: int | None, seed: int,
    device: torch.device,
) -> Figure:  # fmt: skip
    """Return the figure of the videos at a speed: strips of frames, or four tiles that play."""
    demand_decoder(net)
    speed = _speed(net.config.sampling.speeds, speed)
    protocol = for_weights("features", net.info, None, [f"frames={net.config.sampling.frames}", *ready.settings])
    sampling = net.config.sampling
    short = sampling.short if sampling.short in ("loop", "restart", "stretch") else "loop"
    plan = replace(sampling, speeds=(speed,), short=short, looks=protocol.plan().looks)
    module = net.module.to(device)
    found = [
        reconstruct(module, clips, speed, device) for clips in read(ready.videos, plan, protocol.normalise, seed=seed)
    ]
    shown = plan.reconstructed
    numbers = sorted({round(number * (shown - 1) / max(1, COLUMNS - 1)) for number in range(COLUMNS)})
    rows = (
        [_tiles(each, speed) for each in found]
        if drawn.moves
        else [row for each in found for row in _strip(each, speed, numbers)]
    )
    mask = {"none": "All errors count alike (w/o MA).", "paper": "Weights as in the paper.", "released": ""}
    return Figure(
        title=f"PRP: reconstruction at {speed}x, with {sampling.rate} times as many frames",
        columns=LINES if drawn.moves else [f"{number + 1} of {shown}" for number in numbers],
        rows=rows,
        per_video=1 if drawn.moves else len(LINES),
        about=[_about(each, speed) for each in found],
        notes=[weights_line(net.info), EXPLAINED, *filter(None, [mask[sampling.mask]]), protocol_line(protocol)],
        legend=(f"{LEAST:g}", f"{MOST:g}: weight of an error"),
        tile=drawn.tile,
        seconds=shown / 10,
    )


def demand_decoder(net: Trained) -> None:
    """Refuse a network that does not reconstruct."""
    if net.module.decoder is None:
        raise UsageError(
            f"{net.info.word} has branches={net.config.branches}, which reconstructs nothing; name a run with "
            "branches=GP or DG-P"
        )


def _speed(known: Sequence[int], wanted: int | None) -> int:
    """Return the speed to show: the wanted one, which the network must know, else 2x where it knows that."""
    if wanted is None:
        return 2 if 2 in known else known[0]
    if wanted not in known:
        raise UsageError(f"--speed is {wanted}; the network was trained at {', '.join(map(str, known))}")
    return wanted


def reconstruct(module: Any, clips: Clips, speed: int, device: torch.device) -> Reconstruction:  # noqa: ANN401  a PRP
    """Return what the network makes of a clip, which has the frames that training reads."""
    view_BTCHW = clips.given.transpose(1, 2).to(device)
    speed_B = torch.tensor([float(speed)], device=device)
    with torch.no_grad(), evaluating(module):
        target_BTCHW, real_BT = module.wanted(view_BTCHW, speed_B)
        seen_BCTHW = target_BTCHW[:, :: module.plan.rate].transpose(1, 2)
        map_BCTHW = module.backbone(seen_BCTHW.contiguous(memory_format=torch.channels_last_3d))
        made_BTCHW = module.reconstruct(module.decoder, map_BCTHW, target_BTCHW)
        weight_BTCHW = module.mask(view_BTCHW, speed_B) * torch.ones_like(target_BTCHW)
    error_BT = (weight_BTCHW * (made_BTCHW - target_BTCHW).square()).mean((2, 3, 4))
    shown, rate = clips.frames[0], module.plan.rate
    return Reconstruction(
        clips=clips,
        position=_positions(shown[: module.plan.reconstructed], speed, rate),
        rate=rate,
        target=_pixels(target_BTCHW),
        made=_pixels(made_BTCHW),
        weight=weight_BTCHW[0].mean(1).cpu().numpy(),
        error=float((error_BT * real_BT).sum() / real_BT.sum()),
    )


def _positions(shown: Sequence[int], speed: int, rate: int) -> list[float]:
    """Return where each frame to reconstruct lies in the video; `shown` are its slots in the sample."""
    if speed >= rate:
        return [float(number) for number in shown]
    places = [number * speed / rate for number in range(len(shown))]
    return [float(np.interp(place, range(len(shown)), shown)) for place in places]


def _pixels(frames_BTCHW: Tensor) -> Pixels:
    return pixels(frames_BTCHW[0].transpose(0, 1), "unit")


def _strip(found: Reconstruction, speed: int, numbers: Sequence[int]) -> list[Row]:
    """Return a row for each line of the strip."""
    lines = [[_tile(line, found, number) for number in numbers] for line in LINES]
    ends = {"prediction": f", error {found.error:.3g}"}
    starts = {LINES[0]: f"{found.clips.label}, {speed}x: "}
    return [
        Row(label=f"{starts.get(line, '')}{line}{ends.get(line, '')}", tiles=tiles)
        for line, tiles in zip(LINES, lines, strict=True)
    ]


def _tile(line: str, found: Reconstruction, number: int) -> Tile:
    target = found.target[number : number + 1]
    if line == "input" and number % found.rate:
        return Tile(clip=None, caption="not seen")
    if line == "weight of errors":
        map_tHW = found.weight[number : number + 1]
        return Tile(clip=target, map=map_tHW, fixed=(LEAST, MOST), is_alone=True)
    if line == "prediction":
        return Tile(clip=found.made[number : number + 1])
    return Tile(clip=target, caption=_place(found.position[number]))


def _place(position: float) -> str:
    whole = position == int(position)
    return f"frame {int(position)}" if whole else f"between {int(position)} and {int(position) + 1}"


def _tiles(found: Reconstruction, speed: int) -> Row:
    """Return a row of tiles that play; the input stands where the network sees nothing new."""
    clips: dict[str, Pixels] = {"input": found.target[:: found.rate], "target": found.target, "prediction": found.made}
    tiles = [
        Tile(clip=clips[line], caption=f"error {found.error:.3g}" if line == "prediction" else "")
        if line in clips
        else Tile(clip=found.target, map=found.weight, fixed=(LEAST, MOST), is_alone=True)
        for line in LINES
    ]
    first, last = _place(found.position[0]), _place(found.position[-1])
    return Row(label=f"{found.clips.label}, {speed}x: {first} to {last}", tiles=tiles)


def _about(found: Reconstruction, speed: int) -> dict[str, Any]:
    return {
        "key": found.clips.key,
        "class": found.clips.class_name,
        "speed": speed,
        "target": found.position,
        "seen": found.position[:: found.rate],
        "error": found.error,
    }
