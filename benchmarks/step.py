"""How long forward and backward of each backbone take, compared with matrix products on the same device.

    .venv/bin/python benchmarks/step.py [--backbones r3d18 r2plus1d ...] [--batch 64] [--frames 16] [--size 112]
        [--precisions fp32 bf16] [--layouts contiguous channels_last] [--modes 3d 2d compiled] [--rivals] [--json]

forward      in eval mode and without gradients, as in feature extraction
step         forward and backward in train mode, without the optimiser
3d, 2d       kernels of factorised convolutions; compiled is 2d with torch.compile
share        TFLOP/s of the step / TFLOP/s of the fastest matrix product in the same precision
difference   relative difference of the last map from that of fp32, contiguous, 3d, in eval mode
bf16 uses autocast. On a CPU only its forward is run, because weight gradients of conv3d can be NaN there. fp32 on a GPU
uses TF32, in the matrix product too. --rivals adds torchvision's networks if torchvision is installed.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import date
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vtrain.backbones import BACKBONES, backbone
from vtrain.backbones.conv import use_kernels
from vtrain.machine import wait_for

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}
RIVALS = {"torchvision r3d_18": "r3d_18", "torchvision r2plus1d_18": "r2plus1d_18", "torchvision s3d": "s3d"}


@dataclass(frozen=True, slots=True)
class Bench:
    """What all rows have in common."""

    device: torch.device
    batch: int
    frames: int
    size: int
    repeats: int
    peaks: dict[str, float]  # TFLOP/s of a matrix product, by precision

    def clips(self, batch: int) -> Tensor:
        return torch.rand(batch, 3, self.frames, self.size, self.size, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True, slots=True)
class Row:
    """Times of a backbone. Speeds are those of the step, or of the forward when there is no step."""

    backbone: str
    precision: str
    layout: str
    mode: str
    forward_ms: float
    step_ms: float | None
    clips_per_second: float
    tflops: float
    share: float
    memory_gb: float | None
    difference: float


def timed(work: Callable[[], object], bench: Bench) -> float:
    """Return the median of the seconds that `work` takes, after two runs that do not count."""
    for _ in range(2):
        work()
    spent = []
    for _ in range(bench.repeats):
        wait_for(bench.device)
        began = time.perf_counter()
        work()
        wait_for(bench.device)
        spent.append(time.perf_counter() - began)
    return median(spent)


def peak(precision: str, device: torch.device) -> float:
    """Return TFLOP/s of a product of square matrices, the best of several sizes."""
    bench = Bench(device, 0, 0, 0, 5, {})
    best = 0.0
    for side in (4096, 8192, 16384) if device.type == "cuda" else (1024, 2048):
        a = torch.rand(side, side, device=device, dtype=DTYPES[precision])
        best = max(best, 2e-12 * side**3 / timed(lambda a=a: a @ a, bench))  # type: ignore[misc]
    return best


def make(name: str) -> nn.Module:
    """Return a network without head, with the same weights at every call."""
    torch.manual_seed(1)
    if name not in RIVALS:
        return backbone(name)
    import torchvision

    net = getattr(torchvision.models.video, RIVALS[name])(weights=None)
    if name == "torchvision s3d":
        return net.features  # type: ignore[no-any-return]
    return nn.Sequential(net.stem, net.layer1, net.layer2, net.layer3, net.layer4)


def flops(name: str, bench: Bench) -> tuple[int, int]:
    """Return the operations of a clip's forward, and of its forward and backward.

    A multiplication with its addition counts as two operations.
    """
    with torch.device("meta"):
        net, clip = make(name), torch.empty(1, 3, bench.frames, bench.size, bench.size)
    with FlopCounterMode(display=False) as counter:
        last = net(clip)
        forward = counter.get_total_flops()
        last.sum().backward()
    return forward, counter.get_total_flops()


def measure(name: str, precision: str, layout: str, mode: str, bench: Bench) -> Row:
    net, form = make(name), FORMATS[layout]
    clips = bench.clips(2)
    with torch.no_grad():
        use_kernels(net, "3d")
        wanted = net.eval()(clips)
    net.to(bench.device, memory_format=form)  # type: ignore[call-overload]
    use_kernels(net, "3d" if mode == "3d" else "2d")
    run = torch.compile(net) if mode == "compiled" else net
    autocast = torch.autocast(bench.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()

    def forward(x: Tensor) -> Tensor:
        with torch.inference_mode(), autocast:
            return run(x)  # type: ignore[no-any-return]

    def step() -> None:
        with autocast:
            loss = run(x).float().mean()
        loss.backward()
        net.zero_grad(set_to_none=True)

    found = forward(clips.to(bench.device).contiguous(memory_format=form)).float().cpu()
    x = bench.clips(bench.batch).to(bench.device).contiguous(memory_format=form)
    forward_s = timed(lambda: forward(x), bench)
    step_s, memory = None, None
    if precision == "fp32" or bench.device.type == "cuda":
        net.train()
        if bench.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        step_s = timed(step, bench)
        memory = torch.cuda.max_memory_allocated() / 1e9 if bench.device.type == "cuda" else None
    of_forward, of_step = flops(name, bench)
    seconds, work = (forward_s, of_forward) if step_s is None else (step_s, of_step)
    tflops = 1e-12 * work * bench.batch / seconds
    return Row(
        name, precision, layout, mode,
        forward_ms=1000 * forward_s,
        step_ms=None if step_s is None else 1000 * step_s,
        clips_per_second=bench.batch / seconds,
        tflops=tflops,
        share=tflops / bench.peaks[precision],
        memory_gb=memory,
        difference=((found - wanted).norm() / wanted.norm()).item(),
    )  # fmt: skip


def processor() -> str:
    lines = cpuinfo.read_text().splitlines() if (cpuinfo := Path("/proc/cpuinfo")).exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def heading(bench: Bench, load: tuple[float, float, float]) -> dict[str, Any]:
    cuda = bench.device.type == "cuda"
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if cuda else processor(),
        "threads": torch.get_num_threads(),
        "load_before": [round(value, 2) for value in load],
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "clips": [bench.batch, 3, bench.frames, bench.size, bench.size],
        "repeats": bench.repeats,
        "matmul_tflops": {precision: round(value, 3) for precision, value in bench.peaks.items()},
    }


def show(measured: dict[str, Any], rows: list[Row]) -> None:
    """Print a table for people."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print("  ".join(f"{name} {value}" for name, value in measured.items()), markup=False)
    table = Table("backbone", "precision", "layout", "mode")
    for column in ("forward ms", "step ms", "clips/s", "TFLOP/s", "share", "GB", "difference"):
        table.add_column(column, justify="right")
    for row in rows:
        step = "" if row.step_ms is None else f"{row.step_ms:.1f}"
        memory = "" if row.memory_gb is None else f"{row.memory_gb:.1f}"
        numbers = [f"{row.forward_ms:.1f}", step, f"{row.clips_per_second:.1f}", f"{row.tflops:.3g}"]
        numbers += [f"{row.share:.0%}", memory, f"{row.difference:.0e}"]
        table.add_row(row.backbone, row.precision, row.layout, row.mode, *numbers)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES), metavar="NAME")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, help="number of clips (default: 64 on a GPU, 2 on a CPU)")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--precisions", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--layouts", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--modes", nargs="+", choices=["3d", "2d", "compiled"], default=["3d", "2d"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="number of CPU threads")
    parser.add_argument("--rivals", action="store_true", help="measure torchvision's networks too")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    args = parser.parse_args()
    load, device = os.getloadavg(), torch.device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    peaks = {precision: peak(precision, device) for precision in args.precisions}
    batch = args.batch or (64 if device.type == "cuda" else 2)
    bench = Bench(device, batch, args.frames, args.size, args.repeats, peaks)
    rows = []
    ways = list(product(args.precisions, args.layouts))
    cases = [(name, *way, mode) for name in args.backbones for way in ways for mode in args.modes]
    cases += [(name, *way, "3d") for name in RIVALS if args.rivals for way in ways]
    for number, case in enumerate(cases):
        print(f"{number + 1} of {len(cases)}: {' '.join(case)}", file=sys.stderr)
        rows.append(measure(*case, bench))
        torch.compiler.reset()
    if args.json:
        print(json.dumps(heading(bench, load) | {"rows": [asdict(row) for row in rows]}))
    else:
        show(heading(bench, load), rows)


if __name__ == "__main__":
    main()
