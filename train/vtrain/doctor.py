"""Check whether this machine can train: versions are looked up, convolutions are tried on small tensors."""

import math
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vprep.checks import Check, version_numbers
from vprep.errors import UsageError
from vtrain.backbones.batch_norm import TRIAL, make_exact, worst_error
from vtrain.machine import environment, installed, wait_for

NOT_TRAINING = ("torch", "ffmpeg-python", "imageio-ffmpeg")  # torch has a line of its own, the others make shards
EXTRAS = {
    "tensorboard": ("curves for TensorBoard need it", "tensorboard"),
    "onnxscript": ("vtrain export --out x.onnx needs it", "playspeed[onnx]"),
    "onnxruntime": ("vtrain export --out x.onnx needs it", "playspeed[onnx]"),
}
FEW_FILES = 1024  # a worker has up to 64 shards open; some systems allow 256 files in all
DEADLINE = 30.0

# By type of device: enough work to take some milliseconds.
SHAPES = {"cpu": (1, 64, 4, 28, 28), "cuda": (16, 64, 8, 56, 56)}
TURNS = 5
# Relative, in the norm; bf16 rounds to 8 bits, and 0.003 is what that gives here.
MOST_OFF = 0.01
MOST_OFF_BATCH_NORM = 1e-5  # float32 rounds to 6e-8

SMALL_MAPS = (8, 64, 2, 7, 7)
SMALL_MAPS_SECONDS, SMALL_MAPS_RUNS = 1.0, 400

# The convolutions of the backbones, forward and backward: shortcuts, blocks, S3D's stem. A wrong kernel may end the
# process that runs this; RLIMIT_CORE keeps it from writing its memory to disk.
CPU_CONVOLUTIONS = f"""
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import torch
from vtrain.backbones.conv import Conv3d
torch.set_num_threads(1)
draw = torch.Generator().manual_seed(0)
off = []
for size, stride in ((1, (2, 1, 1)), (1, (1, 2, 2)), (1, 2), (3, 2), ((3, 1, 1), (2, 1, 1)), ((7, 1, 1), (2, 1, 1))):
    conv = Conv3d(6, 8, size, stride)
    conv.padding = tuple(side // 2 for side in conv.kernel_size)
    for frames in (8, 6):
        clips = torch.randn(2, 6, frames, 12, 10, generator=draw).to(memory_format=torch.channels_last_3d)
        found = [clips.requires_grad_(), conv.weight]
        wanted = [tensor.detach().double().requires_grad_() for tensor in found]
        exact = torch.nn.functional.conv3d(*wanted, conv.bias.double(), conv.stride, conv.padding)
        gradients = torch.autograd.grad(conv(clips).square().sum(), found)
        for tensor, correct in zip(gradients, torch.autograd.grad(exact.square().sum(), wanted)):
            off.append(((tensor - correct).norm() / correct.norm()).item())
print("correct" if all(ratio < {MOST_OFF} for ratio in off) else "wrong")
"""


def run_checks() -> list[Check]:
    """Return the results of all checks of what training depends on."""
    here = environment()
    devices = [f"cuda:{number}" for number in range(len(here["gpus"]))] or ["cpu"]
    return [
        Check("python", True, f"{here['python']} on {here['platform']}"),
        torch_version(here["versions"]["torch"]),
        packages(metadata.requires("playspeed") or []),
        Check("processors", True, f"{here['processors']} usable, {here['threads']} threads, {here['instructions']}"),
        wait_policy(here["OMP_WAIT_POLICY"]),
        open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        cuda(here["gpus"], here["cuda"]),
        *([cudnn(here["cudnn"])] if here["gpus"] else []),
        *(check for device in devices for check in convolutions(torch.device(device))),
        *(batch_norm(device, *_batch_norm_errors(torch.device(device))) for device in devices),
        bf16_on_small_maps(*_runs_with_nan()),
        cpu_convolutions(*_cpu_convolutions(), trains=not here["gpus"]),
        distributed(_backends(), len(here["gpus"])),
        *(optional(name, installed(name)) for name in EXTRAS),
    ]


def refuse_bad_torch(version: str) -> None:
    """Refuse a version of torch that trains wrongly, or many times slower than it should."""
    numbers = version_numbers(version)
    if numbers[:2] == [2, 9]:  # pytorch/pytorch 166643
        raise UsageError(
            f"torch is {version}, which turns cuDNN off for half-precision conv3d, so that it takes 4 times as long "
            "and 3 to 17 times the memory; pip install 'torch>=2.10'"
        )
    if numbers < [2, 10]:
        raise UsageError(f"torch is {version}, and 2.10 or later is needed; pip install 'torch>=2.10'")


def torch_version(version: str) -> Check:
    try:
        refuse_bad_torch(version)
    except UsageError as error:
        found, _, advice = str(error).removeprefix("torch is ").rpartition("; ")
        return Check("torch", False, found, advice)
    return Check("torch", True, version)


