"""Find the convolutions that torch computes wrongly on a CPU: forward and backward against float64, on a checked heap.

    python benchmarks/kernel_safety.py [--quick] [--isa SSE41 AVX2 ...] [--threads 1 2] [--ways ours ...] [--json]

Each case is one convolution: a kernel with its stride and padding, a size, a layout and a number of threads. It is
computed in several ways:
  torch       F.conv3d, as torch has it (oneDNN on most CPUs)
  time        F.conv2d on the T x S plane with its stride, for kernels (k, 1, 1)
  frames      F.conv2d on each frame with its stride, for kernels (1, k, k) in channels-last
  transposed  F.conv_transpose3d with a stride as large as the kernel
  ours        vtrain's Conv3d
  ours-3d     vtrain's Conv3d after use_kernels(net, "3d")

A case runs three times forward and backward in a child process under the checks of glibc's heap (libc_malloc_debug), so
a kernel that writes outside its memory ends the child, and its signal is the result. ONEDNN_MAX_CPU_ISA limits the
instructions. The table shows every kind of case that is not clean; the exit code is 1 if one of vtrain's is among them.
Linux with glibc only. Without --quick it takes about 10 minutes on two processors.
"""

import argparse
import json
import math
import os
import resource
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product

import torch
import torch.nn.functional as F  # noqa: N812
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vtrain.backbones.conv import Conv3d, Size

ISAS = ("SSE41", "AVX2", "AVX512_CORE", "DEFAULT")
CHECKED = {
    "LD_PRELOAD": "libc_malloc_debug.so.0",
    "GLIBC_TUNABLES": "glibc.malloc.check=3",
    "MALLOC_PERTURB_": "165",  # freed memory is filled, so reading it changes the result
    "OMP_WAIT_POLICY": "PASSIVE",
}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}
REPEATS, SECONDS, AT_ONCE, MOST_OFF = 3, 30, 200, 1e-4
MOST_PRODUCTS = 100_000_000  # of a forward pass: larger cases take seconds and use the same kernels

Shape = tuple[int, int, int, int, int]  # channels in and out, frames, height, width
SHAPES: tuple[Shape, ...] = (
    (6, 8, 8, 12, 10),
    (3, 16, 5, 9, 11),
    (3, 64, 16, 7, 5),
    (64, 64, 6, 8, 8),
    (64, 45, 4, 14, 14),
    (42, 128, 7, 7, 7),
    (8, 16, 12, 16, 16),
    (16, 24, 1, 4, 4),
    (32, 32, 2, 1, 1),
)
FRAMES: tuple[Shape, ...] = tuple((16, 16, frames, 6, 5) for frames in range(1, 13))  # where the kernel steps over time
# (over time, over space): kernel, strides, whether its "same" padding is left out in a second turn
KERNELS = (
    ((1, 1), ((1, 1), (2, 1), (1, 2), (2, 2), (3, 1)), False),
    ((3, 1), ((1, 1), (2, 1), (1, 2), (2, 2), (3, 1)), True),
    ((5, 1), ((1, 1), (2, 1)), False),
    ((7, 1), ((1, 1), (2, 1), (3, 1), (2, 2)), True),
    ((1, 3), ((1, 1), (1, 2), (2, 2)), True),
    ((1, 5), ((1, 1), (1, 2)), False),
    ((1, 7), ((1, 1), (1, 2), (2, 2)), False),
    ((3, 3), ((1, 1), (2, 1), (1, 2), (2, 2), (3, 3)), True),
    ((3, 7), ((1, 2), (2, 2)), False),
    ((5, 5), ((1, 1), (2, 2)), False),
    ((7, 7), ((1, 2), (2, 2)), False),
)
TRANSPOSED: tuple[Size, ...] = ((2, 2, 2), (1, 2, 2), (4, 2, 2))
QUICK = (((1, 1), ((2, 1), (1, 2), (2, 2)), False), ((3, 1), ((2, 1),), False), ((7, 1), ((2, 1),), False))


