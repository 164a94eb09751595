"""No network of ours lets a kernel of torch write outside its memory, whatever instructions the CPU has.

Each program runs in a process of its own: memory that is overwritten ends that process, and not the tests.
"""

import platform
import signal
from pathlib import Path

import pytest
from heap import on_checked_heap

SWEEP = Path(__file__).parent.parent.parent / "benchmarks" / "kernel_safety.py"
GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap's checks are part of glibc")

OVERRUN = """
import ctypes
import torch
x = torch.zeros(100, dtype=torch.uint8)
ctypes.memset(x.data_ptr(), 0, 101)
del x
"""

LEARN = """
import sys
import torch
from vtrain.backbones import BACKBONES, backbone
torch.set_num_threads(int(sys.argv[1]))
for name in BACKBONES.keys() - {"resnet3d34"}:  # the blocks of resnet3d18 once more
    narrow = {} if name.startswith("s3d") else {"width": 8}
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        net = backbone(name, **narrow).to(memory_format=layout)
        for frames in (8, 5) if "s3d" in name else (8,):
            x = torch.rand(2, 3, frames, 32, 32).contiguous(memory_format=layout).requires_grad_()
            net(x).square().mean().backward()
            assert all(each.grad.isfinite().all() for each in (x, *net.parameters())), (name, layout, frames)
            net.zero_grad()
print("clean")
"""


@GLIBC
def test_the_check_of_the_heap_ends_a_program_that_writes_one_byte_too_far() -> None:
    assert on_checked_heap(OVERRUN).returncode == -signal.SIGABRT


@pytest.mark.slow
@GLIBC
@pytest.mark.parametrize(("isa", "threads"), [("AVX2", "1"), ("", "2")])
def test_every_backbone_learns_on_a_clean_heap(isa: str, threads: str) -> None:
    done = on_checked_heap(LEARN, threads, isa=isa)
    assert (done.returncode, done.stdout) == (0, "clean\n"), done.stderr


@GLIBC
@pytest.mark.slow
def test_the_backbones_convolutions_are_correct_on_a_clean_heap_where_torchs_are_not() -> None:
    """The strided shortcuts of R(2+1)D and TSM and the stem of S3D, against float64."""
    done = on_checked_heap(SWEEP, "--quick", "--isa", "AVX2", "DEFAULT", "--threads", "1", "--ways", "ours", "ours-3d")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ours: 180 of 180 clean" in done.stdout
    assert "ours-3d: 180 of 180 clean" in done.stdout