def packages(required: Sequence[str]) -> Check:
    """Check the other packages that training needs; `required` are requirements such as 'numpy>=1.26'."""
    found, wanted = [], []
    for line in (line for line in required if "extra ==" not in line):
        name, _, least = line.partition(">=")
        if name in NOT_TRAINING:
            continue
        there = installed(name)
        found.append(f"{name} {there or 'not installed'}")
        if there is None or version_numbers(there) < version_numbers(least):
            wanted.append(f"'{line}'")
    return Check("packages", not wanted, ", ".join(found), f"pip install {' '.join(wanted)}" if wanted else "")


def wait_policy(policy: str | None) -> Check:
    if (policy or "").upper() == "PASSIVE":
        return Check("OMP_WAIT_POLICY", True, "PASSIVE")
    # Measured with all processors busy: augmentation took 50 times as long (benchmarks/LOG.md).
    advice = "waiting threads keep processors busy that the loader's workers need: export OMP_WAIT_POLICY=PASSIVE"
    return Check("OMP_WAIT_POLICY", None, policy or "not set", advice)


def open_files(limit: int) -> Check:
    if limit == resource.RLIM_INFINITY:
        return Check("open files", True, "unlimited")
    fits = True if limit >= FEW_FILES else None
    return Check("open files", fits, f"{limit} at once", "" if fits else "ulimit -n 4096 allows more")


def cuda(gpus: Sequence[dict[str, Any]], built: str | None) -> Check:
    """Check the GPUs; `built` is the version of CUDA that torch was built for, None when it was built without CUDA."""
    if gpus:
        words = [f"{gpu['name']} ({gpu['memory'] / 1e9:.0f} GB, capability {gpu['capability']})" for gpu in gpus]
        return Check("cuda", True, f"{built or 'unknown version'}: {', '.join(words)}")
    slow = "a CPU is enough for the recipes `tiny`; for larger ones"
    if built is None:
        return Check("cuda", None, "torch is built without it", f"{slow}, install torch for CUDA; pytorch.org says how")
    return Check("cuda", None, f"torch is built for {built} and sees no GPU", f"{slow}, nvidia-smi says what is wrong")


def cudnn(version: int | None) -> Check:
    if version is None or not torch.backends.cudnn.enabled:
        return Check("cudnn", False, "none that torch uses", "3D convolutions need it: install torch for CUDA again")
    return Check("cudnn", True, str(version))


def convolutions(device: torch.device) -> list[Check]:
    """Check a 3x3x3 convolution of 64 channels forward and backward, in float32 and in bf16."""
    try:
        _, usual = _timed(device, torch.contiguous_format, torch.float32)
        plain, last = _timed(device, torch.channels_last_3d, torch.float32)
        half, rounded = _timed(device, torch.channels_last_3d, torch.bfloat16)
    except RuntimeError as error:  # no memory left, no kernel for this GPU, a driver too old
        reason = str(error).partition("\n")[0]
        advice = "another program may fill the GPU, or this build of torch may not support it"
        return [Check(f"conv3d on {device}", False, reason, advice)]
    kept = last[0].is_contiguous(memory_format=torch.channels_last_3d)
    return [channels_last(device, _off(last, usual), kept), bf16(device, plain, half, _off(rounded, usual))]


def _timed(device: torch.device, layout: torch.memory_format, dtype: torch.dtype) -> tuple[float, list[Tensor]]:
    """Return the shortest time of the convolution in seconds, its output, and the gradients of clips and weight."""
    draw, shape = torch.Generator().manual_seed(0), SHAPES[device.type]
    drawn = [torch.randn(size, generator=draw) for size in (shape, (64, 64, 3, 3, 3), shape)]
    clips, weight, back = (tensor.to(device, memory_format=layout) for tensor in drawn)
    inputs = [clips.requires_grad_(), weight.mul_(0.02).requires_grad_()]
    seconds, found = math.inf, []
    for _ in range(TURNS):
        wait_for(device)
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
            out = F.conv3d(clips, weight, padding=1)
        gradients = torch.autograd.grad(out, inputs, back.to(out.dtype))
        wait_for(device)
        seconds, found = min(seconds, time.perf_counter() - began), [out.detach(), *gradients]
    return seconds, found