@dataclass(frozen=True, slots=True)
class Case:
    """One convolution, computed in one way."""

    way: str
    kernel: Size
    stride: Size
    pad: Size
    layout: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a case: `ok`, `wrong` or the name of the signal that ended its process."""

    case: Case
    isa: str
    threads: int
    result: str


def cases(way: str, quick: bool) -> Iterator[Case]:
    if way == "transposed":
        for size, layout, shape in product(TRANSPOSED, LAYOUTS, SHAPES):
            yield Case(way, size, size, (0, 0, 0), layout, shape)
        return
    for kernel, stride, pad in kinds(quick):
        shapes = SHAPES + (FRAMES if stride[0] > 1 and not quick else ())
        for layout, shape in product(LAYOUTS, shapes):
            case = Case(way, kernel, stride, pad, layout, shape)
            if fits(case):
                yield case


def kinds(quick: bool) -> Iterator[tuple[Size, Size, Size]]:
    for (depth, side), strides, bare in QUICK if quick else KERNELS:
        for (step, steps), padded in product(strides, (True, False) if bare else (True,)):
            pad = (depth // 2, side // 2, side // 2) if padded else (0, 0, 0)
            yield (depth, side, side), (step, steps, steps), pad


def fits(case: Case) -> bool:
    """Whether the kernel fits into the padded clip, and the way can compute it in a moment."""
    if math.prod((*case.shape, *case.kernel)) // math.prod(case.stride) > MOST_PRODUCTS:
        return False
    if any(k > n + 2 * p for k, n, p in zip(case.kernel, case.shape[2:], case.pad, strict=True)):
        return False
    if case.way == "time":
        return case.kernel[1:] == (1, 1) and case.stride[1:] == (1, 1)
    if case.way == "frames":
        return (case.kernel[0], case.stride[0]) == (1, 1) and case.layout == "channels_last"
    return True


def over_time(x: Tensor, weight: Tensor, bias: Tensor, case: Case) -> Tensor:
    y = F.conv2d(x.flatten(3), weight.squeeze(4), bias, (case.stride[0], 1), (case.pad[0], 0))
    return y.view(*y.shape[:3], *x.shape[3:])


def over_frames(x: Tensor, weight: Tensor, bias: Tensor, case: Case) -> Tensor:
    frames = x.transpose(1, 2)
    y = F.conv2d(frames.flatten(0, 1), weight.squeeze(2), bias, case.stride[1:], case.pad[1:])
    return y.view(*frames.shape[:2], *y.shape[1:]).transpose(1, 2)


def ours(x: Tensor, weight: Tensor, bias: Tensor, case: Case) -> Tensor:
    conv = Conv3d(*case.shape[:2], case.kernel, case.stride, case.pad, device="meta")
    conv.kernels = "3d" if case.way == "ours-3d" else "2d"
    y: Tensor = torch.func.functional_call(conv, {"weight": weight, "bias": bias}, (x,))
    return y


def by_torch(x: Tensor, weight: Tensor, bias: Tensor, case: Case) -> Tensor:
    return F.conv3d(x, weight, bias, case.stride, case.pad)


def transposed(x: Tensor, weight: Tensor, bias: Tensor, case: Case) -> Tensor:
    return F.conv_transpose3d(x, weight, bias, case.stride)


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor, Case], Tensor]] = {
    "torch": by_torch,
    "time": over_time,
    "frames": over_frames,
    "transposed": transposed,
    "ours": ours,
    "ours-3d": ours,
}


def run(case: Case) -> str:
    """Compute a case and return `ok` or `wrong`."""
    draw, layout = torch.Generator().manual_seed(1), LAYOUTS[case.layout]
    before, after, *clip = case.shape
    channels = (before, after) if case.way == "transposed" else (after, before)
    made = [torch.randn(2, before, *clip, generator=draw), torch.randn(*channels, *case.kernel, generator=draw)]
    made.append(torch.randn(after, generator=draw))
    plain = transposed if case.way == "transposed" else by_torch
    wanted = gradients(plain, [x.double() for x in made], case, torch.contiguous_format)
    for _ in range(REPEATS):
        found = gradients(WAYS[case.way], made, case, layout)
        if any(not close(x, y) for x, y in zip(found, wanted, strict=True)):
            return "wrong"
    return "ok"


def gradients(
    way: Callable[[Tensor, Tensor, Tensor, Case], Tensor], made: list[Tensor], case: Case, layout: torch.memory_format
) -> list[Tensor]:
    """Return the output and the gradients of clip, weight and bias."""
    leaves = [x.clone(memory_format=layout if x.dim() == 5 else torch.preserve_format) for x in made]
    x, weight, bias = (leaf.requires_grad_() for leaf in leaves)
    y = way(x, weight, bias, case)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, weights.contiguous(memory_format=layout))]


def close(found: Tensor, wanted: Tensor) -> bool:
    """Whether all numbers are finite and right; NaN compares as false."""
    return bool((found.double() - wanted).norm() <= MOST_OFF * wanted.norm())


def work(way: str, threads: int, quick: bool) -> None:
    """Print the result of each case on a line, in children that end with what kills them."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    todo = list(cases(way, quick))
    while todo:
        results = in_child(todo[:AT_ONCE], threads)
        print("\n".join(results), flush=True)
        todo = todo[len(results) :]


