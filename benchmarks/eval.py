"""The speed of evaluation beside that of its network alone, and of retrieval beside one matrix product.

    OMP_WAIT_POLICY=PASSIVE .venv/bin/python benchmarks/eval.py [--only A,B,C,D] [--device cpu] [--backbone r3d]
        [--videos N] [--shards DIR] [--workers N] [--rounds 3] [--json]

A   ten-clip testing, from shards to the result, against the bare forward pass
B   extraction of features, from shards to a .parquet file, against the same pass
C   retrieval on random features against one product of all queries with all of the gallery (eval_search.py)
D   memory of retrieval with a large gallery, in a process of its own; it and C are on the CPU always. Linux only

The bare forward pass is that of the fine-tuned network on the clips that testing shows it, already augmented and in the
memory of the device, in the same pieces; the network of B is the same without its last layer. Testing and extraction
start again in each round, with new workers, so few videos make them look slower than they are.

The compared jobs take turns, and a ratio is the median of the rounds' ratios, so that a machine that slows down does so
for all of them. CPU is that of all threads and workers. Without --shards, videos of 7 s are made, as long as UCF101's.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
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
from veval.evaluation import Classifier, Data, Evaluation, Execution, Weights
from veval.features import extract, feature_file
from veval.features.forward import for_clips, stream
from veval.inputs import open_data, random_weights
from veval.protocol import Protocol
from veval.tasks.classifier import WithHead
from veval.tasks.video_accuracy import measure
from vprep.processors import processors
from vtrain.backbones import BACKBONES
from vtrain.data.dataset import Videos
from vtrain.inference import evaluating, uses_bf16
from vtrain.machine import default_workers

CLASSES, SECONDS = 4, 7.0
VIDEOS = {"cuda": 512, "cpu": 6}
SAME = {"cuda": 2e-2, "cpu": 1e-5}  # relative difference of features that counts as none; on a GPU they are bf16


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A network with and without its last layer, and the videos that it is shown."""

    tested: Evaluation[Classifier]
    extracted: Evaluation[Weights]
    work: Path

    @property
    def protocol(self) -> Protocol:
        return self.tested.protocol

    @property
    def videos(self) -> Videos:
        return self.tested.data.videos["all"]

    @property
    def device(self) -> torch.device:
        return torch.device(self.tested.execution.device)

    @property
    def clips(self) -> int:
        return len(self.videos) * self.protocol.rows