def _off(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Return the largest relative difference in the norm; infinite where a number is not finite."""
    pairs = zip(found, wanted, strict=True)
    ratios = [((x.float() - y).norm() / y.norm()).item() for x, y in pairs]
    return max(ratio if math.isfinite(ratio) else math.inf for ratio in ratios)


def channels_last(device: torch.device, off: float, kept: bool) -> Check:
    """Judge float32 in channels-last; `off` is its difference from the contiguous layout."""
    name = f"channels_last_3d on {device}"
    if off > MOST_OFF:
        return Check(
            name, False, f"float32 is {off:.2g} off", "convolutions are computed wrongly: use another version of torch"
        )
    return Check(name, True, "kept by conv3d" if kept else "correct; conv3d returns the contiguous layout")


def bf16(device: torch.device, plain: float, half: float, off: float) -> Check:
    """Judge bf16; `plain` and `half` are seconds in float32 and bf16, `off` is how far their results differ."""
    name, times = f"bf16 on {device}", f"conv3d in {half * 1e3:.1f} ms, {plain * 1e3:.1f} in float32"
    if device.type == "cpu":
        return Check(name, True if off <= MOST_OFF else None, f"{times}, {off:.2g} off; not used on a CPU")
    if off > MOST_OFF:
        advice = "gradients in bf16 would be wrong: use another version of torch or cuDNN"
        return Check(name, False, f"{times}, {off:.2g} off", advice)
    if half >= plain:
        # torch decides by cuDNN's version whether to use it for half-precision conv3d (pytorch/pytorch 166643).
        advice = "it should be faster: use cuDNN 9.15 or later; GPUs before capability 8.0 have no bf16"
        return Check(name, None, times, advice)
    return Check(name, True, times)


def _batch_norm_errors(device: torch.device) -> tuple[float, float]:
    """Return how far a training step of batch norm in channels-last is off from float64: as vtrain trains, by torch."""
    plain, trained = nn.BatchNorm3d(TRIAL[1]), nn.BatchNorm3d(TRIAL[1])
    make_exact(trained)
    return worst_error(trained, device), worst_error(plain, device)


def batch_norm(device: str, off: float, by_torch: float) -> Check:
    """Judge the statistics and gradients of batch norm in channels-last."""
    name, found = f"batch norm on {device}", f"{off:.1g} off in channels-last"
    if off > MOST_OFF_BATCH_NORM:
        return Check(name, False, found, "its statistics and gradients are inexact: use another version of torch")
    return Check(name, True, f"{found}, torch's own {by_torch:.1g}" if by_torch > MOST_OFF_BATCH_NORM else found)


def _runs_with_nan() -> tuple[int, int]:
    """Return how many bf16 weight gradients of small maps on the CPU are not finite, and how many were computed."""
    draw, ends = torch.Generator().manual_seed(0), time.monotonic() + SMALL_MAPS_SECONDS
    weight = torch.randn(64, 64, 3, 3, 3, generator=draw).mul_(0.02).bfloat16()
    weight = weight.to(memory_format=torch.channels_last_3d).requires_grad_()
    bad = runs = 0
    while not runs or (runs < SMALL_MAPS_RUNS and time.monotonic() < ends):
        clips = torch.randn(SMALL_MAPS, generator=draw).bfloat16().to(memory_format=torch.channels_last_3d)
        out = F.conv3d(clips, weight, padding=1)
        (gradient,) = torch.autograd.grad(out, weight, torch.ones_like(out))
        bad += not gradient.isfinite().all().item()
        runs += 1
    return bad, runs


def bf16_on_small_maps(bad: int, runs: int) -> Check:
    if not bad:
        return Check("bf16 gradients on a CPU", True, f"finite in {runs} runs")
    found = f"not finite in {bad} of {runs} runs of a conv3d on maps of 2x7x7; so training on a CPU uses float32"
    return Check("bf16 gradients on a CPU", None, found)


def _cpu_convolutions() -> tuple[int | None, str]:
    """Return the exit code of CPU_CONVOLUTIONS, None when it did not end, and the last line that it printed."""
    words = [sys.executable, "-P", "-c", CPU_CONVOLUTIONS]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, (done.stdout + done.stderr).strip().rpartition("\n")[2]


def cpu_convolutions(code: int | None, last_line: str, *, trains: bool) -> Check:
    """Judge the gradients of the backbones' convolutions on the CPU; `trains`: training would use the CPU."""
    name, failed = "convolutions on a CPU", False if trains else None
    advice = "use another version of torch, or train on a GPU"
    if (code, last_line) == (0, "correct"):
        return Check(name, True, "their gradients are correct")
    if code == 0:
        return Check(name, failed, "their gradients are wrong", advice)
    if code is None:
        return Check(name, failed, f"their gradients took more than {DEADLINE:g} s", advice)
    if code < 0:
        return Check(name, failed, f"their gradients end the process ({signal.Signals(-code).name})", advice)
    return Check(name, None, f"the test program failed: {last_line}")


def _backends() -> list[str]:
    if not torch.distributed.is_available():
        return []
    there = {"gloo": torch.distributed.is_gloo_available(), "nccl": torch.distributed.is_nccl_available()}
    return [name for name, available in there.items() if available]


def distributed(backends: Sequence[str], gpus: int) -> Check:
    found = ", ".join(backends) or "none"
    wanted = "nccl" if gpus else "gloo"
    if wanted in backends:
        return Check("distributed", True, found)
    return Check("distributed", None, found, f"torchrun needs {wanted} here: use another build of torch")


def optional(name: str, version: str | None) -> Check:
    why, package = EXTRAS[name]
    return (
        Check(name, True, version) if version else Check(name, None, "not installed", f"{why}: pip install '{package}'")
    )
