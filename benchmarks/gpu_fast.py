"""Phase `fast` of gpu.py: forward and backward of each backbone at its paper's size, in each way to compute them.

precision  fp32; tf32 (torch's default for convolutions); bf16, by autocast
layout     contiguous, or channels_last_3d
kernels    of factorised convolutions: 3d or 2d
norm       batch norm: torch's; picture, which views clips as pictures where torch has no fast kernels for clips; or
           fused, which also adds and applies the ReLU, in Triton's kernels
stem       channels that the clips and the first convolution are padded to; 3: not padded
mode       eager, compiled, or graph (a CUDA graph of forward and backward)
share      TFLOP/s / TFLOP/s of the fastest matrix product of that precision on the same device
The ways of the most important backbones come first. When time is up, the others are left out.
"""

import gc
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from gpu_results import Results, words_of_phase
from step import Bench, flops, make
from vtrain.backbones.batch_norm import make_exact, use_fused
from vtrain.backbones.conv import use_kernels
from vtrain.bench.timing import time_parts
from vtrain.machine import wait_for

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}
# Frames, side and clips of a step. The first two have every way measured before the others.
SHAPES = {
    "r2plus1d": (16, 112, 64),
    "r3d18": (16, 112, 64),
    "resnet3d18": (16, 112, 64),
    "r3d": (16, 112, 64),
    "c3d": (16, 112, 64),
    "r2plus1d18": (16, 112, 64),
    "s3dg": (16, 224, 64),
    "tsm18": (8, 112, 64),
    "s3dg_pace": (64, 224, 8),
}
GOALS = {"r3d18": 0.35, "resnet3d18": 0.35, "r3d": 0.35, "r2plus1d": 0.25, "r2plus1d18": 0.25}  # of the peak, in bf16
MAIN = tuple(SHAPES)[:2]
SECONDS, ROUNDS, WARM = 0.6, 20, 3  # of a measurement, and steps before it
CAPS = {"eager": 20.0, "graph": 20.0, "compiled": 60.0}  # seconds of a case
RESERVE = 6.0  # seconds before the limit at which no case begins
SIDES = {"cuda": (8192, 16384), "cpu": (512,)}  # of the matrices for the peak
KERNELS = 8  # of a profile that are listed
KINDS = {  # of kernels, by a part of their name; the first that fits
    "layout": r"nchwtonhwc|nhwctonchw|transpose|permute|tensortransform|converttensor",
    "batch norm": r"batch_?norm|bn_(fw|bw)|_bn_",
    "convolution": r"conv|implicit|xmma|gemm|cutlass|wgrad|dgrad|winograd|sm\d\d_",
    "pool": r"pool",
    "copy": r"memcpy|memset|copy",
    "elementwise": r"elementwise|vectorized|reduce|triton|foreach|multi_tensor",
}


@dataclass(frozen=True, slots=True)
class Way:
    """A way to compute forward and backward."""

    precision: str = "bf16"
    layout: str = "channels_last"
    kernels: str = "2d"
    stem: int = 3
    mode: str = "eager"
    norm: str = "fused"


@dataclass(frozen=True, slots=True)
class Case:
    backbone: str
    frames: int
    size: int
    batch: int
    way: Way


TRAINING = Way()  # as vtrain computes
PUBLISHED = Way("tf32", "contiguous", "3d", norm="torch")  # as published code computes
OTHERS = (
    Way(norm="picture"),
    Way(stem=8),
    Way(norm="torch"),
    Way(kernels="3d"),
    Way(mode="graph"),
    Way("tf32"),
    Way(layout="contiguous", kernels="3d", norm="torch"),
    Way("fp32", "contiguous", "3d", norm="torch"),
)
COMPILED = (Way(mode="compiled"), Way(kernels="3d", mode="compiled"))
PROFILED = (TRAINING, COMPILED[0])


class CapError(BaseException):
    """Ends a case; no code that handles ordinary errors stops it."""


