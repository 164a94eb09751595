"""What the evaluation reaches of what its network alone could, and what retrieval costs beside one matrix product.

    OMP_WAIT_POLICY=PASSIVE .venv/bin/python benchmarks/eval.py [--only A,B,C,D] [--device cpu] [--backbone r3d]
        [--videos N] [--shards DIR] [--workers N] [--rounds 3] [--json]

A   ten-clip testing, from shards to the result, against the bare forward pass
B   extraction of features, from shards to a .parquet file, against the same pass
C   retrieval on random features against one product of all queries with all of the gallery (eval_search.py)
D   memory of retrieval with a large gallery, in a process of its own; it and C are on the CPU always. Linux only

The bare forward pass is that of the fine-tuned network on the very clips that testing shows it, already augmented and
in the memory of the device, in the same pieces; the network of B is the same without its last layer. Testing and
extraction begin anew in each round, workers and all, so few videos make them look slower than they are.

What is compared takes turns, and a ratio is the median of the ratios of the rounds, so a machine that slows down does
so for all. CPU is that of all threads and workers. Without --shards videos of 7 s are made, as long as UCF101's.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eval_search import memory_section, time_section
from prep import Row, Section
from step import processor
from turns import Jobs, Usage, in_turns, middle, ratio
from veval.features import feature_file
from veval.features.extract import How, extract, for_clips, stream
from veval.inputs import Facts, Weights, data, random_weights
from veval.protocol import Protocol
from veval.tasks.classifier import Classifier, Headed
from veval.tasks.video_accuracy import test
from vprep.processors import processors
from vtrain.backbones import BACKBONES
from vtrain.data.dataset import Videos
from vtrain.inference import evaluating, uses_bf16
from vtrain.machine import default_workers

CLASSES, SECONDS = 4, 7.0
VIDEOS = {"cuda": 512, "cpu": 6}
SAME = {"cuda": 2e-2, "cpu": 1e-5}  # by which features of both ways may differ, relative; on a GPU they are bf16


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What testing and extraction are measured on."""

    weights: Weights
    named: Classifier
    videos: Videos
    data: Facts
    protocol: Protocol
    how: How
    work: Path

    @property
    def device(self) -> torch.device:
        return torch.device(self.how.device)

    @property
    def clips(self) -> int:
        return len(self.videos) * self.protocol.rows


