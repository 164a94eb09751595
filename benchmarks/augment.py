"""Time to augment stored clips for a network: in batch, against the same ops clip by clip.

    .venv/bin/python benchmarks/augment.py [--samples N] [--rounds 9] [--threads N] [--json]

On a GPU if there is one. Both ways apply the same ops with the same parameters and end in the same layout. They take
turns, and a ratio is the median of the ratios of the rounds, so a machine that slows down does so for both.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from random import Random
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vtrain.data.augment import colour
from vtrain.data.augment.apply import DEVIATION, MEAN, Augment
from vtrain.data.augment.config import AugmentConfig, stack
from vtrain.data.augment.crop import crop

VIEWS, FRAMES, HEIGHT, WIDTH = 2, 16, 128, 171
DRAWN = 2000  # clips, to time the drawing
RSPNET = AugmentConfig(jitter=(0.4, 0.4, 0.4, 0.4), grey=0.2)
ASCNET = AugmentConfig(jitter=(0.4, 0.4, 0.2, 0.1), jitter_chance=0.8, grey=0.2, blur=1.0)
CONFIGS = {"RSPNet": (RSPNET, RSPNET), "ASCNet": (ASCNET, replace(ASCNET, blur=0.1, solarise=0.2))}
Augmentation = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds for a batch both ways (medians of the rounds), their ratio, and microseconds to draw for a clip."""

    config: str
    batch: float
    loop: float
    ratio: float
    draw: float


def clips_of(samples: int, device: torch.device) -> Tensor:
    pixels = torch.randint(0, 256, (samples, VIEWS, FRAMES, 16, 16, 3), dtype=torch.uint8)
    rows, columns = torch.arange(HEIGHT) * 16 // HEIGHT, torch.arange(WIDTH) * 16 // WIDTH
    return pixels[:, :, :, rows][:, :, :, :, columns].contiguous().to(device)


def drawn_of(configs: Sequence[AugmentConfig], samples: int) -> Augmentation:
    rng = Random(0)
    batch = [[config.draw(rng, HEIGHT, WIDTH, FRAMES) for config in configs] for _ in range(samples)]
    return {name: torch.from_numpy(array) for name, array in stack(batch).items()}


def loop(config: AugmentConfig, clips: Tensor, augmentation: Augmentation) -> Tensor:
    """Augment clip by clip, with the same ops."""
    done = [
        one(config, clips[sample, view], {name: drawn[sample, view].numpy() for name, drawn in augmentation.items()})
        for sample in range(clips.shape[0])
        for view in range(clips.shape[1])
    ]
    together = torch.stack(done).transpose(1, 2)
    return together.to(memory_format=torch.channels_last_3d)


def one(config: AugmentConfig, clip: Tensor, drawn: dict[str, Any]) -> Tensor:
    top, left, height, width = drawn["box"][0].astype(int).tolist()
    box = clip[:, top : top + height, left : left + width].permute(0, 3, 1, 2).contiguous().float()
    pixels = torch.nn.functional.interpolate(box, (config.size, config.size), mode="bilinear")[None]
    if drawn["grey"]:
        colour.grey(pixels)
    for op in drawn["jitter_order"][0].tolist():
        if (factor := drawn["jitter"][0, op]) != colour.IDENTITY[op]:
            colour.JITTERS[op](pixels, torch.full((1, 1, 1, 1, 1), float(factor), device=clip.device))
    if drawn["sigma"] > 0:
        colour.blur(pixels, torch.full((1,), float(drawn["sigma"]), device=clip.device), config.blur_kernel)
    if drawn["solarise"]:
        colour.solarise(pixels, config.solarise_threshold)
    pixels = pixels.flip(-1) if drawn["flip"][0] else pixels
    mean, deviation = (torch.tensor(of, device=clip.device).view(3, 1, 1) for of in (MEAN, DEVIATION))
    return pixels[0].div_(colour.WHITE).sub_(mean).div_(deviation)


def milliseconds(work: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) * 1e3