def cases(small: bool) -> list[Case]:
    """Return all cases, the most valuable first."""
    if small:
        ways = (Way("fp32"), Way("fp32", "contiguous", "3d"), Way("fp32", stem=4))
        return [Case(name, 4, 32, 1, way) for name in ("tiny", "tsm18") for way in ways]
    rest = tuple(name for name in SHAPES if name not in MAIN)
    order = [(tuple(SHAPES), (TRAINING,)), (MAIN, OTHERS[:3]), (tuple(SHAPES), (PUBLISHED,)), (MAIN, COMPILED[:1])]
    order += [(rest, OTHERS[:3]), (MAIN, OTHERS[3:]), (MAIN, COMPILED[1:]), (rest, OTHERS[3:]), (rest, COMPILED)]
    return [Case(name, *SHAPES[name], way) for names, ways in order for name in names for way in ways]


@contextmanager
def cap(seconds: float) -> Iterator[None]:
    """Raise a CapError in the block after `seconds`."""

    def end(number: int, frame: FrameType | None) -> None:
        raise CapError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the milliseconds of `work`: the median of the rounds after those that choose kernels."""

    def in_parts() -> Iterator[str]:
        work()
        yield "all"

    for _ in range(WARM):
        work()
    wait_for(device)
    return time_parts(in_parts, device, ROUNDS, SECONDS)["all"]


def use_tf32(wanted: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = wanted
    torch.backends.cudnn.allow_tf32 = wanted


def peaks(device: torch.device) -> dict[str, float]:
    """Return TFLOP/s of the fastest product of square matrices, by precision."""
    best: dict[str, float] = {}
    for precision in ("bf16", "tf32", "fp32"):
        use_tf32(precision == "tf32")
        for side in SIDES[device.type]:
            a, b = torch.randn(2, side, side, device=device, dtype=torch.bfloat16 if precision == "bf16" else None)
            ms = timed(lambda a=a, b=b: a @ b, device)  # type: ignore[misc]
            best[precision] = max(best.get(precision, 0.0), 2e-9 * side**3 / ms)
    return best


def pad_stem(net: nn.Module, channels: int) -> None:
    """Let the first convolution take clips with more channels, whose weights are zero."""
    conv = next(module for module in net.modules() if isinstance(module, nn.Conv3d))
    more = channels - conv.in_channels
    zeros = conv.weight.new_zeros(conv.out_channels, more, *conv.kernel_size)
    conv.weight = nn.Parameter(torch.cat([conv.weight.detach(), zeros], 1))
    conv.in_channels = channels


def step_of(case: Case, device: torch.device) -> Callable[[], object]:
    """Return forward and backward of a case."""
    way, net = case.way, make(case.backbone)
    if way.stem > 3:
        pad_stem(net, way.stem)
    use_kernels(net, "3d" if way.kernels == "3d" else "2d")
    if way.norm != "torch":
        make_exact(net)
        use_fused(net, way.norm == "fused")
    net.to(device, memory_format=LAYOUTS[way.layout])  # type: ignore[call-overload]
    net.train()
    use_tf32(way.precision == "tf32")
    # The search takes more than 20 s for some contiguous layers, and changes nothing there.
    torch.backends.cudnn.benchmark = way.layout == "channels_last"
    clips = torch.randn(case.batch, way.stem, case.frames, case.size, case.size, device=device)
    clips = clips.contiguous(memory_format=LAYOUTS[way.layout])
    run = torch.compile(net, dynamic=False) if way.mode == "compiled" else net
    half = torch.autocast(device.type, torch.bfloat16) if way.precision == "bf16" else nullcontext()

    def step() -> None:
        net.zero_grad(set_to_none=True)
        with half:
            features: Tensor = run(clips)
        features.float().mean().backward()

    return graph_of(step) if way.mode == "graph" else step


def graph_of(step: Callable[[], object]) -> Callable[[], object]:
    """Return the replay of a CUDA graph of a step."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


@cache
def operations(name: str, frames: int, size: int) -> int:
    """Return the operations of forward and backward of a clip."""
    return flops(name, Bench(torch.device("cpu"), 1, frames, size, 1, {}))[1]


def measure(case: Case, peak: dict[str, float], device: torch.device, results: Results) -> dict[str, Any]:
    """Measure a case and return its row; write where its time goes if it is below its goal."""
    cuda = device.type == "cuda"
    step = step_of(case, device)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    ms = timed(step, device)
    memory = torch.cuda.max_memory_allocated() / 1e9 if cuda else None
    tflops = 1e-9 * operations(case.backbone, case.frames, case.size) * case.batch / ms
    share, goal = tflops / peak[case.way.precision], GOALS.get(case.backbone)
    if cuda and goal is not None and share < goal and case.way in PROFILED:
        profile(case, step, results)
    return {"ms": ms, "clips_per_s": 1000 * case.batch / ms, "tflops": tflops, "share": share, "gb": memory}


