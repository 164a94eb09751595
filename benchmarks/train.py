"""How fast a training is when it is fed from shards, compared with fed from memory and with published code.

    OMP_WAIT_POLICY=PASSIVE .venv/bin/python benchmarks/train.py [key=value ...] [--method rspnet]
        [--recipe released] [--backbone r2plus1d] [--shards DIR] [--batch 64] [--device cuda] [--workers N]
        [--seconds 20] [--repeats 3] [--json]

memory       the trainer's loop on a single batch, which stays on the device
shards       the same loop on the batches that the loader reads and decodes
as authors   the same method as published code runs it: float32 (convolutions in TF32, torch's default), channels first,
             without autocast and with 3D kernels, fed from memory; with cuDNN's choice of kernels and with its search
Memory, shards and the loader alone take turns, and a ratio is the median of the ratios of the turns. On a CPU `as
authors` is left out, and the numbers only show that this program works. Without --shards a small set is created.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import date
from pathlib import Path
from statistics import median

import torch

from prep import Row
from step import processor
from vtrain.bench import step
from vtrain.bench.loader import Measured
from vtrain.bench.report import KERNELS
from vtrain.data.dataset import Videos
from vtrain.data.shard_set import ShardSet
from vtrain.machine import environment
from vtrain.overrides import change
from vtrain.recipes import find
from vtrain.recipes.recipe import Recipe

SMALL_SET = {"cuda": (8, 32, 8.0), "cpu": (4, 8, 2.0)}  # classes, videos per class, seconds per video
BATCH, SECONDS, REPEATS = {"cuda": 64, "cpu": 8}, {"cuda": 20.0, "cpu": 1.0}, {"cuda": 3, "cpu": 1}


def small_set(work: Path, device: str) -> Path:
    """Create a set of small videos."""
    videos, out = work / "videos", work / "set"
    classes, each, seconds = map(str, SMALL_SET[device])
    words = ("--out", str(videos), "--classes", classes, "--per-class", each, "--seconds", seconds)
    for argv in (("synth", *words), ("shard", str(videos), "--out", str(out), "--shards", "8")):
        subprocess.run([sys.executable, "-m", "vprep.cli", *argv], check=True, stdout=subprocess.DEVNULL)
    return out


def heading_of(recipe: Recipe, videos: Videos, load: tuple[float, float, float], args: argparse.Namespace) -> Measured:
    known = environment()
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else processor(),
        "processors": known["processors"],
        "load_before": [round(value, 2) for value in load],
        "python": known["python"],
        **{name: known["versions"][name] for name in ("torch", "cv2", "webdataset")},
        "cuda": known["cuda"],
        "cudnn": known["cudnn"],
        "recipe": recipe.name,
        "settings": args.settings,
        "backbone": recipe.backbone,
        "clip": list(recipe.clip),
        "batch": recipe.batch,
        "videos": len(videos),
        "shards": "made" if args.shards is None else "given",
        "seconds": args.seconds,
        "repeats": args.repeats,
    }


def rows_of(turns: list[Measured], alone: Measured) -> list[Row]:
    return of_shards(turns) + of_step(alone)


def of_shards(turns: list[Measured]) -> list[Row]:
    def rate(name: str, what: str = "videos_per_s") -> float:
        rates: list[float] = [turn[name][what] for turn in turns]
        return median(rates)

    return [
        Row("fed from shards / fed from memory", over(turns, "together", "model"), least=0.95),
        Row("fed from shards / the slower of model and loader", median(turn["ratio"] for turn in turns)),
        Row("fed from shards", rate("together"), "videos/s"),
        Row("fed from shards", rate("together", "clips_per_s"), "clips/s"),
        Row("fed from memory", rate("model"), "videos/s"),
        Row(f"loader alone, workers={turns[0]['workers']}", rate("loader"), "videos/s"),
        Row("share of the time spent waiting for the loader", rate("together", "waited")),
    ]


def of_step(alone: Measured) -> list[Row]:
    rows = [
        Row("a step on noise from memory", alone["model"]["step_ms"], "ms"),
        *(Row(f"part of it: {name}", spent, "ms") for name, spent in alone["model"]["parts_ms"].items()),
        Row(f"backbone alone, {alone['bare']['clips']} clips forward and backward", alone["bare"]["ms"], "ms"),
        Row("a step / backbone alone", alone["over_bare"]),
        Row("operations", alone["tflop_per_s"], "TFLOP/s"),
        Row("peak memory", alone["model"]["memory_mb"], "MB"),
    ]
    return rows + authors(alone)


def over(turns: list[Measured], name: str, other: str) -> float:
    ratios: list[float] = [turn[name]["videos_per_s"] / turn[other]["videos_per_s"] for turn in turns]
    return median(ratios)


def authors(alone: Measured) -> list[Row]:
    what = "fed from memory / as the authors' code runs it"
    if "as_authors" not in alone:
        return [Row(what, "not measured: no GPU")]
    if alone["as_authors"] is None:
        return [Row(what, "not measured: memory is too small")]
    rows = []
    for name, found in alone["as_authors"].items():
        rows.append(
            Row(f"{what}, with {KERNELS[name]}", found["times"], least=3.0 if name == "cudnn_default" else None)
        )
        rows.append(Row(f"as the authors' code runs it, with {KERNELS[name]}", found["videos_per_s"], "videos/s"))
    return rows


def show(heading: Measured, rows: list[Row], lines: list[str]) -> None:
    """Print Markdown for a log."""
    print("; ".join(f"{name} {value}" for name, value in heading.items()) + "\n")
    print("| measured | | goal |\n|---|---|---|")
    for row in rows:
        value = row.value if isinstance(row.value, str) else f"{row.value:{'.0f' if row.value >= 100 else '.3g'}}"
        value = f"**{value}**" if row.met is False else value
        print(
            f"| {row.what} | {value} {row.unit}".rstrip() + f" | {'' if row.least is None else f'>= {row.least:g}'} |"
        )
    print("\n" + "\n".join(lines))


def read_words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the recipe to change")
    parser.add_argument("--method", default="rspnet")
    parser.add_argument("--recipe", default="released", help="released, paper, tiny, or the name of a recipe")
    parser.add_argument("--backbone", help="backbone to use instead of the recipe's")
    parser.add_argument("--shards", help="folder with shards (default: create a small set)")
    parser.add_argument("--batch", type=int, help="videos per step (default: 64 on a GPU, 8 on a CPU)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, help="number of loader workers (default: as in training)")
    parser.add_argument("--seconds", type=float, help="seconds per measurement (default: 20 on a GPU, 1 on a CPU)")
    parser.add_argument("--repeats", type=int, help="number of turns (default: 3 on a GPU, 1 on a CPU)")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    args = parser.parse_args()
    args.batch = args.batch or BATCH[args.device]
    args.seconds, args.repeats = args.seconds or SECONDS[args.device], args.repeats or REPEATS[args.device]
    return args


def main() -> None:
    args, load = read_words(), os.getloadavg()
    recipe = change(find(args.method, args.recipe, args.backbone), [f"batch={args.batch}", *args.settings])
    with tempfile.TemporaryDirectory(prefix="vtrain-benchmark-") as work:
        if args.shards is None:
            print("creating videos", file=sys.stderr)
        shards = args.shards if args.shards is not None else small_set(Path(work), args.device)
        videos = ShardSet.open(shards).select()
        turns = []
        for number in range(args.repeats):
            print(f"turn {number + 1} of {args.repeats}", file=sys.stderr)
            how = {"workers": args.workers, "seconds": args.seconds, "device": args.device}
            turns.append(step.all(recipe, videos, **how))
        print("model alone", file=sys.stderr)
        alone = step.step(recipe, seconds=args.seconds, device=args.device)
    heading, rows = heading_of(recipe, videos, load, args), rows_of(turns, alone)
    if args.json:
        measured = [asdict(row) | {"met": row.met} for row in rows]
        print(json.dumps(heading | {"rows": measured, "turns": turns, "alone": alone}))
    else:
        show(heading, rows, [f"bottleneck: {turns[-1]['bottleneck']}", *turns[-1]["advice"]])


if __name__ == "__main__":
    main()