class Recorder(nn.Module):
    """Takes the place of the network, and keeps its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[Tensor] = []

    def forward(self, clips: Tensor) -> Tensor:
        self.pieces.append(clips)
        return clips.new_zeros(len(clips), 1)


def made(work: Path, videos: int) -> Path:
    """Make a set of at least `videos` videos."""
    folder, out = work / "videos", work / "set"
    each = max(4, -(-videos // CLASSES))
    words = ("--classes", CLASSES, "--per-class", each, "--seconds", SECONDS)
    for argv in (("synth", "--out", folder, *words), ("shard", folder, "--out", out, "--shards", CLASSES)):
        subprocess.run([sys.executable, "-m", "vprep.cli", *map(str, argv)], check=True, stdout=subprocess.DEVNULL)
    return out


def bench_of(work: Path, args: argparse.Namespace) -> Bench:
    opened = open_data(str(args.shards or made(work, args.videos)), None)
    data = first_videos(opened, min(args.videos, len(opened.videos["all"])))
    weights, classes = random_weights(args.backbone, 0), data.videos["all"].classes or []
    head = nn.Linear(weights.net.dim, len(classes))
    classifier = Classifier(WithHead(weights.net, head).eval().requires_grad_(False), weights.info, classes)
    execution = Execution(device=torch.device(args.device), workers=args.workers)
    return Bench(
        tested=Evaluation(network=classifier, data=data, protocol=Protocol(), execution=execution),
        extracted=Evaluation(network=weights, data=data, protocol=Protocol(), execution=execution),
        work=work,
    )


def first_videos(data: Data, count: int) -> Data:
    return replace(data, videos={"all": data.videos["all"].take(np.arange(count))})


def recorded(bench: Bench) -> list[Tensor]:
    """Return the inputs of the network in testing."""
    recorder = Recorder()
    for _ in stream(recorder, bench.videos, bench.protocol.plan(), bench.tested.execution, []):
        pass
    return recorder.pieces


def bare(bench: Bench, net: nn.Module, pieces: list[Tensor]) -> Tensor:
    half = uses_bf16(bench.tested.execution.precision, bench.device)
    with evaluating(net), torch.no_grad(), torch.autocast(bench.device.type, torch.bfloat16, enabled=half):
        return torch.cat([net(piece).float() for piece in pieces])


def testing(bench: Bench) -> None:
    measure(bench.tested)


def extraction(bench: Bench, data: Data) -> Path:
    out = bench.work / "features.parquet"
    out.unlink(missing_ok=True)
    extract.write(extract.work_of(replace(bench.extracted, data=data)), out)
    return out


def demand_same(bench: Bench, pieces: list[Tensor]) -> None:
    """Stop unless both ways give the same features of the first video; the first piece begins with its clips."""
    kept = feature_file.read(extraction(bench, first_videos(bench.extracted.data, 1))).arrays["gap"][0]
    alone = bare(bench, bench.extracted.network.net, pieces[:1])[: bench.protocol.rows].mean((0, 2, 3, 4)).cpu().numpy()
    difference = np.linalg.norm(kept - alone) / np.linalg.norm(alone)
    if difference > SAME[bench.device.type]:
        sys.exit(
            f"the features of both ways differ by {difference:.2g}, and should be the same; no times were measured"
        )


def network_sections(args: argparse.Namespace, work: Path) -> list[Section]:
    print("making videos", file=sys.stderr)
    bench = bench_of(work, args)
    pieces = recorded(bench)
    net = for_clips(bench.tested.network.net, bench.protocol, bench.device)
    demand_same(bench, pieces)
    jobs: Jobs = {"bare": partial(bare, bench, net, pieces)}
    if "A" in args.only:
        jobs["A. Ten-clip testing"] = partial(testing, bench)
    if "B" in args.only:
        jobs["B. Extraction of features"] = partial(extraction, bench, bench.extracted.data)
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


def show(about: dict[str, Any], sections: list[Section]) -> None:
    """Print Markdown, for a log."""
    for title, rows in sections:
        print(f"\n{title}\n\n| measured | | goal |\n|---|---|---|")
        for row in rows:
            value = row.value if isinstance(row.value, str) else f"{row.value:{',.0f' if row.value >= 100 else '.3g'}}"
            value = f"**{value}**" if row.met is False else value
            goal = f"<= {row.most:,g}" if row.most is not None else f">= {row.least:g}" if row.least is not None else ""
            print(f"| {row.what} | {value} {row.unit}".rstrip() + f" | {goal} |")
    print("\n" + "; ".join(f"{name} {value}" for name, value in about.items()))


def letters(text: str) -> list[str]:
    """Return the sections of `A,D`; argparse needs its own error."""
    found = sorted({letter.strip().upper() for letter in text.split(",")})
    if not set(found) <= set("ABCD"):
        raise argparse.ArgumentTypeError(f"'{text}' is not understood; the sections are A, B, C and D, as in A,D")
    return found


def read_words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", type=letters, default="A,B,C,D", help="sections, as in A,D")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--backbone", choices=BACKBONES, default="r3d", metavar="NAME")
    parser.add_argument("--videos", type=int, help="number of videos; default 512 on a GPU, 6 on a CPU")
    parser.add_argument("--shards", type=Path, help="set with labels; default: make one")
    parser.add_argument("--workers", type=int, help="number of worker processes; default as in the commands")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="threads of torch on the CPU; default all")
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
    about = heading(args, load)
    if args.json:
        rows = [{"title": title, "rows": [asdict(row) | {"met": row.met} for row in rows]} for title, rows in sections]
        print(json.dumps(about | {"sections": rows}))
    else:
        show(about, sections)


if __name__ == "__main__":
    main()