def in_child(todo: list[Case], threads: int) -> list[str]:
    """Compute cases in a forked child until one of them kills it, and return the results."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        torch.set_num_threads(threads)
        for case in todo:
            signal.alarm(SECONDS)  # a kernel that overwrites the threads' own data may wait for ever
            os.write(writes, f"{run(case)}\n".encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        results = pipe.read().split()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return [*results, *([signal.Signals(-code).name] if code < 0 else [])]


def group(isa: str, threads: int, way: str, quick: bool) -> list[Finding]:
    """Compute the cases of a way with some instructions, in a process under the checks of the heap."""
    words = [sys.executable, __file__, "--worker", "--threads", str(threads), "--ways", way]
    words += ["--quick"] if quick else []
    limit = {} if isa == "DEFAULT" else {"ONEDNN_MAX_CPU_ISA": isa}
    env = {name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"} | CHECKED | limit
    done = subprocess.run(words, env=env, text=True, stdout=subprocess.PIPE)
    todo, results = list(cases(way, quick)), done.stdout.split()
    if done.returncode or len(results) != len(todo):
        raise SystemExit(f"{way}, {isa}, {threads} threads: {len(results)} results of {len(todo)} cases")
    print(f"{way}, {isa}, {threads} threads: {dict(Counter(results))}", file=sys.stderr)
    return [Finding(case, isa, threads, result) for case, result in zip(todo, results, strict=True)]


def show(findings: list[Finding]) -> None:
    """Print a table: each kind of case that is not clean somewhere, by instructions."""
    kinds: dict[tuple[object, ...], list[Finding]] = defaultdict(list)
    for found in findings:
        case = found.case
        kinds[(case.way, case.kernel, case.stride, case.pad, case.layout)].append(found)
    isas = list(dict.fromkeys(found.isa for found in findings))
    table = Table("way", "kernel", "stride", "pad", "layout", *isas)
    for kind, those in kinds.items():
        if any(found.result != "ok" for found in those):
            cells = [cell([found for found in those if found.isa == isa]) for isa in isas]
            table.add_row(*(str(word).replace(" ", "") for word in kind), *cells)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for way in dict.fromkeys(found.case.way for found in findings):
        those = [found for found in findings if found.case.way == way]
        console.print(f"{way}: {sum(found.result == 'ok' for found in those)} of {len(those)} clean")


def cell(those: list[Finding]) -> str:
    bad = Counter(found.result for found in those if found.result != "ok")
    frames = sorted({found.case.shape[2] for found in those if found.result != "ok"})
    if not bad:
        return "clean"
    counts = ", ".join(f"{count} {result}" for result, count in bad.items())
    return f"{counts} of {len(those)}; frames {' '.join(map(str, frames))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--isa", nargs="+", choices=ISAS, default=list(ISAS), help="limits of the CPU's instructions")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="groups of cases that run at once")
    parser.add_argument("--quick", action="store_true", help="a few kernels only")
    parser.add_argument("--json", action="store_true", help="print every case as a line of JSON")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.ways[0], args.threads[0], args.quick)
        return
    with ThreadPoolExecutor(args.jobs) as pool:
        limits = product(args.isa, args.threads, args.ways)
        groups = [pool.submit(group, isa, threads, way, args.quick) for isa, threads, way in limits]
        findings = [found for each in groups for found in each.result()]
    if args.json:
        print("\n".join(json.dumps(asdict(found)) for found in findings))
    else:
        show(findings)
    sys.exit(any(found.result != "ok" and found.case.way.startswith("ours") for found in findings))


if __name__ == "__main__":
    main()