def tried(case: Case, peak: dict[str, float], device: torch.device, results: Results) -> dict[str, Any]:
    """Measure a case; a row of a case that cannot be measured says why. Full memory halves the batch."""
    row = asdict(case) | asdict(case.way)
    del row["way"]
    full = False
    try:
        with cap(CAPS[case.way.mode]):
            row |= measure(case, peak, device, results)
    except torch.OutOfMemoryError:
        row["note"], full = "memory is full", case.batch > 1
    except CapError:
        row["note"] = f"took more than {CAPS[case.way.mode]:.0f} s"
    except Exception as error:  # whatever a compiler or a driver raises: the other cases go on
        row["note"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}" if str(error) else "failed"
    clear(device, case.way.mode)
    results.add("fast", **row)
    return tried(replace(case, batch=case.batch // 2), peak, device, results) if full else row


def clear(device: torch.device, mode: str) -> None:
    """Free what a case has used."""
    if mode == "compiled":
        torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def profile(case: Case, step: Callable[[], object], results: Results, steps: int = 5) -> None:
    """Write the share of each kind of kernel in the time of a step, the share of idle time, and the longest kernels."""
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        began = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        spent = 1e6 * (time.perf_counter() - began)
    kernels = {event.key: (event.self_device_time_total, event.count) for event in found.key_averages()}
    where = {"backbone": case.backbone, "mode": case.way.mode}
    kinds: dict[str, float] = {}
    for name, (microseconds, _) in kernels.items():
        kinds[kind_of(name)] = kinds.get(kind_of(name), 0.0) + microseconds
    for kind, microseconds in sorted((kinds | {"idle": spent - sum(kinds.values())}).items(), key=lambda one: -one[1]):
        results.add("kernels", **where, what=kind, share=microseconds / spent)
    for name, (microseconds, count) in sorted(kernels.items(), key=lambda one: -one[1][0])[:KERNELS]:
        short = name.replace("void ", "")[:110]
        results.add("kernels", **where, what=f"`{short}`", share=microseconds / spent, calls=count // steps)


def kind_of(kernel: str) -> str:
    return next((kind for kind, part in KINDS.items() if re.search(part, kernel.lower())), "other")


def fastest(rows: list[dict[str, Any]], results: Results) -> None:
    """Write the fastest way of each backbone, beside vtrain's own and that of published code."""
    measured = [row for row in rows if "clips_per_s" in row]

    def way(row: dict[str, Any]) -> Way:
        return Way(*(row[name] for name in asdict(TRAINING)))

    for name in dict.fromkeys(row["backbone"] for row in measured):
        own = [row for row in measured if row["backbone"] == name]
        best = max(own, key=lambda row: row["clips_per_s"])
        rates = {way(row): row["clips_per_s"] for row in own}
        others = {"training": rates.get(TRAINING), "published": rates.get(PUBLISHED)}
        over = {f"over_{what}": best["clips_per_s"] / rate for what, rate in others.items() if rate}
        kept = {key: best[key] for key in ("backbone", *asdict(TRAINING), "batch", "clips_per_s", "share")}
        results.add("fastest", **kept, **over, goal=GOALS.get(name))


def main() -> None:
    began, words = time.monotonic(), words_of_phase()
    results, device = Results(words.out), torch.device(words.device)
    results.forget("peaks", "fast", "fastest", "kernels")
    peak = peaks(device)
    results.add("peaks", **peak)
    rows, wanted = [], cases(words.small)
    for number, case in enumerate(wanted):
        if time.monotonic() - began > words.limit - RESERVE:
            results.add("fast", backbone=f"{len(wanted) - number} more cases", note="no time was left")
            break
        print(f"{number + 1} of {len(wanted)}: {case}", file=sys.stderr)
        rows.append(tried(case, peak, device, results))
    fastest(rows, results)


if __name__ == "__main__":
    main()