def compare(name: str, samples: int, rounds: int, device: torch.device) -> Row:
    configs = CONFIGS[name]
    clips, augmentation, augment = clips_of(samples, device), drawn_of(configs, samples), Augment(configs)
    batch, alone = (lambda: augment(clips, augmentation)), (lambda: loop(configs[0], clips, augmentation))
    # The median of all clips: in one that is solarised, pixels at the threshold may fall to either side.
    difference = (batch().flatten(0, 1) - alone()).abs().amax((1, 2, 3, 4)).median()
    if difference > 1e-3:
        raise SystemExit(f"{name}: both ways must give the same pixels, and they differ by {difference:.2g}")
    times = [(milliseconds(batch, device), milliseconds(alone, device)) for _ in range(rounds)]
    return Row(
        name,
        median(time for time, _ in times),
        median(time for _, time in times),
        median(slow / fast for fast, slow in times),
        drawing(configs[0]),
    )


def drawing(config: AugmentConfig) -> float:
    """Return microseconds to draw the parameters of one clip."""
    rng = Random(0)
    began = time.perf_counter()
    for _ in range(DRAWN):
        config.draw(rng, HEIGHT, WIDTH, FRAMES)
    return (time.perf_counter() - began) / DRAWN * 1e6


def each_op(samples: int, rounds: int, device: torch.device) -> dict[str, float]:
    """Return milliseconds of each op, applied to all clips of a batch."""
    clips = clips_of(samples, device).flatten(0, 1)
    rows = {name: drawn.flatten(0, 1).numpy() for name, drawn in drawn_of((RSPNET, RSPNET), samples).items()}
    boxes, flips = rows["box"].reshape(-1, 4), rows["flip"].reshape(-1)
    pixels = crop(clips, boxes, flips, RSPNET.size)
    squares = boxes * 0 + np.array([8, 30, RSPNET.size, RSPNET.size], np.float32)
    half = torch.full((len(pixels), 1, 1, 1, 1), 0.5, device=device)
    ops: dict[str, Callable[[], object]] = {
        "area crop, resize, flip": lambda: crop(clips, boxes, flips, RSPNET.size),
        "cut of the right size": lambda: crop(clips, squares, flips, RSPNET.size),
        "grey": lambda: colour.grey(pixels),
        "brightness": lambda: colour.brightness(pixels, half),
        "contrast": lambda: colour.contrast(pixels, half),
        "saturation": lambda: colour.saturation(pixels, half),
        "hue": lambda: colour.hue(pixels, half),
        "jitter of mixed orders": lambda: colour.jitter(pixels, rows["jitter"][:, 0], rows["jitter_order"][:, 0]),
        "blur": lambda: colour.blur(pixels, half.flatten(), 11),
        "solarise": lambda: colour.solarise(pixels, 0.5),
    }
    for op in ops.values():
        op()
    times = [{name: milliseconds(op, device) for name, op in ops.items()} for _ in range(rounds)]
    return {name: median(taken[name] for taken in times) for name in ops}


def heading(device: torch.device, samples: int, rounds: int) -> dict[str, Any]:
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU {platform.machine()}",
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "clips": f"{samples} x {VIEWS} x {FRAMES} x {HEIGHT} x {WIDTH} to {RSPNET.size} x {RSPNET.size}",
        "rounds": rounds,
    }


def show(info: dict[str, Any], rows: list[Row], ops: dict[str, float]) -> None:
    """Print the results as tables."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print("  ".join(f"{name} {value}" for name, value in info.items()), markup=False)
    table = Table("config", "batch, ms", "clip by clip, ms", "times as fast", "drawing for a clip, µs")
    for row in rows:
        table.add_row(row.config, *(f"{value:.3g}" for value in (row.batch, row.loop, row.ratio, row.draw)))
    console.print(table)
    table = Table("op, on all clips at once", "ms")
    for name, taken in ops.items():
        table.add_row(name, f"{taken:.3g}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, help="samples of a batch, of 2 views; default 64 on a GPU, 4 on the CPU")
    parser.add_argument("--rounds", type=int, default=9, help="rounds in which both ways take turns")
    parser.add_argument("--threads", type=int, help="threads of torch on the CPU; default all")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    samples = args.samples or (64 if device.type == "cuda" else 4)
    torch.manual_seed(0)
    info = heading(device, samples, args.rounds)
    with torch.no_grad():
        rows = [compare(name, samples, args.rounds, device) for name in CONFIGS]
        ops = each_op(samples, args.rounds, device)
    if args.json:
        print(json.dumps(info | {"looks": [asdict(row) for row in rows], "ops": ops}))
    else:
        show(info, rows, ops)


if __name__ == "__main__":
    main()