class Recorder(nn.Module):
    """Stands where the network does, and keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[Tensor] = []

    def forward(self, clips: Tensor) -> Tensor:
        self.pieces.append(clips)
        return clips.new_zeros(len(clips), 1)


def made(work: Path, videos: int) -> Path:
    """A set of so many videos, or a few more."""
    folder, out = work / "videos", work / "set"
    each = max(4, -(-videos // CLASSES))
    words = ("--classes", CLASSES, "--per-class", each, "--seconds", SECONDS)
    for argv in (("synth", "--out", folder, *words), ("shard", folder, "--out", out, "--shards", CLASSES)):
        subprocess.run([sys.executable, "-m", "vprep.cli", *map(str, argv)], check=True, stdout=subprocess.DEVNULL)
    return out


def bench_of(work: Path, args: argparse.Namespace) -> Bench:
    found, facts = data(str(args.shards or made(work, args.videos)), None)
    videos = found["all"].take(np.arange(min(args.videos, len(found["all"]))))
    weights, classes = random_weights(args.backbone, 0), videos.classes or []
    head = nn.Linear(weights.net.dim, len(classes))
    return Bench(
        weights=weights,
        named=Classifier(Headed(weights.net, head).eval().requires_grad_(False), weights.facts, classes),
        videos=videos,
        data=facts,
        protocol=Protocol(),
        how=How(device=torch.device(args.device), workers=args.workers),
        work=work,
    )


def recorded(bench: Bench) -> list[Tensor]:
    """All that testing shows the network."""
    recorder = Recorder()
    for _ in stream(recorder, bench.videos, bench.protocol.plan(), bench.how, []):
        pass
    return recorder.pieces


def bare(bench: Bench, net: nn.Module, pieces: list[Tensor]) -> Tensor:
    half = uses_bf16(bench.how.precision, bench.device)
    with evaluating(net), torch.no_grad(), torch.autocast(bench.device.type, torch.bfloat16, enabled=half):
        return torch.cat([net(piece).float() for piece in pieces])


def testing(bench: Bench) -> None:
    test(bench.named, bench.videos, bench.protocol, data=bench.data, how=bench.how, logits=None)


def extraction(bench: Bench, videos: Videos) -> Path:
    out = bench.work / "features.parquet"
    out.unlink(missing_ok=True)
    extract(bench.weights, {"all": videos}, bench.protocol, out, data=bench.data, how=bench.how, gallery="")
    return out


def demand_same(bench: Bench, pieces: list[Tensor]) -> None:
    """The first piece begins with the clips of the first video, whose features are found in both ways."""
    kept = feature_file.read(extraction(bench, bench.videos.take(np.arange(1)))).arrays["gap"][0]
    alone = bare(bench, bench.weights.net, pieces[:1])[: bench.protocol.rows].mean((0, 2, 3, 4)).cpu().numpy()
    difference = np.linalg.norm(kept - alone) / np.linalg.norm(alone)
    if difference > SAME[bench.device.type]:
        sys.exit(f"both ways should give the same features, and differ by {difference:.2g}")


def network_sections(args: argparse.Namespace, work: Path) -> list[Section]:
    print("videos are made", file=sys.stderr)
    bench = bench_of(work, args)
    pieces = recorded(bench)
    net = for_clips(bench.named.net, bench.protocol, bench.device)
    demand_same(bench, pieces)
    jobs: Jobs = {"bare": partial(bare, bench, net, pieces)}
    if "A" in args.only:
        jobs["A. Ten-clip testing"] = partial(testing, bench)
    if "B" in args.only:
        jobs["B. Extraction of features"] = partial(extraction, bench, bench.videos)
    spent = in_turns(jobs, args.rounds, bench.device)
    clip = " x ".join(map(str, bench.protocol.clip))
    shown = f"{args.backbone}, {len(bench.videos)} videos, {bench.protocol.rows} clips of {clip} each"
    return [(f"{name}: {shown}", rows_of(bench, spent["bare"], spent[name])) for name in spent if name != "bare"]


def rows_of(bench: Bench, alone: list[Usage], whole: list[Usage]) -> list[Row]:
    return [
        Row("clips a second / those of the bare forward pass", ratio(alone, whole), "x", least=0.9),
        Row("the same, CPU", ratio(alone, whole, "cpu"), "x"),
        Row("clips a second", bench.clips / middle(whole)),
        Row("bare forward pass, clips a second", bench.clips / middle(alone)),
    ]


def heading(args: argparse.Namespace, load: tuple[float, float, float]) -> dict[str, Any]:
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else processor(),
        "processors": len(processors()),
        "threads": torch.get_num_threads(),
        "load_before": [round(value, 2) for value in load],
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "pyarrow", "opencv-python-headless")},
        "workers": args.workers,
        "shards": "given" if args.shards else "made",
        "rounds": args.rounds,
    }


def show(facts: dict[str, Any], sections: list[Section]) -> None:
    """In Markdown, for a log."""
    for title, rows in sections:
        print(f"\n{title}\n\n| measured | | goal |\n|---|---|---|")
        for row in rows:
            value = row.value if isinstance(row.value, str) else f"{row.value:{',.0f' if row.value >= 100 else '.3g'}}"
            value = f"**{value}**" if row.met is False else value
            goal = f"<= {row.most:,g}" if row.most is not None else f">= {row.least:g}" if row.least is not None else ""
            print(f"| {row.what} | {value} {row.unit}".rstrip() + f" | {goal} |")
    print("\n" + "; ".join(f"{name} {value}" for name, value in facts.items()))


def letters(text: str) -> list[str]:
    """`A,D` in words that argparse understands."""
    found = sorted({letter.strip().upper() for letter in text.split(",")})
    if not set(found) <= set("ABCD"):
        raise argparse.ArgumentTypeError(f"'{text}' is not understood; the sections are A, B, C and D, as in A,D")
    return found


def read_words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", type=letters, default="A,B,C,D", help="sections, as in A,D")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--backbone", choices=BACKBONES, default="r3d", metavar="NAME")
    parser.add_argument("--videos", type=int, help="how many; 512 on a GPU and 6 on a CPU unless given")
    parser.add_argument("--shards", type=Path, help="a set with labels; without it one is made")
    parser.add_argument("--workers", type=int, help="as many as the commands take unless given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch on the CPU; default all")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    args = parser.parse_args()
    args.videos = VIDEOS[args.device] if args.videos is None else args.videos
    if args.videos < 1 or args.rounds < 1:
        parser.error(f"--videos is {args.videos} and --rounds {args.rounds}; both are at least 1")
    args.workers = default_workers(torch.device(args.device)) if args.workers is None else args.workers
    return args


def main() -> None:
    args, load = read_words(), os.getloadavg()
    if args.threads:
        torch.set_num_threads(args.threads)
    sections: list[Section] = []
    if {"A", "B"} & set(args.only):
        with tempfile.TemporaryDirectory(prefix="veval-benchmark-") as work:
            sections += network_sections(args, Path(work))
    if "C" in args.only:
        sections.append(time_section(args.rounds))
    if "D" in args.only:
        sections.append(memory_section())
    facts = heading(args, load)
    if args.json:
        rows = [{"title": title, "rows": [asdict(row) | {"met": row.met} for row in rows]} for title, rows in sections]
        print(json.dumps(facts | {"sections": rows}))
    else:
        show(facts, sections)


if __name__ == "__main__":
    main()
