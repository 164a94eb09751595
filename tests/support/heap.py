"""Programs in a process of their own, in which glibc checks every block of memory that is freed."""

import os
import subprocess
import sys
from pathlib import Path

CHECKED = {
    "LD_PRELOAD": "libc_malloc_debug.so.0",
    "GLIBC_TUNABLES": "glibc.malloc.check=3",
    "MALLOC_PERTURB_": "165",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path])),
}


def on_checked_heap(program: str | Path, *words: str, isa: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python code or a file; `isa` limits the instructions that oneDNN uses, as in AVX2."""
    start = [str(program)] if isinstance(program, Path) else ["-c", program]
    limit = {"ONEDNN_MAX_CPU_ISA": isa} if isa else {}
    env = os.environ | CHECKED | limit
    return subprocess.run([sys.executable, *start, *words], capture_output=True, text=True, timeout=300, env=env)
